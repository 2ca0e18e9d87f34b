#pragma once
// Attention of encoder-decoder models of the T5 kind: no rotation and no scaling of the scores, but a learned number a
// head that depends on how far the key is from the query.  Raffel et al. 2020, arXiv 1910.10683. For inference: there
// is no backward pass.

#include <span>
#include <vector>

#include "switchyard/base/index.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard::kernels {

// Distances fall into buckets: the near ones into one each, farther ones into buckets that grow with the logarithm of
// the distance, all from max_distance on into the last. Of the Mesh TensorFlow library, in float32 as transformers
// computes it. Both ways: half of the buckets are for keys behind the query.
struct RelativeBuckets {
  Index buckets = 32;
  Index max_distance = 128;
  // Whether the bucket of every distance is defined.
  bool valid() const { return buckets >= 4 && max_distance > buckets / 2; }
};
// Of a key `relative` positions after its query. One way: keys after the query count as at the query.
Index relative_bucket(const RelativeBuckets& buckets, bool both_ways, Index relative);

// What is added to the scores: row h, column `relative + zero` for a key `relative` positions after its query.
struct RelativeBias {
  std::vector<float> values;  // [heads, columns]
  Index heads = 0, zero = 0, columns = 0;
  const float* row(Index head) const { return values.data() + head * columns; }
};
// Of relative positions -before to after, from the learned table [buckets, heads].
RelativeBias relative_bias(const RelativeBuckets& buckets, bool both_ways, ConstMatrix table_BH, Index before,
                           Index after);

// Rows of q are queries, rows of k and v keys, columns [head, head_dim]. Query i stands at position first_query + i,
// key j at j.
struct RelativeAttentionShape {
  Index queries = 0, keys = 0, heads = 1, head_dim = 0;
  Index first_query = 0;
  bool causal = false;  // a query sees the keys up to its own position alone; else all
};

// out = softmax(q k^T + bias) v for each head; bias may be null. Every row's result depends on that row and on the keys
// that it sees alone, to the bit: reading a text at once or token by token is the same. kInternal where shapes do not
// fit, where a bias lacks a column that is needed, or where a causal query sees no key.
void relative_attention(const RelativeAttentionShape& shape, ConstMatrix q, ConstMatrix k, ConstMatrix v,
                        const RelativeBias* bias, Matrix out);

}  // namespace switchyard::kernels
