#pragma once
// A MoE layer with random weights, in float32 for the layer and in double for the oracle.

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "support.hpp"
#include "switchyard/moe/capacity.hpp"
#include "switchyard/moe/layer.hpp"
#include "switchyard/moe/score.hpp"

namespace switchyard::moe {

struct TestLayer {
  MoeConfig config;
  Index tokens, width;
  std::vector<std::uint8_t> valid_T;
  std::vector<float> x_TD, d_y_TD, router_ED, router_bias_E, selection_bias_E, shared_gate_D;
  Tensor gate_EFD, up_EFD, down_EDF, shared_gate_FD, shared_up_FD, shared_down_DF;
  Tensor gate_bias_EF, up_bias_EF, down_bias_ED;
  std::unique_ptr<ExpertStore> store;

  // Weights are scaled so that values keep a size of about one through the layer.
  TestLayer(const MoeConfig& wanted, Index token_count, Index model_width)
      : config(wanted), tokens(token_count), width(model_width) {
    config.validate("test");
    const Index experts = config.router.experts, hidden = config.expert.hidden, shared = config.shared.hidden;
    const bool gated = kernels::is_gated(config.expert.activation);
    const float in = 1.0F / std::sqrt(static_cast<float>(width)), out = 1.0F / std::sqrt(static_cast<float>(hidden));
    x_TD = oracle::random_values(tokens * width, 11);
    d_y_TD = oracle::random_values(tokens * width, 12);
    router_ED = oracle::random_values(logits_of(config.router) * width, 13, 2.0F * in);
    if (config.router.logits_bias) router_bias_E = oracle::random_values(experts, 14, 0.5F);
    if (config.router.selection_bias) selection_bias_E = oracle::random_values(experts, 15, 0.2F);
    if (gated) gate_EFD = random_tensor({experts, hidden, width}, 16, in);
    up_EFD = random_tensor({experts, hidden, width}, 17, in);
    down_EDF = random_tensor({experts, width, hidden}, 18, out);
    if (config.expert.bias) {
      if (gated) gate_bias_EF = random_tensor({experts, hidden}, 23, 0.7F);
      up_bias_EF = random_tensor({experts, hidden}, 24, 0.7F);
      down_bias_ED = random_tensor({experts, width}, 25, 0.7F);
    }
    store = std::make_unique<ResidentExpertStore>(gate_EFD, up_EFD, down_EDF, gate_bias_EF, up_bias_EF, down_bias_ED);
    if (shared == 0) return;
    if (gated) shared_gate_FD = random_tensor({shared, width}, 19, in);
    shared_up_FD = random_tensor({shared, width}, 20, in);
    shared_down_DF = random_tensor({width, shared}, 21, out);
    if (config.shared.gated) shared_gate_D = oracle::random_values(width, 22, in);
  }

  static Tensor random_tensor(const Shape& shape, std::uint32_t seed, float scale) {
    Tensor tensor = Tensor::uninitialized(DType::kF32, shape);
    const std::vector<float> values = oracle::random_values(shape.numel(), seed, scale);
    std::copy(values.begin(), values.end(), tensor.f32().begin());
    return tensor;
  }

  MoeWeights weights() const {
    MoeWeights w;
    w.router.router_ED = matrix_of(router_ED, width);
    w.router.bias_E = router_bias_E;
    w.selection_bias_E = selection_bias_E;
    w.experts = store.get();
    if (shared_gate_FD.defined()) w.shared.gate_FD = shared_gate_FD.matrix();
    if (shared_up_FD.defined()) {
      w.shared.up_FD = shared_up_FD.matrix();
      w.shared.down_DF = shared_down_DF.matrix();
    }
    w.shared_gate_D = shared_gate_D;
    return w;
  }

  MoeCall call(bool training = true) const {
    MoeCall c;
    c.training = training;
    c.valid_T = valid_T;
    return c;
  }

  struct Forward {
    std::vector<float> y_TD;
    RoutingLosses losses;
    MoeSaved saved;
  };
  Forward forward(const MoeCall& circumstances) const {
    Forward f;
    f.y_TD.assign(x_TD.size(), 1e9F);
    f.losses =
        moe_forward(config, weights(), circumstances, matrix_of(x_TD, width), matrix_of(f.y_TD, width), &f.saved);
    return f;
  }

  oracle::MoeProblem problem(bool training = true) const {
    const auto values = [](const Tensor& tensor) {
      return tensor.defined() ? oracle::to_double(tensor.f32()) : oracle::Values{};
    };
    oracle::MoeProblem p;
    p.tokens = tokens;
    p.width = width;
    p.experts = config.router.experts;
    p.hidden = config.expert.hidden;
    p.shared_hidden = config.shared.hidden;
    p.top_k = config.router.top_k;
    p.score = config.router.score;
    p.normalise = config.router.normalise;
    p.scale = static_cast<double>(config.router.scale);
    p.activation = config.expert.activation;
    p.drop = config.capacity.drop;
    p.valid_T = valid_T;
    if (training) {
      const auto padding = std::count(valid_T.begin(), valid_T.end(), std::uint8_t{0});
      p.capacity = expert_capacity(config, tokens - padding, true);
      p.load_balance = static_cast<double>(config.balance.load_balance);
      p.z_loss = static_cast<double>(config.balance.z_loss);
    }
    p.x_TD = oracle::to_double(x_TD);
    p.router_ED = oracle::to_double(router_ED);
    p.router_bias_E = oracle::to_double(router_bias_E);
    p.selection_bias_E = oracle::to_double(selection_bias_E);
    p.gate_EFD = values(gate_EFD);
    p.up_EFD = values(up_EFD);
    p.down_EDF = values(down_EDF);
    p.gate_bias_EF = values(gate_bias_EF);
    p.up_bias_EF = values(up_bias_EF);
    p.down_bias_ED = values(down_bias_ED);
    p.shared_gate_FD = values(shared_gate_FD);
    p.shared_up_FD = values(shared_up_FD);
    p.shared_down_DF = values(shared_down_DF);
    p.shared_gate_D = oracle::to_double(shared_gate_D);
    return p;
  }

  // The longest chain of sums that a result of the layer goes through, for tolerances.
  Index terms() const {
    return std::max({width, config.expert.hidden, config.shared.hidden, config.router.experts, tokens});
  }
};

// All gradients of a layer, started at `start`.
struct TestGradients {
  Index width;
  std::vector<float> x_TD, router_ED, router_bias_E, shared_gate_D;
  Tensor gate_EFD, up_EFD, down_EDF, shared_gate_FD, shared_up_FD, shared_down_DF;
  Tensor gate_bias_EF, up_bias_EF, down_bias_ED;
  std::vector<kernels::FfnGradients> experts;

  explicit TestGradients(const TestLayer& layer, float start = 0.0F)
      : width(layer.width),
        x_TD(layer.x_TD.size(), 1e9F),
        router_ED(layer.router_ED.size(), start),
        router_bias_E(layer.router_bias_E.size(), start),
        shared_gate_D(layer.shared_gate_D.size(), start),
        gate_EFD(like(layer.gate_EFD, start)),
        up_EFD(like(layer.up_EFD, start)),
        down_EDF(like(layer.down_EDF, start)),
        shared_gate_FD(like(layer.shared_gate_FD, start)),
        shared_up_FD(like(layer.shared_up_FD, start)),
        shared_down_DF(like(layer.shared_down_DF, start)),
        gate_bias_EF(like(layer.gate_bias_EF, start)),
        up_bias_EF(like(layer.up_bias_EF, start)),
        down_bias_ED(like(layer.down_bias_ED, start)),
        experts(expert_gradients(gate_EFD, up_EFD, down_EDF, gate_bias_EF, up_bias_EF, down_bias_ED)) {}

  MoeGradients views() {
    MoeGradients g;
    if (!router_ED.empty()) g.router.router_ED = matrix_of(router_ED, width);
    g.router.bias_E = router_bias_E;
    g.experts = experts;
    if (shared_gate_FD.defined()) g.shared.gate_FD = shared_gate_FD.matrix();
    if (shared_up_FD.defined()) {
      g.shared.up_FD = shared_up_FD.matrix();
      g.shared.down_DF = shared_down_DF.matrix();
    }
    g.shared_gate_D = shared_gate_D;
    return g;
  }

  void run(const TestLayer& layer, MoeSaved& saved, float d_losses = 1.0F) {
    moe_backward(layer.config, layer.weights(), saved, matrix_of(layer.x_TD, layer.width),
                 matrix_of(layer.d_y_TD, layer.width), d_losses, matrix_of(x_TD, layer.width), views());
  }

  // Every gradient in one row of numbers.
  std::vector<float> all() const {
    std::vector<float> values;
    const auto append = [&](std::span<const float> part) { values.insert(values.end(), part.begin(), part.end()); };
    for (const std::vector<float>* part : {&x_TD, &router_ED, &router_bias_E, &shared_gate_D}) append(*part);
    for (const Tensor* part : {&gate_EFD, &up_EFD, &down_EDF, &shared_gate_FD, &shared_up_FD, &shared_down_DF,
                               &gate_bias_EF, &up_bias_EF, &down_bias_ED})
      if (part->defined()) append(part->f32());
    return values;
  }

 private:
  static Tensor like(const Tensor& tensor, float start) {
    if (!tensor.defined()) return {};
    Tensor gradient = Tensor::uninitialized(DType::kF32, tensor.shape());
    std::fill(gradient.f32().begin(), gradient.f32().end(), start);
    return gradient;
  }
};

}  // namespace switchyard::moe
