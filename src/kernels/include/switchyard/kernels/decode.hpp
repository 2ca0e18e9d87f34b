#pragma once
// From numbers as a file holds them to float32.

#include "switchyard/tensor/weight.hpp"

namespace switchyard::kernels {

// to(i, j) = element (row + i, column + j) of w as float32: the stored number converted (exactly, but for F64, which is
// rounded to nearest), then multiplied by its scale in float32. A NaN stays a NaN. Runs on the calling thread. Throws
// kInternal where the part leaves w, begins within a byte, or w is not consistent (WeightView::check). Of quantised
// types a part may begin and end anywhere.
void decode(const WeightView& w, Index row, Index column, Matrix to);

}  // namespace switchyard::kernels
