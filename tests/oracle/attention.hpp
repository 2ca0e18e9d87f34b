#pragma once
// Causal grouped-query attention by its definition, in double. Arrays are contiguous, laid out as in
// switchyard/kernels/attention.hpp.

#include <vector>

#include "switchyard/kernels/attention.hpp"

namespace switchyard::oracle {

struct AttentionResult {
  std::vector<double> out;          // [batch, query][head, value_dim]
  std::vector<double> log_sum_exp;  // [batch, head, query]
};

AttentionResult attention(const kernels::AttentionShape& shape, const std::vector<double>& q,
                          const std::vector<double>& k, const std::vector<double>& v,
                          const std::vector<double>& sink_H = {});

}  // namespace switchyard::oracle
