#pragma once
// Sums of listed rows: the way of rows in one order back to the order that they came from.

#include <cstdint>
#include <span>

#include "switchyard/tensor/view.hpp"

namespace switchyard::kernels {

// sum_TD[t] = the sum of rows_SD[row_A[a]] for a of [offset_T1[t], offset_T1[t + 1]), added in that order one after the
// other; negative entries of row_A are left out, and a sum of none is 0. Several rows are read side by side, since one
// after the other they would not use the memory's bandwidth. Parallel over t.
void sum_listed_rows(std::span<const std::int32_t> offset_T1, std::span<const std::int32_t> row_A, ConstMatrix rows_SD,
                     Matrix sum_TD);

}  // namespace switchyard::kernels
