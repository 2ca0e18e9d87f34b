#include "switchyard/kernels/relative_attention.hpp"

#include <algorithm>
#include <cmath>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/kernels/matmul.hpp"

namespace switchyard::kernels {
namespace {

constexpr Index kQueryBlock = 64;      // queries whose scores are held at a time
constexpr Index kSoftmaxGrain = 2048;  // scores a task

// Scores of keys [0, seen) become probabilities, those behind 0.
void softmax_of_seen(float* scores, Index seen, Index keys) {
  const Matrix row(scores, 1, seen);
  softmax_rows(row, row);
  std::fill(scores + seen, scores + keys, 0.0F);
}

}  // namespace

Index relative_bucket(const RelativeBuckets& b, bool both_ways, Index relative) {
  require(b.valid(), "{} buckets up to a distance of {}", b.buckets, b.max_distance);
  Index count = b.buckets, first = 0;
  if (both_ways) {
    count /= 2;
    if (relative > 0) first = count;
  }
  const Index distance = both_ways ? std::abs(relative) : std::max<Index>(-relative, 0);
  const Index exact = count / 2;
  if (distance < exact) return first + distance;
  // The reference divides tensors of float32 by numbers that were computed in double.
  const float ratio = std::log(static_cast<float>(distance) / static_cast<float>(exact));
  const auto range = static_cast<float>(std::log(static_cast<double>(b.max_distance) / static_cast<double>(exact)));
  const auto step = static_cast<Index>(ratio / range * static_cast<float>(count - exact));
  return first + std::min(exact + step, count - 1);
}

RelativeBias relative_bias(const RelativeBuckets& buckets, bool both_ways, ConstMatrix table_BH, Index before,
                           Index after) {
  require(table_BH.rows == buckets.buckets && before >= 0 && after >= 0,
          "a table of {} buckets, expected {}; positions -{} to {}", table_BH.rows, buckets.buckets, before, after);
  RelativeBias bias;
  bias.heads = table_BH.cols;
  bias.zero = before;
  bias.columns = before + after + 1;
  bias.values.resize(static_cast<std::size_t>(bias.heads * bias.columns));
  for (Index column = 0; column < bias.columns; ++column) {
    const float* row = table_BH.row(relative_bucket(buckets, both_ways, column - before));
    for (Index h = 0; h < bias.heads; ++h) bias.values[static_cast<std::size_t>(h * bias.columns + column)] = row[h];
  }
  return bias;
}

void relative_attention(const RelativeAttentionShape& s, ConstMatrix q, ConstMatrix k, ConstMatrix v,
                        const RelativeBias* bias, Matrix out) {
  const Index width = s.heads * s.head_dim;
  require(s.heads > 0 && s.head_dim > 0 && q.rows == s.queries && q.cols == width && k.rows == s.keys &&
              k.cols == width && v.rows == s.keys && v.cols == width && out.rows == s.queries && out.cols == width,
          "attention of {} queries and {} keys of {} heads of {}: q [{}, {}], k [{}, {}], v [{}, {}], out [{}, {}]",
          s.queries, s.keys, s.heads, s.head_dim, q.rows, q.cols, k.rows, k.cols, v.rows, v.cols, out.rows, out.cols);
  if (s.queries == 0) return;
  const Index last_query = s.first_query + s.queries - 1;
  require(s.keys > 0 && s.first_query >= 0 && (!s.causal || last_query < s.keys), "{} keys for queries at {} to {}",
          s.keys, s.first_query, last_query);
  // A causal query reads no bias of a key behind it.
  require(bias == nullptr || (bias->heads == s.heads && bias->zero >= last_query &&
                              bias->columns - bias->zero > (s.causal ? 0 : s.keys - 1 - s.first_query)),
          "a bias of {} heads from -{} to {} for {} heads, queries at {} to {} and {} keys",
          bias == nullptr ? 0 : bias->heads, bias == nullptr ? 0 : bias->zero,
          bias == nullptr ? 0 : bias->columns - bias->zero - 1, s.heads, s.first_query, last_query, s.keys);
  std::vector<float> scores(static_cast<std::size_t>(std::min(s.queries, kQueryBlock) * s.keys));
  for (Index first = 0; first < s.queries; first += kQueryBlock) {
    const Index rows = std::min(kQueryBlock, s.queries - first);
    // Keys behind the last query of a block are seen by none of it.
    const Index keys = s.causal ? s.first_query + first + rows : s.keys;
    const Matrix block(scores.data(), rows, keys);
    for (Index h = 0; h < s.heads; ++h) {
      const Index column = h * s.head_dim;
      matmul_nt(q.slice_rows(first, rows).slice_cols(column, s.head_dim),
                k.slice_rows(0, keys).slice_cols(column, s.head_dim), block);
      parallel_for(rows, std::max<Index>(1, kSoftmaxGrain / keys), [&](Index begin, Index end) {
        for (Index r = begin; r < end; ++r) {
          const Index position = s.first_query + first + r;
          const Index seen = s.causal ? position + 1 : keys;
          float* const row = block.row(r);
          if (bias != nullptr) {
            const float* add = bias->row(h) + bias->zero - position;
            for (Index j = 0; j < seen; ++j) row[j] += add[j];
          }
          softmax_of_seen(row, seen, keys);
        }
      });
      matmul_nn(block, v.slice_rows(0, keys).slice_cols(column, s.head_dim),
                out.slice_rows(first, rows).slice_cols(column, s.head_dim));
    }
  }
}

}  // namespace switchyard::kernels
