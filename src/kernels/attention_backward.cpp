#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "attention_inputs.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention_backward.cpp"
#include <hwy/aligned_allocator.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "attention_tile-inl.hpp"

#ifndef SWITCHYARD_KERNELS_ATTENTION_BACKWARD_TYPES
#define SWITCHYARD_KERNELS_ATTENTION_BACKWARD_TYPES
namespace switchyard::kernels {
namespace {

constexpr Index kBackwardKeys = 48;    // keys of one step
constexpr Index kBackwardBlock = 384;  // keys of one task at least; a multiple of kBackwardKeys
constexpr Index kBackwardBlocks = 4;   // tasks along the keys at most: each needs its own copy of d_q

// Queries and keys stand at the same positions.
struct BackwardInputs {
  AttentionInputs in;
  ConstMatrix out, d_out;
  std::span<const float> log_sum_exp;
  Matrix d_k, d_v;
  Index block_keys = 0;  // keys a task

  Index block_begin(Index block) const { return block * block_keys; }
  Index block_end(Index block) const { return std::min(block_begin(block) + block_keys, in.shape.keys); }
  // The tiles of queries that see a key of the block begin within [first_tile, tile_end).
  Index first_tile(Index block) const { return block_begin(block) / kQueryTile * kQueryTile; }
  Index tile_end(Index block) const {
    const AttentionShape& s = in.shape;
    return s.window == 0 ? s.queries : std::min(s.queries, block_end(block) - 1 + s.window);
  }
};

}  // namespace
}  // namespace switchyard::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {

// log_sum_exp in units of log 2 and <d_out, out> of `queries` rows from `first`; 0 in the lanes after them.
void load_row_terms(const BackwardInputs& b, Index batch, Index head, Index first, Index queries, float* log2_sum,
                    float* delta) {
  const AttentionShape& s = b.in.shape;
  std::fill_n(log2_sum, kQueryTile, 0.0F);
  std::fill_n(delta, kQueryTile, 0.0F);
  const float* const log_sum = b.log_sum_exp.data() + (batch * s.heads + head) * s.queries + first;
  for (Index i = 0; i < queries; ++i) {
    const Index row = batch * s.queries + first + i;
    log2_sum[i] = log_sum[i] * std::numbers::log2e_v<float>;
    delta[i] = one_dot(b.d_out.row(row) + head * s.value_dim, b.out.row(row) + head * s.value_dim, s.value_dim);
  }
}

// `rows` rows of `cols` columns into [kQueryTile][padded], the rest zero.
void copy_padded(const float* from, Index stride, Index rows, Index cols, Index padded, float* to) {
  for (Index i = 0; i < rows; ++i, to += padded) {
    std::copy_n(from + i * stride, cols, to);
    std::fill(to + cols, to + padded, 0.0F);
  }
  std::fill_n(to, (kQueryTile - rows) * padded, 0.0F);
}

// weight = 2^(score - log2_sum), d_score = weight * (d_weight - delta), one panel wide. Where the scores are capped,
// inverse_cap is not 0 and the gradient goes on through the tanh to what was capped.
HWY_INLINE void softmax_gradient(Index rows, const float* log2_sum, const float* delta, float inverse_cap,
                                 float* scores, float* d_scores, Index stride) {
  const FloatTag d;
  for (Index v = 0; v < 2; ++v) {
    const FloatVector shift = hn::LoadU(d, log2_sum + v * lanes(d)), mean = hn::LoadU(d, delta + v * lanes(d));
    for (Index r = 0; r < rows; ++r) {
      float* const score = scores + r * stride + v * lanes(d);
      float* const d_score = d_scores + r * stride + v * lanes(d);
      const FloatVector z = hn::LoadU(d, score), weight = exp2_fast(d, hn::Sub(z, shift));
      FloatVector gradient = hn::Mul(weight, hn::Sub(hn::LoadU(d, d_score), mean));
      if (inverse_cap != 0.0F) {
        // 1 - tanh^2. The score of a hidden key is minus infinity, its weight 0.
        const FloatVector one = hn::Set(d, 1.0F);
        const FloatVector t = hn::Max(hn::Mul(z, hn::Set(d, inverse_cap)), hn::Neg(one));
        gradient = hn::Mul(gradient, hn::Mul(hn::Sub(one, t), hn::Add(one, t)));
      }
      hn::StoreU(weight, d, score);
      hn::StoreU(gradient, d, d_score);
    }
  }
}

// Tasks [begin, end) of (key block, batch, kv head). A task owns d_k and d_v of its keys, and adds up its keys' part
// of d_q in d_q_of_block[key block].
void backward_blocks(const BackwardInputs& b, std::span<const Matrix> d_q_of_block, Index begin, Index end) {
  const FloatTag d;
  const AttentionInputs& in = b.in;
  const AttentionShape& s = in.shape;
  const Index cols = s.head_dim, value_cols = s.value_dim, width = 2 * lanes(d), group = in.group();
  const Index padded = round_up(cols, width), value_padded = round_up(value_cols, width);
  const Index block_keys = std::min(b.block_keys, s.keys);
  const float inverse_cap = s.softcap > 0.0F ? 1.0F / in.cap() : 0.0F;
  const auto memory = hwy::AllocateAligned<float>(
      static_cast<std::size_t>(kQueryTile * (2 * cols + value_cols + padded + value_padded) +
                               2 * kBackwardKeys * kQueryTile + 2 * kQueryTile + block_keys * (padded + value_padded)));
  float* const query_panels = memory.get();
  float* const d_query_panels = query_panels + kQueryTile * cols;
  float* const d_out_panels = d_query_panels + kQueryTile * cols;
  float* const query_rows = d_out_panels + kQueryTile * value_cols;
  float* const d_out_rows = query_rows + kQueryTile * padded;
  float* const scores = d_out_rows + kQueryTile * value_padded;
  float* const d_scores = scores + kBackwardKeys * kQueryTile;
  float* const log2_sum = d_scores + kBackwardKeys * kQueryTile;
  float* const delta = log2_sum + kQueryTile;
  float* const d_key = delta + kQueryTile;
  float* const d_value = d_key + block_keys * padded;
  std::array<std::int32_t, kQueryTile> key_begin, key_end;  // of a tile's queries
  std::array<PanelKeys, kQueryTile / 2> panel_keys;
  for (Index task = begin; task < end; ++task) {
    const Index block = task / (s.batch * s.kv_heads), block_begin = b.block_begin(block);
    const Index batch = task / s.kv_heads % s.batch, kv_head = task % s.kv_heads;
    std::fill_n(d_key, block_keys * (padded + value_padded), 0.0F);
    for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (Index first = b.first_tile(block); first < b.tile_end(block); first += kQueryTile) {
        const Index queries = std::min(kQueryTile, s.queries - first), panels = ceil_div(queries, width);
        const float* const d_out_from = b.d_out.row(batch * s.queries + first) + head * value_cols;
        pack_panels(in.q_row(batch, first, head), in.q.stride, queries, cols, in.query_factor(), width, query_panels);
        pack_panels(d_out_from, b.d_out.stride, queries, value_cols, 1.0F, width, d_out_panels);
        copy_padded(in.q_row(batch, first, head), in.q.stride, queries, cols, padded, query_rows);
        copy_padded(d_out_from, b.d_out.stride, queries, value_cols, value_padded, d_out_rows);
        load_row_terms(b, batch, head, first, queries, log2_sum, delta);
        std::fill_n(d_query_panels, kQueryTile * cols, 0.0F);
        for (Index i = 0; i < kQueryTile; ++i) {
          key_begin[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(in.first_key(first + i));
          key_end[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(in.last_key(first + i));
        }
        for (Index p = 0; p < panels; ++p)
          panel_keys[static_cast<std::size_t>(p)] =
              PanelKeys(key_begin.data() + p * width, key_end.data() + p * width, width);
        const Index last_key = std::min(b.block_end(block), first + queries);
        for (Index key = std::max(block_begin, in.first_key(first)); key < last_key; key += kBackwardKeys) {
          const Index rows = std::min(kBackwardKeys, last_key - key);
          const float* const k = in.k_row(batch, key, kv_head);
          const float* const v = in.v_row(batch, key, kv_head);
          Index lane_end = 0;  // of the panels that see any of these keys
          for (Index p = 0; p < panels; ++p) {
            const PanelKeys& seen = panel_keys[static_cast<std::size_t>(p)];
            if (seen.first_begin >= key + rows) break;
            lane_end = (p + 1) * width;
            const Index seen_rows = std::min(rows, seen.last_end - key);
            if (seen_rows <= 0) continue;
            float* const score = scores + p * width;
            float* const d_score = d_scores + p * width;
            product<Start::kZero, Layout::kRowsApart>(seen_rows, k, in.k.stride, query_panels + p * cols * width, width,
                                                      cols, score, kQueryTile);
            product<Start::kZero, Layout::kRowsApart>(seen_rows, v, in.v.stride, d_out_panels + p * value_cols * width,
                                                      width, value_cols, d_score, kQueryTile);
            if (inverse_cap != 0.0F) cap_scores(in.cap(), seen_rows, score, kQueryTile);
            hide_keys(seen, key_begin.data() + p * width, key_end.data() + p * width, key, seen_rows, score,
                      kQueryTile);
            softmax_gradient(seen_rows, log2_sum + p * width, delta + p * width, inverse_cap, score, d_score,
                             kQueryTile);
            product<Start::kLoad, Layout::kRowsTogether>(cols, k, in.k.stride, d_score, kQueryTile, seen_rows,
                                                         d_query_panels + p * cols * width, width);
          }
          // Keys that the same panels see: those before the first panel's end from lane 0, and so on.
          for (Index row = 0; row < rows;) {
            const Index lane = std::max<Index>(key + row - first, 0) / width * width;
            const Index row_end = std::min(rows, first + lane + width - key);
            const Index to = key - block_begin + row;
            for (Index c = 0; c < value_padded; c += width)
              product<Start::kLoad, Layout::kRowsApart>(row_end - row, scores + row * kQueryTile + lane, kQueryTile,
                                                        d_out_rows + lane * value_padded + c, value_padded,
                                                        lane_end - lane, d_value + to * value_padded + c, value_padded);
            for (Index c = 0; c < padded; c += width)
              product<Start::kLoad, Layout::kRowsApart>(row_end - row, d_scores + row * kQueryTile + lane, kQueryTile,
                                                        query_rows + lane * padded + c, padded, lane_end - lane,
                                                        d_key + to * padded + c, padded);
            row = row_end;
          }
        }
        const Matrix d_q = d_q_of_block[static_cast<std::size_t>(block)];
        for (Index p = 0; p < panels; ++p)
          transpose(d_query_panels + p * cols * width, width, cols, std::min(width, queries - p * width), s.scale,
                    d_q.row(batch * s.queries + first + p * width) + head * cols, d_q.stride);
      }
    }
    for (Index key = block_begin; key < b.block_end(block); ++key) {
      float* const k_to = b.d_k.row(batch * s.keys + key) + kv_head * cols;
      const float* const k_from = d_key + (key - block_begin) * padded;
      for (Index c = 0; c < cols; ++c) k_to[c] = s.scale * k_from[c];
      std::copy_n(d_value + (key - block_begin) * value_padded, value_cols,
                  b.d_v.row(batch * s.keys + key) + kv_head * value_cols);
    }
  }
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {
namespace {

HWY_EXPORT(backward_blocks);

// The sink's probability has no value behind it: dL/dsink = - sum over queries of p_sink <d_out, out>.
void sink_gradient(const BackwardInputs& b, std::span<float> d_sink_H) {
  const AttentionShape& s = b.in.shape;
  parallel_for(s.heads, 1, [&](Index begin, Index end) {
    for (Index head = begin; head < end; ++head) {
      const auto sink = static_cast<double>(b.in.sink_H[static_cast<std::size_t>(head)]);
      double sum = 0.0;
      for (Index row = 0; row < s.batch * s.queries; ++row) {
        const Index at = (row / s.queries * s.heads + head) * s.queries + row % s.queries;
        const float* const out = b.out.row(row) + head * s.value_dim;
        const float* const d_out = b.d_out.row(row) + head * s.value_dim;
        double along = 0.0;
        for (Index c = 0; c < s.value_dim; ++c) along += static_cast<double>(out[c]) * static_cast<double>(d_out[c]);
        sum -= std::exp(sink - static_cast<double>(b.log_sum_exp[static_cast<std::size_t>(at)])) * along;
      }
      d_sink_H[static_cast<std::size_t>(head)] += static_cast<float>(sum);
    }
  });
}

}  // namespace

void attention_backward(const AttentionShape& s, ConstMatrix q, ConstMatrix k, ConstMatrix v,
                        std::span<const float> sink_H, ConstMatrix out, std::span<const float> log_sum_exp_BHS,
                        ConstMatrix d_out, Matrix d_q, Matrix d_k, Matrix d_v, std::span<float> d_sink_H) {
  BackwardInputs b{
      checked_attention(s, q, k, v, sink_H, out, log_sum_exp_BHS.size()), out, d_out, log_sum_exp_BHS, d_k, d_v};
  require(s.queries == s.keys, "attention backward: {} queries, expected as many as keys, {}", s.queries, s.keys);
  require(d_sink_H.empty() || d_sink_H.size() == sink_H.size(), "attention backward: {} gradients of {} sinks",
          d_sink_H.size(), sink_H.size());
  check_attention_matrix("d_out", d_out, out.rows, out.cols);
  check_attention_matrix("d_q", d_q, q.rows, q.cols);
  check_attention_matrix("d_k", d_k, k.rows, k.cols);
  check_attention_matrix("d_v", d_v, v.rows, v.cols);
  if (q.rows == 0) return;
  if (!d_sink_H.empty()) sink_gradient(b, d_sink_H);

  // The cut depends on the length alone, so the sums have one order whatever the threads.
  b.block_keys = std::max(kBackwardBlock, round_up(ceil_div(s.keys, kBackwardBlocks), kBackwardKeys));
  const Index blocks = ceil_div(s.keys, b.block_keys);
  const auto part_floats = static_cast<std::size_t>(q.rows * q.cols);
  const auto parts =
      hwy::AllocateAligned<float>(std::max<std::size_t>(1, static_cast<std::size_t>(blocks - 1) * part_floats));
  std::vector<Matrix> d_q_of_block{d_q};
  for (Index i = 1; i < blocks; ++i)
    d_q_of_block.emplace_back(parts.get() + static_cast<std::size_t>(i - 1) * part_floats, q.rows, q.cols);
  parallel_for(blocks * s.batch * s.kv_heads, 1, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(backward_blocks)(b, d_q_of_block, begin, end);
  });
  if (blocks == 1) return;
  parallel_for(q.rows, 16, [&](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      const Index tile = row % s.queries / kQueryTile * kQueryTile;
      float* const to = d_q.row(row);
      bool written = tile < b.tile_end(0);
      // Only the blocks with keys that the row's tile sees have written its part.
      for (Index i = 1; i < blocks; ++i) {
        if (tile < b.first_tile(i) || tile >= b.tile_end(i)) continue;
        const float* const from = d_q_of_block[static_cast<std::size_t>(i)].row(row);
        if (!written) {
          std::copy_n(from, q.cols, to);
        } else {
          for (Index c = 0; c < q.cols; ++c) to[c] += from[c];
        }
        written = true;
      }
    }
  });
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
