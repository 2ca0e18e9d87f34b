#include "oracle/transformer.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "oracle/attention.hpp"
#include "oracle/layers.hpp"

namespace switchyard::oracle {
namespace {

// The parameters of one layer; those that it does not have are empty.
class LayerParameters {
 public:
  LayerParameters(const Parameters& all, std::size_t layer)
      : all_(all), prefix_("layers." + std::to_string(layer) + ".") {}
  const std::vector<double>& operator[](const std::string& name) const {
    static const std::vector<double> kNone;
    const auto at = all_.find(prefix_ + name);
    return at == all_.end() ? kNone : at->second;
  }

 private:
  const Parameters& all_;
  std::string prefix_;
};

std::vector<double> attend(const model::ModelConfig& config, const model::AttentionConfig& a, const LayerParameters& p,
                           const std::vector<double>& x_TD, const TransformerInput& input) {
  std::vector<std::int32_t> position_T(input.id_T.size());
  for (std::size_t t = 0; t < position_T.size(); ++t)
    position_T[t] = static_cast<std::int32_t>(static_cast<Index>(t) % input.sequence);
  const auto turned = [&](const std::string& name, Index heads) {
    std::vector<double> y = linear(x_TD, p["attention." + name], p["attention." + name + "_bias"], config.width);
    if (a.qk_norm) y = rms_norm(y, p["attention." + name + "_norm"], static_cast<double>(config.norm_eps));
    return rotate(y, heads, a.head_dim, position_T, a.rope_theta, a.rope_pairing);
  };
  kernels::AttentionShape shape;
  shape.batch = input.batch;
  shape.queries = shape.keys = input.sequence;
  shape.heads = a.heads;
  shape.kv_heads = a.kv_heads;
  shape.head_dim = a.head_dim;
  shape.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(a.head_dim)));
  const std::vector<double> v = linear(x_TD, p["attention.v"], p["attention.v_bias"], config.width);
  const std::vector<double> mixed = attention(shape, turned("q", a.heads), turned("k", a.kv_heads), v).out;
  return linear(mixed, p["attention.o"], p["attention.o_bias"], a.heads * a.head_dim);
}

std::vector<double> dense(const model::DenseFfnConfig& config, const LayerParameters& p,
                          const std::vector<double>& x_TD, Index width) {
  std::vector<double> y_TD;
  for (std::size_t begin = 0; begin < x_TD.size(); begin += static_cast<std::size_t>(width)) {
    const std::vector<double> y = ffn(config.activation, x_TD.data() + begin, width, config.hidden,
                                      p["ffn.gate"].data(), p["ffn.up"].data(), p["ffn.down"].data());
    y_TD.insert(y_TD.end(), y.begin(), y.end());
  }
  return y_TD;
}

MoeProblem problem_of(const moe::MoeConfig& config, const LayerParameters& p, const std::vector<double>& x_TD,
                      const TransformerInput& input, Index width) {
  MoeProblem problem;
  problem.tokens = static_cast<Index>(input.id_T.size());
  problem.width = width;
  problem.experts = config.router.experts;
  problem.hidden = config.expert.hidden;
  problem.shared_hidden = config.shared.hidden;
  problem.top_k = config.router.top_k;
  problem.score = config.router.score;
  problem.normalise = config.router.normalise;
  problem.scale = static_cast<double>(config.router.scale);
  problem.activation = config.expert.activation;
  if (input.training && config.capacity.factor > 0.0F) {
    const Index valid =
        input.valid_T.empty() ? problem.tokens : std::accumulate(input.valid_T.begin(), input.valid_T.end(), Index{0});
    const double even = static_cast<double>(valid * problem.top_k) / static_cast<double>(problem.experts);
    problem.capacity = std::max(config.capacity.minimum,
                                static_cast<Index>(std::ceil(even * static_cast<double>(config.capacity.factor))));
  }
  problem.drop = config.capacity.drop;
  problem.load_balance = static_cast<double>(config.balance.load_balance);
  problem.z_loss = static_cast<double>(config.balance.z_loss);
  problem.x_TD = x_TD;
  problem.router_ED = p["moe.router"];
  problem.router_bias_E = p["moe.router_bias"];
  problem.selection_bias_E = p["moe.selection_bias"];
  problem.gate_EFD = p["moe.experts.gate"];
  problem.up_EFD = p["moe.experts.up"];
  problem.down_EDF = p["moe.experts.down"];
  problem.gate_bias_EF = p["moe.experts.gate_bias"];
  problem.up_bias_EF = p["moe.experts.up_bias"];
  problem.down_bias_ED = p["moe.experts.down_bias"];
  problem.shared_gate_FD = p["moe.shared.gate"];
  problem.shared_up_FD = p["moe.shared.up"];
  problem.shared_down_DF = p["moe.shared.down"];
  problem.shared_gate_D = p["moe.shared_gate"];
  problem.valid_T = input.valid_T;
  return problem;
}

void add_to(std::vector<double>& h, const std::vector<double>& branch) {
  for (std::size_t i = 0; i < h.size(); ++i) h[i] += branch[i];
}

}  // namespace

double TransformerResult::loss() const {
  return std::accumulate(router_losses.begin(), router_losses.end(), cross_entropy);
}

TransformerResult transformer(const model::ModelConfig& config, const Parameters& parameters,
                              const TransformerInput& input, const Routing* fixed) {
  const auto width = static_cast<std::size_t>(config.width);
  const auto eps = static_cast<double>(config.norm_eps);
  const std::vector<double>& table = parameters.at("embedding");
  std::vector<double> h;
  for (const std::int32_t id : input.id_T) {
    const auto row = table.begin() + static_cast<std::ptrdiff_t>(id) * static_cast<std::ptrdiff_t>(width);
    h.insert(h.end(), row, row + static_cast<std::ptrdiff_t>(width));
  }
  TransformerResult result;
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const model::LayerConfig& layer = config.layers[i];
    const LayerParameters p(parameters, i);
    add_to(h, attend(config, layer.attention, p, rms_norm(h, p["attention_norm"], eps), input));
    const std::vector<double> x = rms_norm(h, p["ffn_norm"], eps);
    if (layer.dense) {
      add_to(h, dense(*layer.dense, p, x, config.width));
      continue;
    }
    const std::size_t row = result.routing.size();
    MoeResult routed = moe_layer(problem_of(*layer.moe, p, x, input, config.width), fixed ? &(*fixed)[row] : nullptr);
    add_to(h, routed.y_TD);
    result.router_losses.push_back(input.training ? routed.total : 0.0);
    result.routing.push_back(std::move(routed.choices));
  }
  result.hidden_TD = rms_norm(h, parameters.at("final_norm"), eps);
  const std::vector<double>& output = parameters.at(config.tied_embeddings ? "embedding" : "output");
  result.logits_TV = linear(result.hidden_TD, output, {}, config.width);
  if (!input.target_T.empty()) result.cross_entropy = cross_entropy(result.logits_TV, input.target_T, config.vocab);
  return result;
}

}  // namespace switchyard::oracle
