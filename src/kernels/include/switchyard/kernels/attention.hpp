#pragma once
// Causal grouped-query attention with an online softmax over tiles of keys: memory is linear in the sequence length,
// scores are never stored.  Dao et al. 2022, arXiv 2205.14135; Ainslie et al. 2023, arXiv 2305.13245.
// The bits do not depend on the number of threads.

#include <span>

#include "switchyard/tensor/view.hpp"

namespace switchyard::kernels {

// Rows of q are [batch, query] and rows of k, v are [batch, key]; columns are [head, head_dim]. Query i of a sequence
// stands at position keys - queries + i and sees the keys up to and including itself: with queries == keys this is
// training or prefill, with queries == 1 decoding from a cache. Query head h reads key/value head h / (heads/kv_heads).
struct AttentionShape {
  Index batch = 1, queries = 0, keys = 0, heads = 1, kv_heads = 1, head_dim = 0;
  float scale = 0.0F;    // of the scores; usually 1 / sqrt(head_dim)
  Index value_dim = 0;   // elements of a head of v and out; 0 = head_dim
  Index window = 0;      // a query sees the last `window` keys up to and including its own; 0 = all
  float softcap = 0.0F;  // a score becomes softcap * tanh(score / softcap), before masking; 0 = not
};

// sink_H has one logit a head, or is empty: it joins the softmax's denominator and has no value. It is neither scaled
// nor capped.  OpenAI 2025, arXiv 2508.10925.
// log_sum_exp_BHS ([batch, head, query], the sink included) is kept for backward; may be empty.
// v may be columns of k (multi-head latent attention on its latent: one key/value head for all heads).
// Cost is linear in the window where there is one. kInternal where shapes do not fit.
void attention_forward(const AttentionShape& shape, ConstMatrix q, ConstMatrix k, ConstMatrix v,
                       std::span<const float> sink_H, Matrix out, std::span<float> log_sum_exp_BHS);
// Recomputes the probabilities from log_sum_exp. d_q, d_k and d_v are overwritten, d_sink_H is added to; an empty one
// is skipped. Needs queries == keys.
void attention_backward(const AttentionShape& shape, ConstMatrix q, ConstMatrix k, ConstMatrix v,
                        std::span<const float> sink_H, ConstMatrix out, std::span<const float> log_sum_exp_BHS,
                        ConstMatrix d_out, Matrix d_q, Matrix d_k, Matrix d_v, std::span<float> d_sink_H);

}  // namespace switchyard::kernels
