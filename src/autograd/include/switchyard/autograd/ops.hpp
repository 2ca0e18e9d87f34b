#pragma once
// The differentiable ops. Each is a forward and a backward kernel; shapes are those of the kernels' headers, broken
// promises about them are kInternal. All values are float32. A gradient is added to Parameter::grad where the parameter
// wants one and tape is not null. A step on the tape refers to its parameters: they must stay where they are.
//
// An op that takes a Value by value writes its result over it where it is the tensor's sole owner (nobody kept a
// handle, no step on the tape needs the tensor): pass std::move(x) to allow it. The result's bits are the same.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
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
Value rms_norm(Tape* tape, Value x, Parameter& weight, float eps);
// LayerNorm in the same groups. bias may be null.
Value layer_norm(Tape* tape, Value x, Parameter& weight, Parameter* bias, float eps);
// Rotates elements [first, first + 2 * table.frequencies.size()) of each head. A rotation needs nothing of its input
// for its gradient, so that it may be in place with a tape as well; the step has a copy of the table.
Value rope(Tape* tape, Value x_THC, Index head_dim, Index first, std::span<const std::int32_t> position_T,
           const kernels::RopeTable& table, kernels::RopePairing pairing);
// Training and prefill: queries == keys. Decoding calls the kernel on the cache directly. sink_H may be null.
Value attention(Tape* tape, const kernels::AttentionShape& shape, const Value& q, const Value& k, const Value& v,
                Parameter* sink_H = nullptr);
// May write over b.
Value add(Tape* tape, const Value& a, Value b);
// factor * x. Identity where factor is 1.
Value scale(Tape* tape, Value x, float factor);
// x cut to [-limit, limit]. The gradient passes where |x| <= limit.
Value clamp(Tape* tape, Value x, float limit);
// Columns [0, first) and the others of x ([T, N], 0 < first < N), as copies.
std::pair<Value, Value> split_columns(Tape* tape, const Value& x, Index first);
// Keys [T, heads * (key_dim + R)] and values [T, heads * value_dim] of latent attention. Rows of kv_THX are
// [head, key_dim + value_dim]; every head of a token's key ends in the token's row of rope_TR.
std::pair<Value, Value> latent_keys_values(Tape* tape, const Value& kv_THX, const Value& rope_TR, Index heads,
                                           Index key_dim, Index value_dim);
// Identity where rate is 0.
Value dropout(Tape* tape, Value x, float rate, const RandomStream& stream);

// One dense feed-forward network: the grouped op with a single group. gate is null where not gated, a bias where there
// is none.
struct FfnParameters {
  Parameter* gate_FD = nullptr;
  Parameter* up_FD = nullptr;
  Parameter* down_DF = nullptr;
  Parameter* gate_bias_F = nullptr;
  Parameter* up_bias_F = nullptr;
  Parameter* down_bias_D = nullptr;
};
Value ffn(Tape* tape, const Value& x_TD, kernels::Activation activation, const FfnParameters& parameters);

// Parameters of one MoE layer; optional ones are null. Expert tensors are stacked, [E, F, D] and [E, D, F], and
// their biases. `store` serves the routed experts, biases included; null: they are read from the stacked tensors.
// Training needs the tensors.
struct MoeParameters {
  Parameter* router_ED = nullptr;
  Parameter* router_bias_E = nullptr;
  std::array<Parameter*, moe::kRouterParts> router_parts{};  // by moe::RouterPart
  Parameter* selection_bias_E = nullptr;                     // a buffer
  Parameter* gate_EFD = nullptr;
  Parameter* up_EFD = nullptr;
  Parameter* down_EDF = nullptr;
  Parameter* gate_bias_EF = nullptr;
  Parameter* up_bias_EF = nullptr;
  Parameter* down_bias_ED = nullptr;
  FfnParameters shared;
  Parameter* shared_gate_D = nullptr;
  moe::ExpertStore* store = nullptr;
};
// A store of the stacked parameters, float32 or stored, which must outlive it and keep their memory.
std::unique_ptr<moe::ExpertStore> make_expert_store(const MoeParameters& parameters);

struct MoeResult {
  Value y_TD;
  Value logits_TR;  // only where `next_reads_logits`
  Value loss;       // [1]: RoutingLosses::total, differentiable
};
// previous_logits_TR: of the MoE layer before, where config.router.residual; null = none. It takes the place of
// call.previous_logits_TR.
MoeResult moe_ffn(Tape* tape, const Value& x_TD, const moe::MoeConfig& config, const MoeParameters& parameters,
                  const moe::MoeCall& call, const Value* previous_logits_TR = nullptr, bool next_reads_logits = false);

// Output projection (bias_V may be null) and mean cross-entropy over the targets that are not kIgnoreTarget: [1], in
// nats. The sum is in double in token order. `count` receives the number of targets.
Value cross_entropy(Tape* tape, const Value& x_TD, Parameter& weight_VD, Parameter* bias_V,
                    std::span<const std::int32_t> target_T, Index* count = nullptr);
// Sum of scalars ([1] each).
Value sum_scalars(Tape* tape, std::span<const Value> terms);

}  // namespace switchyard::autograd
