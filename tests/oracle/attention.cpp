#include "oracle/attention.hpp"

#include <algorithm>
#include <cmath>

namespace switchyard::oracle {

AttentionResult attention(const kernels::AttentionShape& s, const std::vector<double>& q, const std::vector<double>& k,
                          const std::vector<double>& v, const std::vector<double>& sink_H) {
  const Index C = s.head_dim, V = s.value_dim == 0 ? C : s.value_dim, ratio = s.heads / s.kv_heads;
  const auto at = [](Index row, Index heads, Index head, Index width, Index c) {
    return static_cast<std::size_t>((row * heads + head) * width + c);
  };
  AttentionResult result;
  result.out.assign(static_cast<std::size_t>(s.batch * s.queries * s.heads * V), 0.0);
  for (Index b = 0; b < s.batch; ++b)
    for (Index h = 0; h < s.heads; ++h)
      for (Index i = 0; i < s.queries; ++i) {
        const Index position = s.keys - s.queries + i;
        std::vector<Index> seen;
        std::vector<double> score;
        for (Index j = 0; j <= position; ++j) {
          if (s.window > 0 && position - j >= s.window) continue;
          double z = 0.0;
          for (Index c = 0; c < C; ++c)
            z += q[at(b * s.queries + i, s.heads, h, C, c)] * k[at(b * s.keys + j, s.kv_heads, h / ratio, C, c)];
          z *= static_cast<double>(s.scale);
          const auto cap = static_cast<double>(s.softcap);
          if (cap > 0.0) z = cap * std::tanh(z / cap);
          seen.push_back(j);
          score.push_back(z);
        }
        double largest = *std::max_element(score.begin(), score.end());
        if (!sink_H.empty()) largest = std::max(largest, sink_H[static_cast<std::size_t>(h)]);
        double sum = sink_H.empty() ? 0.0 : std::exp(sink_H[static_cast<std::size_t>(h)] - largest);
        for (const double z : score) sum += std::exp(z - largest);
        result.log_sum_exp.push_back(largest + std::log(sum));
        for (std::size_t j = 0; j < seen.size(); ++j) {
          const double p = std::exp(score[j] - largest) / sum;
          for (Index c = 0; c < V; ++c)
            result.out[at(b * s.queries + i, s.heads, h, V, c)] +=
                p * v[at(b * s.keys + seen[j], s.kv_heads, h / ratio, V, c)];
        }
      }
  return result;
}

}  // namespace switchyard::oracle
