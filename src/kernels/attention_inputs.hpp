#pragma once
// What the forward and the backward pass of attention share.

#include <cstdint>
#include <numbers>
#include <span>

#include "switchyard/kernels/attention.hpp"

namespace switchyard::kernels {

inline constexpr Index kQueryTile = 64;  // a multiple of every panel width

struct AttentionInputs {
  AttentionShape shape;  // with value_dim set
  ConstMatrix q, k, v;
  std::span<const float> sink_H;

  Index group() const { return shape.heads / shape.kv_heads; }
  const float* q_row(Index batch, Index query, Index head) const {
    return q.row(batch * shape.queries + query) + head * shape.head_dim;
  }
  const float* k_row(Index batch, Index key, Index kv_head) const {
    return k.row(batch * shape.keys + key) + kv_head * shape.head_dim;
  }
  const float* v_row(Index batch, Index key, Index kv_head) const {
    return v.row(batch * shape.keys + key) + kv_head * shape.value_dim;
  }
  // The keys that a query sees are [first_key, last_key).
  Index last_key(Index query) const { return shape.keys - shape.queries + query + 1; }
  Index first_key(Index query) const {
    const Index last = last_key(query);
    return shape.window == 0 || last < shape.window ? 0 : last - shape.window;
  }
  // Queries times query_factor give scores in units of log 2 where there is no soft cap. Where there is one, they give
  // what the tanh is taken of, and cap times that is in units of log 2.
  float query_factor() const {
    return shape.softcap > 0.0F ? shape.scale / shape.softcap : shape.scale * std::numbers::log2e_v<float>;
  }
  float cap() const { return shape.softcap * std::numbers::log2e_v<float>; }
};

// kInternal where something does not fit.
void check_attention_matrix(const char* name, ConstMatrix m, Index rows, Index cols);
AttentionInputs checked_attention(const AttentionShape& shape, ConstMatrix q, ConstMatrix k, ConstMatrix v,
                                  std::span<const float> sink_H, ConstMatrix out, std::size_t log_sum_exp);

}  // namespace switchyard::kernels
