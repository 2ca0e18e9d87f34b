#pragma once
// The differentiable ops. Each is a forward and a backward kernel; shapes are those of the kernels' headers. All
// values are float32. A gradient is added to Parameter::grad where the parameter wants one and tape is not null.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "switchyard/autograd/tape.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/kernels/attention.hpp"
#include "switchyard/kernels/rope.hpp"
#include "switchyard/moe/layer.hpp"

namespace switchyard::autograd {

// [T, D] rows of table_VD. Ids are checked (kBadInput).
Value embedding(Tape* tape, Parameter& table_VD, std::span<const std::int32_t> id_T);
// x_TD W_ND^T (+ bias_N): [T, N].
Value linear(Tape* tape, const Value& x_TD, Parameter& weight_ND, Parameter* bias_N = nullptr);
// Normalises groups of weight.numel() elements of each row: the whole row, or each head where weight is [head_dim].
Value rms_norm(Tape* tape, const Value& x, Parameter& weight, float eps);
// Rotates x in a copy, or in place where nothing else holds it and no tape is given.
Value rope(Tape* tape, const Value& x_THC, Index head_dim, std::span<const std::int32_t> position_T,
           std::span<const float> frequencies, kernels::RopePairing pairing);
// Training and prefill: queries == keys. Decoding calls the kernel on the cache directly.
Value attention(Tape* tape, const kernels::AttentionShape& shape, const Value& q, const Value& k, const Value& v);
Value add(Tape* tape, const Value& a, const Value& b);
// Identity where rate is 0.
Value dropout(Tape* tape, const Value& x, float rate, const RandomStream& stream);

// One dense feed-forward network: the grouped op with a single group. gate is null where not gated.
struct FfnParameters {
  Parameter* gate_FD = nullptr;
  Parameter* up_FD = nullptr;
  Parameter* down_DF = nullptr;
};
Value ffn(Tape* tape, const Value& x_TD, kernels::Activation activation, const FfnParameters& parameters);

// Parameters of one MoE layer; optional ones are null. Expert tensors are stacked, [E, F, D] and [E, D, F]. `store`
// serves the experts (it reads the same tensors in training).
struct MoeParameters {
  Parameter* router_ED = nullptr;
  Parameter* router_bias_E = nullptr;
  Parameter* selection_bias_E = nullptr;  // a buffer
  Parameter* gate_EFD = nullptr;
  Parameter* up_EFD = nullptr;
  Parameter* down_EDF = nullptr;
  FfnParameters shared;
  Parameter* shared_gate_D = nullptr;
  moe::ExpertStore* store = nullptr;
};
struct MoeResult {
  Value y_TD;
  Value loss;  // [1]: RoutingLosses::total, differentiable
};
MoeResult moe_ffn(Tape* tape, const Value& x_TD, const moe::MoeConfig& config, const MoeParameters& parameters,
                  const moe::MoeCall& call);

// Output projection and mean cross-entropy over the targets that are not kIgnoreTarget: [1], in nats. The sum is in
// double in token order. `count` receives the number of targets.
Value cross_entropy(Tape* tape, const Value& x_TD, Parameter& weight_VD, std::span<const std::int32_t> target_T,
                    Index* count = nullptr);
// Sum of scalars ([1] each).
Value sum_scalars(Tape* tape, std::span<const Value> terms);

}  // namespace switchyard::autograd
