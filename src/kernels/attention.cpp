#include "switchyard/kernels/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention.cpp"
#include <hwy/aligned_allocator.h>
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "attention_tile-inl.hpp"

#ifndef SWITCHYARD_KERNELS_ATTENTION_TYPES
#define SWITCHYARD_KERNELS_ATTENTION_TYPES
namespace switchyard::kernels {
namespace {

constexpr Index kQueryTile = 64;       // a multiple of every panel width
constexpr Index kKeyTile = 96;         // keys of one forward step
constexpr Index kBackwardKeys = 48;    // keys of one backward step
constexpr Index kDecodeQueries = 8;    // fewer queries than this take the path that reads each key once for all rows
constexpr Index kDecodeAhead = 12;     // keys between the one in hand and the one asked for
constexpr Index kDecodeChunk = 256;    // keys of one decoding task
constexpr Index kBackwardBlock = 384;  // keys of one backward task at least; a multiple of kBackwardKeys
constexpr Index kBackwardBlocks = 4;   // backward tasks along the keys at most: each needs its own copy of d_q

struct AttentionInputs {
  AttentionShape shape;
  ConstMatrix q, k, v;

  Index group() const { return shape.heads / shape.kv_heads; }
  const float* q_row(Index batch, Index query, Index head) const {
    return q.row(batch * shape.queries + query) + head * shape.head_dim;
  }
  const float* k_row(Index batch, Index key, Index head) const {
    return k.row(batch * shape.keys + key) + head / group() * shape.head_dim;
  }
  const float* v_row(Index batch, Index key, Index head) const {
    return v.row(batch * shape.keys + key) + head / group() * shape.head_dim;
  }
};

// What one decoding task leaves of its keys, for every (batch, head, query) and chunk: the largest score, the sum of
// 2^(score - largest), and the sum of the values with those weights. Scores are in units of log 2.
struct DecodePartials {
  Index chunks = 0;
  std::vector<float> largest, sum, value;
};

struct BackwardInputs {
  AttentionInputs in;
  ConstMatrix out, d_out;
  std::span<const float> log_sum_exp;
  Matrix d_k, d_v;
  Index block = 0;  // keys a task
};

}  // namespace
}  // namespace switchyard::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Replaces scores[row][lane] by `value` where the key stands after the lane's query: in row r those are the first
// r - visible lanes, with `visible` the number of keys up to the panel's first query.
HWY_INLINE void mask_future(Index visible, Index rows, float value, float* scores, Index stride) {
  const FloatTag d;
  const Index width = lanes(d);
  for (Index r = std::max<Index>(visible, 0); r < rows; ++r) {
    const Index hidden = r - visible + 1;
    float* row = scores + r * stride;
    const auto first0 = hn::FirstN(d, static_cast<std::size_t>(std::min(hidden, width)));
    const auto first1 = hn::FirstN(d, static_cast<std::size_t>(std::clamp<Index>(hidden - width, 0, width)));
    hn::StoreU(hn::IfThenElse(first0, hn::Set(d, value), hn::LoadU(d, row)), d, row);
    hn::StoreU(hn::IfThenElse(first1, hn::Set(d, value), hn::LoadU(d, row + width)), d, row + width);
  }
}

// One step of the online softmax down the lanes of one vector column: turns scores into weights relative to the new
// maximum, and returns the factor by which everything before shrinks.
HWY_INLINE FloatVector online_softmax(Index rows, float* scores, Index stride, float* largest, float* sum) {
  const FloatTag d;
  const FloatVector before = hn::LoadU(d, largest);
  FloatVector now = before;
  for (Index r = 0; r < rows; ++r) now = hn::Max(now, hn::LoadU(d, scores + r * stride));
  const FloatVector shrink = exp2_fast(d, hn::Sub(before, now));
  FloatVector total = hn::Mul(hn::LoadU(d, sum), shrink);
  for (Index r = 0; r < rows; ++r) {
    float* at = scores + r * stride;
    const FloatVector weight = exp2_fast(d, hn::Sub(hn::LoadU(d, at), now));
    hn::StoreU(weight, d, at);
    total = hn::Add(total, weight);
  }
  hn::StoreU(now, d, largest);
  hn::StoreU(total, d, sum);
  return shrink;
}

// Tasks [begin, end) of (query tile from the last to the first, batch, head): the long ones come first.
void forward_tiles(const AttentionInputs& in, Matrix out, float* log_sum_exp, Index begin, Index end) {
  const FloatTag d;
  const AttentionShape& s = in.shape;
  const Index cols = s.head_dim, width = 2 * lanes(d), tiles = ceil_div(s.queries, kQueryTile);
  const Index tile_floats = kQueryTile * cols;
  const auto memory =
      hwy::AllocateAligned<float>(static_cast<std::size_t>(2 * tile_floats + kKeyTile * width + 2 * kQueryTile));
  float* const query = memory.get();
  float* const value = query + tile_floats;
  float* const scores = value + tile_floats;
  float* const largest = scores + kKeyTile * width;
  float* const sum = largest + kQueryTile;
  for (Index task = begin; task < end; ++task) {
    const Index first = (tiles - 1 - task / (s.batch * s.heads)) * kQueryTile;
    const Index batch = task / s.heads % s.batch, head = task % s.heads;
    const Index queries = std::min(kQueryTile, s.queries - first), panels = ceil_div(queries, width);
    const Index position = s.keys - s.queries + first;  // of the tile's first query
    pack_panels(in.q_row(batch, first, head), in.q.stride, queries, cols, s.scale * std::numbers::log2e_v<float>, width,
                query);
    std::fill_n(largest, kQueryTile, kMinusInfinity);
    std::fill_n(sum, kQueryTile, 0.0F);
    for (Index key = 0; key < position + queries; key += kKeyTile) {
      for (Index p = 0; p < panels; ++p) {
        const Index seen = position + std::min((p + 1) * width, queries);
        const Index rows = std::min(kKeyTile, seen - key);
        if (rows <= 0) continue;
        float* const value_panel = value + p * cols * width;
        product<Start::kZero, Layout::kRowsApart>(rows, in.k_row(batch, key, head), in.k.stride,
                                                  query + p * cols * width, width, cols, scores, width);
        mask_future(position + p * width + 1 - key, rows, kMinusInfinity, scores, width);
        const FloatVector shrink0 = online_softmax(rows, scores, width, largest + p * width, sum + p * width);
        const FloatVector shrink1 =
            online_softmax(rows, scores + lanes(d), width, largest + p * width + lanes(d), sum + p * width + lanes(d));
        const float* const v = in.v_row(batch, key, head);
        if (key == 0)
          product<Start::kZero, Layout::kRowsTogether>(cols, v, in.v.stride, scores, width, rows, value_panel, width);
        else
          product<Start::kScale, Layout::kRowsTogether>(cols, v, in.v.stride, scores, width, rows, value_panel, width,
                                                        shrink0, shrink1);
      }
    }
    for (Index p = 0; p < panels; ++p) {
      float* const value_panel = value + p * cols * width;
      const FloatVector one = hn::Set(d, 1.0F);
      const FloatVector inverse0 = hn::Div(one, hn::LoadU(d, sum + p * width));
      const FloatVector inverse1 = hn::Div(one, hn::LoadU(d, sum + p * width + lanes(d)));
      for (float* row = value_panel; row < value_panel + cols * width; row += width) {
        hn::StoreU(hn::Mul(inverse0, hn::LoadU(d, row)), d, row);
        hn::StoreU(hn::Mul(inverse1, hn::LoadU(d, row + lanes(d))), d, row + lanes(d));
      }
      transpose(value_panel, width, cols, std::min(width, queries - p * width), 1.0F,
                out.row(batch * s.queries + first + p * width) + head * cols, out.stride);
    }
    if (log_sum_exp != nullptr) {
      float* const to = log_sum_exp + (batch * s.heads + head) * s.queries + first;
      for (Index i = 0; i < queries; ++i)
        to[i] = static_cast<float>(std::numbers::ln2 *
                                   (static_cast<double>(largest[i]) + std::log2(static_cast<double>(sum[i]))));
    }
  }
}

// scores[i] = q . k_i for four keys.
HWY_INLINE void four_dots(const float* q, const float* k, Index k_stride, Index cols, float* scores) {
  const FloatTag d;
  FloatVector s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  Index c = 0;
  for (; c + lanes(d) <= cols; c += lanes(d)) {
    const FloatVector x = hn::LoadU(d, q + c);
    s0 = hn::MulAdd(x, hn::LoadU(d, k + c), s0);
    s1 = hn::MulAdd(x, hn::LoadU(d, k + k_stride + c), s1);
    s2 = hn::MulAdd(x, hn::LoadU(d, k + 2 * k_stride + c), s2);
    s3 = hn::MulAdd(x, hn::LoadU(d, k + 3 * k_stride + c), s3);
  }
  scores[0] = sum_lanes(d, s0);
  scores[1] = sum_lanes(d, s1);
  scores[2] = sum_lanes(d, s2);
  scores[3] = sum_lanes(d, s3);
  for (; c < cols; ++c)
    for (Index i = 0; i < 4; ++i) scores[i] += q[c] * k[i * k_stride + c];
}

HWY_INLINE float one_dot(const float* q, const float* k, Index cols) {
  const FloatTag d;
  FloatVector s = hn::Zero(d);
  Index c = 0;
  for (; c + lanes(d) <= cols; c += lanes(d)) s = hn::MulAdd(hn::LoadU(d, q + c), hn::LoadU(d, k + c), s);
  float sum = sum_lanes(d, s);
  for (; c < cols; ++c) sum += q[c] * k[c];
  return sum;
}

// Asks for four rows of a cache, which the hardware does not foresee: rows of one head lie a page or more apart.
HWY_INLINE void prefetch_four(const float* row, Index stride, Index cols) {
  constexpr Index kLineFloats = 16;
  for (Index i = 0; i < 4; ++i, row += stride)
    for (Index c = 0; c < cols; c += kLineFloats) hwy::Prefetch(row + c);
}

// Turns the first `visible` of `count` scores into weights, the others into 0. Returns the sum of the weights.
HWY_INLINE float chunk_softmax(Index visible, Index count, float* scores, float& largest) {
  float top = kMinusInfinity;
  for (Index i = 0; i < visible; ++i) top = std::max(top, scores[i]);
  for_each_vector(visible, [&](auto d, Index i) HWY_ATTR {
    hn::StoreU(exp2_fast(d, hn::Sub(hn::LoadU(d, scores + i), hn::Set(d, top))), d, scores + i);
  });
  float sum = 0.0F;
  for (Index i = 0; i < visible; ++i) sum += scores[i];
  std::fill(scores + visible, scores + count, 0.0F);
  largest = top;
  return sum;
}

// Tasks [begin, end) of (batch, chunk of keys, kv head). All query heads and queries that read a kv head share one
// pass over its keys and values.
void decode_chunks(const AttentionInputs& in, DecodePartials& partials, Index begin, Index end) {
  const AttentionShape& s = in.shape;
  const Index cols = s.head_dim, group = in.group(), rows = group * s.queries;
  const auto memory = hwy::AllocateAligned<float>(static_cast<std::size_t>(rows * (cols + kDecodeChunk)));
  float* const query = memory.get();
  float* const scores = query + rows * cols;
  for (Index task = begin; task < end; ++task) {
    const Index kv_head = task % s.kv_heads, chunk = task / s.kv_heads % partials.chunks;
    const Index batch = task / s.kv_heads / partials.chunks, head = kv_head * group;
    const Index first = chunk * kDecodeChunk, count = std::min(kDecodeChunk, s.keys - first);
    for (Index r = 0; r < rows; ++r) {
      const float* const from = in.q_row(batch, r % s.queries, head + r / s.queries);
      for (Index c = 0; c < cols; ++c) query[r * cols + c] = from[c] * (s.scale * std::numbers::log2e_v<float>);
    }
    Index key = 0;
    for (; key + 4 <= count; key += 4) {
      const Index ahead = key + kDecodeAhead;
      if (ahead + 4 <= count) prefetch_four(in.k_row(batch, first + ahead, head), in.k.stride, cols);
      for (Index r = 0; r < rows; ++r)
        four_dots(query + r * cols, in.k_row(batch, first + key, head), in.k.stride, cols,
                  scores + r * kDecodeChunk + key);
    }
    for (; key < count; ++key)
      for (Index r = 0; r < rows; ++r)
        scores[r * kDecodeChunk + key] = one_dot(query + r * cols, in.k_row(batch, first + key, head), cols);

    const auto slot = [&](Index r) {  // row r is query r % queries of head + r / queries
      return ((batch * s.heads + head) * s.queries + r) * partials.chunks + chunk;
    };
    for (Index r = 0; r < rows; ++r) {
      const Index seen = s.keys - s.queries + r % s.queries + 1;
      const auto at = static_cast<std::size_t>(slot(r));
      partials.sum[at] = chunk_softmax(std::clamp<Index>(seen - first, 0, count), count, scores + r * kDecodeChunk,
                                       partials.largest[at]);
    }
    for (key = 0; key < count; key += 4) {
      const Index step = std::min<Index>(4, count - key), ahead = key + kDecodeAhead;
      if (ahead + 4 <= count) prefetch_four(in.v_row(batch, first + ahead, head), in.v.stride, cols);
      const float* const v0 = in.v_row(batch, first + key, head);
      // Past the end the last row is read again, with weight 0.
      const float* const v1 = v0 + std::min<Index>(1, step - 1) * in.v.stride;
      const float* const v2 = v0 + std::min<Index>(2, step - 1) * in.v.stride;
      const float* const v3 = v0 + std::min<Index>(3, step - 1) * in.v.stride;
      for (Index r = 0; r < rows; ++r) {
        const float* const w = scores + r * kDecodeChunk + key;
        const float w0 = w[0], w1 = step > 1 ? w[1] : 0.0F, w2 = step > 2 ? w[2] : 0.0F, w3 = step > 3 ? w[3] : 0.0F;
        float* const sum = partials.value.data() + slot(r) * cols;
        for_each_vector(cols, [&](auto d, Index c) HWY_ATTR {
          auto total = hn::LoadU(d, sum + c);
          total = hn::MulAdd(hn::Set(d, w0), hn::LoadU(d, v0 + c), total);
          total = hn::MulAdd(hn::Set(d, w1), hn::LoadU(d, v1 + c), total);
          total = hn::MulAdd(hn::Set(d, w2), hn::LoadU(d, v2 + c), total);
          total = hn::MulAdd(hn::Set(d, w3), hn::LoadU(d, v3 + c), total);
          hn::StoreU(total, d, sum + c);
        });
      }
    }
  }
}

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
    delta[i] = one_dot(b.d_out.row(row) + head * s.head_dim, b.out.row(row) + head * s.head_dim, s.head_dim);
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

// weight = 2^(score - log2_sum), d_score = weight * (d_weight - delta), one panel wide.
HWY_INLINE void softmax_gradient(Index rows, const float* log2_sum, const float* delta, float* scores, float* d_scores,
                                 Index stride) {
  const FloatTag d;
  for (Index v = 0; v < 2; ++v) {
    const FloatVector shift = hn::LoadU(d, log2_sum + v * lanes(d)), mean = hn::LoadU(d, delta + v * lanes(d));
    for (Index r = 0; r < rows; ++r) {
      float* const score = scores + r * stride + v * lanes(d);
      float* const d_score = d_scores + r * stride + v * lanes(d);
      const FloatVector weight = exp2_fast(d, hn::Sub(hn::LoadU(d, score), shift));
      hn::StoreU(weight, d, score);
      hn::StoreU(hn::Mul(weight, hn::Sub(hn::LoadU(d, d_score), mean)), d, d_score);
    }
  }
}

// Tasks [begin, end) of (key block, batch, kv head). A task owns d_k and d_v of its keys, and adds up its keys' part
// of d_q in d_q_of_block[key block].
void backward_blocks(const BackwardInputs& b, std::span<const Matrix> d_q_of_block, Index begin, Index end) {
  const FloatTag d;
  const AttentionInputs& in = b.in;
  const AttentionShape& s = in.shape;
  const Index cols = s.head_dim, width = 2 * lanes(d), padded = round_up(cols, width), group = in.group();
  const Index block_keys = std::min(b.block, s.keys);
  const Index tile_floats = kQueryTile * cols, padded_floats = kQueryTile * padded;
  const auto memory = hwy::AllocateAligned<float>(static_cast<std::size_t>(
      3 * tile_floats + 2 * padded_floats + 2 * kBackwardKeys * kQueryTile + 2 * kQueryTile + 2 * block_keys * padded));
  float* const query_panels = memory.get();
  float* const d_out_panels = query_panels + tile_floats;
  float* const d_query_panels = d_out_panels + tile_floats;
  float* const query_rows = d_query_panels + tile_floats;
  float* const d_out_rows = query_rows + padded_floats;
  float* const scores = d_out_rows + padded_floats;
  float* const d_scores = scores + kBackwardKeys * kQueryTile;
  float* const log2_sum = d_scores + kBackwardKeys * kQueryTile;
  float* const delta = log2_sum + kQueryTile;
  float* const d_key = delta + kQueryTile;
  float* const d_value = d_key + block_keys * padded;
  for (Index task = begin; task < end; ++task) {
    const Index block = task / (s.batch * s.kv_heads), block_begin = block * b.block;
    const Index block_end = std::min(block_begin + b.block, s.keys);
    const Index batch = task / s.kv_heads % s.batch, kv_head = task % s.kv_heads;
    std::fill_n(d_key, 2 * block_keys * padded, 0.0F);
    for (Index head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (Index first = block_begin / kQueryTile * kQueryTile; first < s.queries; first += kQueryTile) {
        const Index queries = std::min(kQueryTile, s.queries - first), panels = ceil_div(queries, width);
        const float* const d_out_from = b.d_out.row(batch * s.queries + first) + head * cols;
        pack_panels(in.q_row(batch, first, head), in.q.stride, queries, cols, s.scale * std::numbers::log2e_v<float>,
                    width, query_panels);
        pack_panels(d_out_from, b.d_out.stride, queries, cols, 1.0F, width, d_out_panels);
        copy_padded(in.q_row(batch, first, head), in.q.stride, queries, cols, padded, query_rows);
        copy_padded(d_out_from, b.d_out.stride, queries, cols, padded, d_out_rows);
        load_row_terms(b, batch, head, first, queries, log2_sum, delta);
        std::fill_n(d_query_panels, tile_floats, 0.0F);
        const Index key_end = std::min(block_end, first + queries);
        for (Index key = block_begin; key < key_end; key += kBackwardKeys) {
          const Index rows = std::min(kBackwardKeys, key_end - key);
          const float* const k = in.k_row(batch, key, head);
          const float* const v = in.v_row(batch, key, head);
          for (Index p = 0; p < panels; ++p) {
            const Index seen = std::min(rows, first + (p + 1) * width - key);
            if (seen <= 0) continue;
            const Index panel = p * cols * width;
            float* const score = scores + p * width;
            float* const d_score = d_scores + p * width;
            product<Start::kZero, Layout::kRowsApart>(seen, k, in.k.stride, query_panels + panel, width, cols, score,
                                                      kQueryTile);
            product<Start::kZero, Layout::kRowsApart>(seen, v, in.v.stride, d_out_panels + panel, width, cols, d_score,
                                                      kQueryTile);
            mask_future(first + p * width + 1 - key, seen, kMinusInfinity, score, kQueryTile);
            softmax_gradient(seen, log2_sum + p * width, delta + p * width, score, d_score, kQueryTile);
            product<Start::kLoad, Layout::kRowsTogether>(cols, k, in.k.stride, d_score, kQueryTile, seen,
                                                         d_query_panels + panel, width);
          }
          // Keys that the same panels see: those before the first panel's end from lane 0, and so on.
          for (Index row = 0; row < rows;) {
            const Index lane = std::max<Index>(key + row - first, 0) / width * width;
            const Index row_end = std::min(rows, first + lane + width - key);
            const Index to = (key - block_begin + row) * padded;
            for (Index c = 0; c < padded; c += width) {
              product<Start::kLoad, Layout::kRowsApart>(row_end - row, scores + row * kQueryTile + lane, kQueryTile,
                                                        d_out_rows + lane * padded + c, padded, panels * width - lane,
                                                        d_value + to + c, padded);
              product<Start::kLoad, Layout::kRowsApart>(row_end - row, d_scores + row * kQueryTile + lane, kQueryTile,
                                                        query_rows + lane * padded + c, padded, panels * width - lane,
                                                        d_key + to + c, padded);
            }
            row = row_end;
          }
        }
        const Matrix d_q = d_q_of_block[static_cast<std::size_t>(block)];
        for (Index p = 0; p < panels; ++p)
          transpose(d_query_panels + p * cols * width, width, cols, std::min(width, queries - p * width), s.scale,
                    d_q.row(batch * s.queries + first + p * width) + head * cols, d_q.stride);
      }
    }
    for (Index key = block_begin; key < block_end; ++key) {
      float* const k_to = b.d_k.row(batch * s.keys + key) + kv_head * cols;
      const float* const k_from = d_key + (key - block_begin) * padded;
      for (Index c = 0; c < cols; ++c) k_to[c] = s.scale * k_from[c];
      std::copy_n(d_value + (key - block_begin) * padded, cols, b.d_v.row(batch * s.keys + key) + kv_head * cols);
    }
  }
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {
namespace {

HWY_EXPORT(forward_tiles);
HWY_EXPORT(decode_chunks);
HWY_EXPORT(backward_blocks);

void check_matrix(const char* name, ConstMatrix m, Index rows, Index cols) {
  require(m.rows == rows && m.cols == cols && m.stride >= cols,
          "attention: {} is [{}, {}] with stride {}, expected [{}, {}]", name, m.rows, m.cols, m.stride, rows, cols);
}

AttentionInputs checked(const AttentionShape& s, ConstMatrix q, ConstMatrix k, ConstMatrix v) {
  require(s.batch >= 0 && s.queries >= 0 && s.keys >= s.queries && s.head_dim >= 1 && s.kv_heads >= 1 &&
              s.heads >= s.kv_heads && s.heads % s.kv_heads == 0,
          "attention: batch {}, queries {}, keys {}, heads {}, kv_heads {}, head_dim {} do not fit together", s.batch,
          s.queries, s.keys, s.heads, s.kv_heads, s.head_dim);
  check_matrix("q", q, s.batch * s.queries, s.heads * s.head_dim);
  check_matrix("k", k, s.batch * s.keys, s.kv_heads * s.head_dim);
  check_matrix("v", v, s.batch * s.keys, s.kv_heads * s.head_dim);
  return {s, q, k, v};
}

void check_log_sum_exp(const AttentionShape& s, std::size_t found) {
  require(static_cast<Index>(found) == s.batch * s.heads * s.queries,
          "attention: log_sum_exp has {} values, expected {}", found, s.batch * s.heads * s.queries);
}

// Adds up the chunks of every (batch, head, query), in order.
void decode(const AttentionInputs& in, Matrix out, float* log_sum_exp) {
  const AttentionShape& s = in.shape;
  DecodePartials partials;
  partials.chunks = ceil_div(s.keys, kDecodeChunk);
  const Index rows = s.batch * s.heads * s.queries, cols = s.head_dim;
  partials.largest.resize(static_cast<std::size_t>(rows * partials.chunks));
  partials.sum.resize(static_cast<std::size_t>(rows * partials.chunks));
  partials.value.resize(static_cast<std::size_t>(rows * partials.chunks * cols));
  parallel_for(s.batch * s.kv_heads * partials.chunks, 1, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(decode_chunks)(in, partials, begin, end);
  });
  for (Index r = 0; r < rows; ++r) {
    const Index batch = r / (s.heads * s.queries), head = r / s.queries % s.heads, query = r % s.queries;
    float* const to = out.row(batch * s.queries + query) + head * cols;
    const auto first = static_cast<std::size_t>(r * partials.chunks);
    const std::span largest(partials.largest.data() + first, static_cast<std::size_t>(partials.chunks));
    const float top = *std::max_element(largest.begin(), largest.end());
    float sum = 0.0F;
    std::fill_n(to, cols, 0.0F);
    for (std::size_t i = 0; i < largest.size(); ++i) {
      const float weight = std::exp2(largest[i] - top);
      sum += weight * partials.sum[first + i];
      const float* const value = partials.value.data() + (first + i) * static_cast<std::size_t>(cols);
      for (Index c = 0; c < cols; ++c) to[c] += weight * value[c];
    }
    for (Index c = 0; c < cols; ++c) to[c] /= sum;
    if (log_sum_exp != nullptr)
      log_sum_exp[r] =
          static_cast<float>(std::numbers::ln2 * (static_cast<double>(top) + std::log2(static_cast<double>(sum))));
  }
}

}  // namespace

void attention_forward(const AttentionShape& s, ConstMatrix q, ConstMatrix k, ConstMatrix v, Matrix out,
                       std::span<float> log_sum_exp_BHS) {
  const AttentionInputs in = checked(s, q, k, v);
  check_matrix("out", out, s.batch * s.queries, s.heads * s.head_dim);
  if (!log_sum_exp_BHS.empty()) check_log_sum_exp(s, log_sum_exp_BHS.size());
  if (s.batch == 0 || s.queries == 0) return;
  float* const log_sum_exp = log_sum_exp_BHS.empty() ? nullptr : log_sum_exp_BHS.data();
  if (s.queries < kDecodeQueries) return decode(in, out, log_sum_exp);
  parallel_for(ceil_div(s.queries, kQueryTile) * s.batch * s.heads, 1, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(forward_tiles)(in, out, log_sum_exp, begin, end);
  });
}

void attention_backward(const AttentionShape& s, ConstMatrix q, ConstMatrix k, ConstMatrix v, ConstMatrix out,
                        std::span<const float> log_sum_exp_BHS, ConstMatrix d_out, Matrix d_q, Matrix d_k, Matrix d_v) {
  BackwardInputs b{checked(s, q, k, v), out, d_out, log_sum_exp_BHS, d_k, d_v};
  require(s.queries == s.keys, "attention backward: {} queries, expected as many as keys, {}", s.queries, s.keys);
  const Index query_cols = s.heads * s.head_dim, key_cols = s.kv_heads * s.head_dim, rows = s.batch * s.queries;
  check_matrix("out", out, rows, query_cols);
  check_matrix("d_out", d_out, rows, query_cols);
  check_matrix("d_q", d_q, rows, query_cols);
  check_matrix("d_k", d_k, rows, key_cols);
  check_matrix("d_v", d_v, rows, key_cols);
  check_log_sum_exp(s, log_sum_exp_BHS.size());
  if (rows == 0) return;

  // The cut depends on the length alone, so the sums have one order whatever the threads.
  b.block = std::max(kBackwardBlock, round_up(ceil_div(s.keys, kBackwardBlocks), kBackwardKeys));
  const Index blocks = ceil_div(s.keys, b.block);
  const auto part_floats = static_cast<std::size_t>(rows * query_cols);
  const auto parts =
      hwy::AllocateAligned<float>(std::max<std::size_t>(1, static_cast<std::size_t>(blocks - 1) * part_floats));
  std::vector<Matrix> d_q_of_block{d_q};
  for (Index i = 1; i < blocks; ++i)
    d_q_of_block.emplace_back(parts.get() + static_cast<std::size_t>(i - 1) * part_floats, rows, query_cols);
  parallel_for(blocks * s.batch * s.kv_heads, 1, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(backward_blocks)(b, d_q_of_block, begin, end);
  });
  if (blocks == 1) return;
  parallel_for(rows, 16, [&](Index begin, Index end) {
    for (Index row = begin; row < end; ++row) {
      float* const to = d_q.row(row);
      // Queries before a block's keys do not see it; tiles that straddle its first key are whole.
      for (Index i = 1; i < blocks && row % s.queries >= i * b.block / kQueryTile * kQueryTile; ++i) {
        const float* const from = d_q_of_block[static_cast<std::size_t>(i)].row(row);
        for (Index c = 0; c < query_cols; ++c) to[c] += from[c];
      }
    }
  });
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
