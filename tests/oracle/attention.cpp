#include "oracle/attention.hpp"

#include <algorithm>
#include <cmath>

namespace switchyard::oracle {

AttentionResult attention(const kernels::AttentionShape& s, const std::vector<double>& q, const std::vector<double>& k,
                          const std::vector<double>& v) {
  const Index C = s.head_dim, ratio = s.heads / s.kv_heads;
  const auto query_at = [&](Index b, Index i, Index h, Index c) {
    return static_cast<std::size_t>(((b * s.queries + i) * s.heads + h) * C + c);
  };
  const auto key_at = [&](Index b, Index j, Index h, Index c) {
    return static_cast<std::size_t>(((b * s.keys + j) * s.kv_heads + h / ratio) * C + c);
  };
  AttentionResult result;
  result.out.assign(q.size(), 0.0);
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      for (Index i = 0; i < s.queries; ++i) {
        const Index visible = s.keys - s.queries + i + 1;
        std::vector<double> score(static_cast<std::size_t>(visible), 0.0);
        for (Index j = 0; j < visible; ++j) {
          double dot = 0.0;
          for (Index c = 0; c < C; ++c) dot += q[query_at(b, i, h, c)] * k[key_at(b, j, h, c)];
          score[static_cast<std::size_t>(j)] = dot * static_cast<double>(s.scale);
        }
        const double largest = *std::max_element(score.begin(), score.end());
        double sum = 0.0;
        for (const double x : score) sum += std::exp(x - largest);
        result.log_sum_exp.push_back(largest + std::log(sum));
        for (Index j = 0; j < visible; ++j) {
          const double p = std::exp(score[static_cast<std::size_t>(j)] - largest) / sum;
          for (Index c = 0; c < C; ++c) result.out[query_at(b, i, h, c)] += p * v[key_at(b, j, h, c)];
        }
      }
  return result;
}

}  // namespace switchyard::oracle
