#include "layer.hpp"

namespace switchyard::model {

using autograd::Tape;
using autograd::Value;

RandomStream dropout_stream(const Pass& pass, Index layer, DropoutSite site) {
  return {pass.seed, RandomPurpose::kDropout, pass.step,
          static_cast<std::uint32_t>(layer) * 4U + static_cast<std::uint32_t>(site)};
}

Value normalise(Tape* tape, Value x, const NormParameters& norm, const ModelConfig& config) {
  if (config.norm == "layer") return autograd::layer_norm(tape, std::move(x), *norm.weight, norm.bias, config.norm_eps);
  return autograd::rms_norm(tape, std::move(x), *norm.weight, config.norm_eps);
}

std::vector<Value> Transformer::Layer::forward(Tape* tape, const Value& h_TD, const Value* previous_logits,
                                               const Pass& pass, bool recomputing) const {
  const auto inspect = [&](const char* part, const Value& value) {
    if (pass.inspect != nullptr && !recomputing)
      (*pass.inspect)(fmt::format("layers.{}.{}", index, part), value.tensor().f32());
  };
  // What becomes of a branch before it is added to the residual stream.
  const auto add_branch = [&](const Value& to, Value branch, const NormParameters& post_norm, DropoutSite site) {
    if (config.post_norms) branch = normalise(tape, std::move(branch), post_norm, *pass.config);
    branch = autograd::dropout(tape, std::move(branch), pass.dropout, dropout_stream(pass, index, site));
    return autograd::add(tape, to, autograd::scale(tape, std::move(branch), pass.config->residual_scale));
  };
  Value branch = attention.forward(tape, normalise(tape, h_TD, attention_norm, *pass.config), pass);
  inspect("attention", branch);
  const Value middle = add_branch(h_TD, std::move(branch), attention_post_norm, DropoutSite::kAttention);

  const Value x = normalise(tape, middle, ffn_norm, *pass.config);
  std::vector<Value> result;
  if (config.moe) {
    moe::MoeCall call;
    call.layer = index;
    call.training = pass.training;
    call.seed = pass.seed;
    call.step = pass.step;
    call.token_id_T = pass.id_T;
    call.valid_T = pass.valid_T;
    call.sequence = pass.sequence;
    if (const auto before = pass.load_before.find(index); before != pass.load_before.end())
      call.load_before_E = before->second;
    call.observer = recomputing ? nullptr : pass.observer;
    autograd::MoeParameters parameters = moe;
    parameters.store = store.get();
    autograd::MoeResult routed =
        autograd::moe_ffn(tape, x, *config.moe, parameters, call,
                          config.moe->router.residual ? previous_logits : nullptr, next_reads_logits);
    branch = std::move(routed.y_TD);
    result.push_back(std::move(routed.loss));
    if (next_reads_logits) result.push_back(std::move(routed.logits_TR));
  } else {
    branch = autograd::ffn(tape, x, config.dense->activation, dense);
  }
  inspect("ffn", branch);
  result.insert(result.begin(), add_branch(middle, std::move(branch), ffn_post_norm, DropoutSite::kFfn));
  return result;
}

}  // namespace switchyard::model
