#include "switchyard/kernels/attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "attention_inputs.hpp"
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

constexpr Index kKeyTile = 96;         // keys of one step
constexpr Index kDecodeQueries = 8;    // fewer queries than this read each key once for all heads that share it
constexpr Index kDecodeTileRows = 16;  // that many (head, query) pairs on one key/value head decode as a tile
constexpr Index kDecodeAhead = 12;     // keys between the one in hand and the one asked for
constexpr Index kDecodeChunk = 256;    // keys of one decoding task
constexpr Index kDecodeTileChunk = 3 * kKeyTile;  // keys of one decoding task on a tile at least
constexpr Index kDecodeTileChunks = 32;           // such tasks at most: each leaves its own sums of the values

// What one decoding task leaves of its keys, for every (batch, head, query) and chunk: the largest score, the sum of
// 2^(score - largest), and the sum of the values with those weights. Scores are in units of log 2.
struct DecodePartials {
  Index first_key = 0, chunk_keys = 0, chunks = 0;
  std::vector<float> largest, sum, value;
};

}  // namespace
}  // namespace switchyard::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {

// One step of the online softmax down the lanes of one vector column: turns scores into weights relative to the new
// maximum, and returns the factor by which everything before shrinks.
HWY_INLINE FloatVector online_softmax(Index rows, float* scores, Index stride, float* largest, float* sum) {
  const FloatTag d;
  const FloatVector before = hn::LoadU(d, largest);
  FloatVector now = before;
  for (Index r = 0; r < rows; ++r) now = hn::Max(now, hn::LoadU(d, scores + r * stride));
  // A lane that has not seen any key yet stays at minus infinity, which must not be subtracted from itself.
  const FloatVector base = hn::IfThenZeroElse(hn::Eq(now, hn::Set(d, kMinusInfinity)), now);
  const FloatVector shrink = exp2_fast(d, hn::Sub(before, base));
  FloatVector total = hn::Mul(hn::LoadU(d, sum), shrink);
  for (Index r = 0; r < rows; ++r) {
    float* at = scores + r * stride;
    const FloatVector weight = exp2_fast(d, hn::Sub(hn::LoadU(d, at), base));
    hn::StoreU(weight, d, at);
    total = hn::Add(total, weight);
  }
  hn::StoreU(now, d, largest);
  hn::StoreU(total, d, sum);
  return shrink;
}

// Up to kQueryTile rows of queries that read one key/value head, as the lanes of panels, and what they have gathered.
struct RowTile {
  explicit RowTile(const AttentionShape& s)
      : width(2 * lanes(FloatTag())),
        memory(hwy::AllocateAligned<float>(
            static_cast<std::size_t>(kQueryTile * (s.head_dim + s.value_dim) + kKeyTile * width + 2 * kQueryTile))),
        query(memory.get()),
        value(query + kQueryTile * s.head_dim),
        scores(value + kQueryTile * s.value_dim),
        largest(scores + kKeyTile * width),
        sum(largest + kQueryTile) {}

  // The keys of each row; lanes past the last row see what that one sees.
  template <class QueryOfRow>
  void set_rows(const AttentionInputs& in, Index count, const QueryOfRow& query_of_row) {
    rows = count;
    panels = ceil_div(count, width);
    for (Index r = 0; r < panels * width; ++r) {
      const Index query_index = query_of_row(std::min(r, count - 1));
      begin[static_cast<std::size_t>(r)] = static_cast<std::int32_t>(in.first_key(query_index));
      end[static_cast<std::size_t>(r)] = static_cast<std::int32_t>(in.last_key(query_index));
    }
    for (Index p = 0; p < panels; ++p)
      seen[static_cast<std::size_t>(p)] = PanelKeys(begin.data() + p * width, end.data() + p * width, width);
  }

  Index width;
  Index rows = 0, panels = 0;
  hwy::AlignedFreeUniquePtr<float[]> memory;
  float* query;          // [panel][head_dim][lane], times query_factor()
  float* value;          // [panel][value_dim][lane]: sum of the values with weights 2^(score - largest)
  float* scores;         // [kKeyTile][lane]
  float *largest, *sum;  // [row]: of the scores, and of the weights
  std::array<std::int32_t, kQueryTile> begin, end;  // [row]: the keys that it sees
  std::array<PanelKeys, kQueryTile / 2> seen;       // [panel]
};

// Attends to keys [first, last) as far as the rows see them. largest, sum and value start anew.
void gather(const AttentionInputs& in, Index batch, Index kv_head, Index first, Index last, RowTile& t) {
  const FloatTag d;
  const AttentionShape& s = in.shape;
  const Index width = t.width;
  std::fill_n(t.largest, kQueryTile, kMinusInfinity);
  std::fill_n(t.sum, kQueryTile, 0.0F);
  std::array<bool, kQueryTile / 2> started{};
  for (Index key = first; key < last; key += kKeyTile) {
    const float* const k = in.k_row(batch, key, kv_head);
    const float* const v = in.v_row(batch, key, kv_head);
    for (Index p = 0; p < t.panels; ++p) {
      const PanelKeys& seen = t.seen[static_cast<std::size_t>(p)];
      const Index rows = std::min(kKeyTile, std::min(seen.last_end, last) - key);
      if (rows <= 0 || seen.first_begin >= key + rows) continue;
      product<Start::kZero, Layout::kRowsApart>(rows, k, in.k.stride, t.query + p * s.head_dim * width, width,
                                                s.head_dim, t.scores, width);
      if (s.softcap > 0.0F) cap_scores(in.cap(), rows, t.scores, width);
      hide_keys(seen, t.begin.data() + p * width, t.end.data() + p * width, key, rows, t.scores, width);
      float* const largest = t.largest + p * width;
      float* const sum = t.sum + p * width;
      const FloatVector shrink0 = online_softmax(rows, t.scores, width, largest, sum);
      const FloatVector shrink1 = online_softmax(rows, t.scores + lanes(d), width, largest + lanes(d), sum + lanes(d));
      float* const value = t.value + p * s.value_dim * width;
      bool& has_value = started[static_cast<std::size_t>(p)];
      if (!has_value)
        product<Start::kZero, Layout::kRowsTogether>(s.value_dim, v, in.v.stride, t.scores, width, rows, value, width);
      else
        product<Start::kScale, Layout::kRowsTogether>(s.value_dim, v, in.v.stride, t.scores, width, rows, value, width,
                                                      shrink0, shrink1);
      has_value = true;
    }
  }
  for (Index p = 0; p < t.panels; ++p)
    if (!started[static_cast<std::size_t>(p)])
      std::fill_n(t.value + p * s.value_dim * width, s.value_dim * width, 0.0F);
}

// Tasks [begin, end) of (query tile from the last to the first, batch, head): the long ones come first.
void forward_tiles(const AttentionInputs& in, Matrix out, float* log_sum_exp, Index begin, Index end) {
  const FloatTag d;
  const AttentionShape& s = in.shape;
  RowTile t(s);
  const Index width = t.width, tiles = ceil_div(s.queries, kQueryTile);
  for (Index task = begin; task < end; ++task) {
    const Index first = (tiles - 1 - task / (s.batch * s.heads)) * kQueryTile;
    const Index batch = task / s.heads % s.batch, head = task % s.heads;
    const Index queries = std::min(kQueryTile, s.queries - first);
    t.set_rows(in, queries, [first](Index r) { return first + r; });
    pack_panels(in.q_row(batch, first, head), in.q.stride, queries, s.head_dim, in.query_factor(), width, t.query);
    gather(in, batch, head / in.group(), in.first_key(first), in.last_key(first + queries - 1), t);
    for (Index p = 0; p < t.panels; ++p) {
      float* const value = t.value + p * s.value_dim * width;
      for (Index v = 0; v < width; v += lanes(d)) {
        const Index lane = p * width + v;
        FloatVector total = hn::LoadU(d, t.sum + lane), shrink = hn::Set(d, 1.0F);
        if (!in.sink_H.empty()) {
          const FloatVector sink = hn::Set(d, in.sink_H[static_cast<std::size_t>(head)] * std::numbers::log2e_v<float>);
          const FloatVector before = hn::LoadU(d, t.largest + lane), now = hn::Max(before, sink);
          shrink = exp2_fast(d, hn::Sub(before, now));
          total = hn::MulAdd(total, shrink, exp2_fast(d, hn::Sub(sink, now)));
          hn::StoreU(now, d, t.largest + lane);
          hn::StoreU(total, d, t.sum + lane);
        }
        const FloatVector inverse = hn::Div(shrink, total);
        for (float* row = value + v; row < value + s.value_dim * width; row += width)
          hn::StoreU(hn::Mul(inverse, hn::LoadU(d, row)), d, row);
      }
      transpose(value, width, s.value_dim, std::min(width, queries - p * width), 1.0F,
                out.row(batch * s.queries + first + p * width) + head * s.value_dim, out.stride);
    }
    if (log_sum_exp != nullptr) {
      float* const to = log_sum_exp + (batch * s.heads + head) * s.queries + first;
      for (Index i = 0; i < queries; ++i)
        to[i] = static_cast<float>(std::numbers::ln2 *
                                   (static_cast<double>(t.largest[i]) + std::log2(static_cast<double>(t.sum[i]))));
    }
  }
}

// Tasks [begin, end) of (batch, chunk of keys, kv head, tile of the rows that read it). Row r is query r % queries of
// the group's head r / queries.
void decode_tiles(const AttentionInputs& in, DecodePartials& partials, Index begin, Index end) {
  const AttentionShape& s = in.shape;
  RowTile t(s);
  const Index width = t.width, all_rows = in.group() * s.queries, tiles = ceil_div(all_rows, kQueryTile);
  for (Index task = begin; task < end; ++task) {
    const Index first_row = task % tiles * kQueryTile, kv_head = task / tiles % s.kv_heads;
    const Index chunk = task / (tiles * s.kv_heads) % partials.chunks;
    const Index batch = task / (tiles * s.kv_heads * partials.chunks), head = kv_head * in.group();
    const Index first = partials.first_key + chunk * partials.chunk_keys;
    t.set_rows(in, std::min(kQueryTile, all_rows - first_row), [&](Index r) { return (first_row + r) % s.queries; });
    std::fill_n(t.query, t.panels * width * s.head_dim, 0.0F);
    for (Index r = 0; r < t.rows; ++r) {
      const Index row = first_row + r;
      const float* const from = in.q_row(batch, row % s.queries, head + row / s.queries);
      float* const to = t.query + r / width * width * s.head_dim + r % width;
      for (Index c = 0; c < s.head_dim; ++c) to[c * width] = from[c] * in.query_factor();
    }
    gather(in, batch, kv_head, first, std::min(first + partials.chunk_keys, s.keys), t);
    const Index slot = ((batch * s.heads + head) * s.queries + first_row) * partials.chunks + chunk;
    for (Index r = 0; r < t.rows; ++r) {
      partials.largest[static_cast<std::size_t>(slot + r * partials.chunks)] = t.largest[r];
      partials.sum[static_cast<std::size_t>(slot + r * partials.chunks)] = t.sum[r];
    }
    for (Index p = 0; p < t.panels; ++p)
      transpose(t.value + p * s.value_dim * width, width, s.value_dim, std::min(width, t.rows - p * width), 1.0F,
                partials.value.data() + (slot + p * width * partials.chunks) * s.value_dim,
                partials.chunks * s.value_dim);
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

// Asks for four rows of a cache, which the hardware does not foresee: rows of one head lie a page or more apart.
HWY_INLINE void prefetch_four(const float* row, Index stride, Index cols) {
  constexpr Index kLineFloats = 16;
  for (Index i = 0; i < 4; ++i, row += stride)
    for (Index c = 0; c < cols; c += kLineFloats) hwy::Prefetch(row + c);
}

// Turns scores [from, to) of `count` into weights, the others into 0. Returns the sum of the weights.
HWY_INLINE float chunk_softmax(Index from, Index to, Index count, float* scores, float& largest) {
  float top = kMinusInfinity;
  for (Index i = from; i < to; ++i) top = std::max(top, scores[i]);
  for_each_vector(to - from, [&](auto d, Index i) HWY_ATTR {
    hn::StoreU(exp2_fast(d, hn::Sub(hn::LoadU(d, scores + from + i), hn::Set(d, top))), d, scores + from + i);
  });
  float sum = 0.0F;
  for (Index i = from; i < to; ++i) sum += scores[i];
  std::fill(scores, scores + from, 0.0F);
  std::fill(scores + to, scores + count, 0.0F);
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
    const Index first = partials.first_key + chunk * kDecodeChunk, count = std::min(kDecodeChunk, s.keys - first);
    for (Index r = 0; r < rows; ++r) {
      const float* const from = in.q_row(batch, r % s.queries, head + r / s.queries);
      for (Index c = 0; c < cols; ++c) query[r * cols + c] = from[c] * in.query_factor();
    }
    Index key = 0;
    for (; key + 4 <= count; key += 4) {
      const Index ahead = key + kDecodeAhead;
      if (ahead + 4 <= count) prefetch_four(in.k_row(batch, first + ahead, kv_head), in.k.stride, cols);
      for (Index r = 0; r < rows; ++r)
        four_dots(query + r * cols, in.k_row(batch, first + key, kv_head), in.k.stride, cols,
                  scores + r * kDecodeChunk + key);
    }
    for (; key < count; ++key)
      for (Index r = 0; r < rows; ++r)
        scores[r * kDecodeChunk + key] = one_dot(query + r * cols, in.k_row(batch, first + key, kv_head), cols);

    const auto slot = [&](Index r) {  // row r is query r % queries of head + r / queries
      return ((batch * s.heads + head) * s.queries + r) * partials.chunks + chunk;
    };
    for (Index r = 0; r < rows; ++r) {
      const auto at = static_cast<std::size_t>(slot(r));
      if (s.softcap > 0.0F) cap_scores(in.cap(), count, scores + r * kDecodeChunk);
      const Index to = std::clamp<Index>(in.last_key(r % s.queries) - first, 0, count);
      partials.sum[at] = chunk_softmax(std::clamp<Index>(in.first_key(r % s.queries) - first, 0, to), to, count,
                                       scores + r * kDecodeChunk, partials.largest[at]);
    }
    for (key = 0; key < count; key += 4) {
      const Index step = std::min<Index>(4, count - key), ahead = key + kDecodeAhead;
      if (ahead + 4 <= count) prefetch_four(in.v_row(batch, first + ahead, kv_head), in.v.stride, s.value_dim);
      const float* const v0 = in.v_row(batch, first + key, kv_head);
      // Past the end the last row is read again, with weight 0.
      const float* const v1 = v0 + std::min<Index>(1, step - 1) * in.v.stride;
      const float* const v2 = v0 + std::min<Index>(2, step - 1) * in.v.stride;
      const float* const v3 = v0 + std::min<Index>(3, step - 1) * in.v.stride;
      for (Index r = 0; r < rows; ++r) {
        const float* const w = scores + r * kDecodeChunk + key;
        const float w0 = w[0], w1 = step > 1 ? w[1] : 0.0F, w2 = step > 2 ? w[2] : 0.0F, w3 = step > 3 ? w[3] : 0.0F;
        float* const sum = partials.value.data() + slot(r) * s.value_dim;
        for_each_vector(s.value_dim, [&](auto d, Index c) HWY_ATTR {
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

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {

void check_attention_matrix(const char* name, ConstMatrix m, Index rows, Index cols) {
  require(m.rows == rows && m.cols == cols && m.stride >= cols,
          "attention: {} is [{}, {}] with stride {}, expected [{}, {}]", name, m.rows, m.cols, m.stride, rows, cols);
}

AttentionInputs checked_attention(const AttentionShape& shape, ConstMatrix q, ConstMatrix k, ConstMatrix v,
                                  std::span<const float> sink_H, ConstMatrix out, std::size_t log_sum_exp) {
  AttentionShape s = shape;
  if (s.value_dim == 0) s.value_dim = s.head_dim;
  require(s.batch >= 0 && s.queries >= 0 && s.keys >= s.queries && s.head_dim >= 1 && s.kv_heads >= 1 &&
              s.heads >= s.kv_heads && s.heads % s.kv_heads == 0,
          "attention: batch {}, queries {}, keys {}, heads {}, kv_heads {}, head_dim {} do not fit together", s.batch,
          s.queries, s.keys, s.heads, s.kv_heads, s.head_dim);
  require(s.keys <= std::numeric_limits<std::int32_t>::max() && s.value_dim >= 1 && s.window >= 0 &&
              s.softcap >= 0.0F && std::isfinite(s.softcap),
          "attention: {} keys, value_dim {}, window {}, softcap {}", s.keys, s.value_dim, s.window, s.softcap);
  check_attention_matrix("q", q, s.batch * s.queries, s.heads * s.head_dim);
  check_attention_matrix("k", k, s.batch * s.keys, s.kv_heads * s.head_dim);
  check_attention_matrix("v", v, s.batch * s.keys, s.kv_heads * s.value_dim);
  check_attention_matrix("out", out, s.batch * s.queries, s.heads * s.value_dim);
  require(sink_H.empty() || static_cast<Index>(sink_H.size()) == s.heads, "attention: {} sinks for {} heads",
          sink_H.size(), s.heads);
  require(static_cast<Index>(log_sum_exp) == s.batch * s.heads * s.queries,
          "attention: log_sum_exp has {} values, expected {}", log_sum_exp, s.batch * s.heads * s.queries);
  return {s, q, k, v, sink_H};
}

namespace {

HWY_EXPORT(forward_tiles);
HWY_EXPORT(decode_chunks);
HWY_EXPORT(decode_tiles);

// Adds up the chunks of row r of (batch, head, query), in order, and the sink.
void combine_chunks(const AttentionInputs& in, const DecodePartials& partials, Index r, Matrix out,
                    float* log_sum_exp) {
  const AttentionShape& s = in.shape;
  const Index batch = r / (s.heads * s.queries), head = r / s.queries % s.heads, query = r % s.queries;
  float* const to = out.row(batch * s.queries + query) + head * s.value_dim;
  const auto first = static_cast<std::size_t>(r * partials.chunks);
  const std::span largest(partials.largest.data() + first, static_cast<std::size_t>(partials.chunks));
  float top = *std::max_element(largest.begin(), largest.end()), sum = 0.0F;
  if (!in.sink_H.empty()) {
    const float sink = in.sink_H[static_cast<std::size_t>(head)] * std::numbers::log2e_v<float>;
    top = std::max(top, sink);
    sum = std::exp2(sink - top);
  }
  std::fill_n(to, s.value_dim, 0.0F);
  for (std::size_t i = 0; i < largest.size(); ++i) {
    const float weight = std::exp2(largest[i] - top);
    sum += weight * partials.sum[first + i];
    const float* const value = partials.value.data() + (first + i) * static_cast<std::size_t>(s.value_dim);
    for (Index c = 0; c < s.value_dim; ++c) to[c] += weight * value[c];
  }
  for (Index c = 0; c < s.value_dim; ++c) to[c] /= sum;
  if (log_sum_exp != nullptr)
    log_sum_exp[r] =
        static_cast<float>(std::numbers::ln2 * (static_cast<double>(top) + std::log2(static_cast<double>(sum))));
}

void decode(const AttentionInputs& in, Matrix out, float* log_sum_exp) {
  const AttentionShape& s = in.shape;
  const Index rows = s.batch * s.heads * s.queries, rows_a_head = in.group() * s.queries;
  const bool tiled = rows_a_head >= kDecodeTileRows;
  DecodePartials partials;
  partials.first_key = in.first_key(0);
  const Index keys = s.keys - partials.first_key;
  partials.chunk_keys =
      tiled ? std::max(kDecodeTileChunk, round_up(ceil_div(keys, kDecodeTileChunks), kKeyTile)) : kDecodeChunk;
  partials.chunks = ceil_div(keys, partials.chunk_keys);
  partials.largest.resize(static_cast<std::size_t>(rows * partials.chunks));
  partials.sum.resize(static_cast<std::size_t>(rows * partials.chunks));
  partials.value.resize(static_cast<std::size_t>(rows * partials.chunks * s.value_dim));
  const Index tiles = tiled ? ceil_div(rows_a_head, kQueryTile) : 1;
  parallel_for(s.batch * s.kv_heads * partials.chunks * tiles, 1, [&](Index begin, Index end) {
    if (tiled)
      HWY_DYNAMIC_DISPATCH(decode_tiles)(in, partials, begin, end);
    else
      HWY_DYNAMIC_DISPATCH(decode_chunks)(in, partials, begin, end);
  });
  parallel_for(rows, ceil_div(65536, partials.chunks * s.value_dim), [&](Index begin, Index end) {
    for (Index r = begin; r < end; ++r) combine_chunks(in, partials, r, out, log_sum_exp);
  });
}

}  // namespace

void attention_forward(const AttentionShape& s, ConstMatrix q, ConstMatrix k, ConstMatrix v,
                       std::span<const float> sink_H, Matrix out, std::span<float> log_sum_exp_BHS) {
  const AttentionInputs in = checked_attention(
      s, q, k, v, sink_H, out,
      log_sum_exp_BHS.empty() ? static_cast<std::size_t>(s.batch * s.heads * s.queries) : log_sum_exp_BHS.size());
  if (s.batch == 0 || s.queries == 0) return;
  float* const log_sum_exp = log_sum_exp_BHS.empty() ? nullptr : log_sum_exp_BHS.data();
  if (s.queries < kDecodeQueries) return decode(in, out, log_sum_exp);
  parallel_for(ceil_div(s.queries, kQueryTile) * s.batch * s.heads, 1, [&](Index begin, Index end) {
    HWY_DYNAMIC_DISPATCH(forward_tiles)(in, out, log_sum_exp, begin, end);
  });
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
