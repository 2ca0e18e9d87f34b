#pragma once
// The way back from slots to tokens.

#include "switchyard/moe/assignments.hpp"
#include "switchyard/tensor/view.hpp"

namespace switchyard::moe {

// sum_TD[t] = the rows of the token's slots, added in order of rank; 0 for a token that reached no expert. Weights are
// already in the rows. Used for outputs and, since dispatch is the combine's transpose, for input gradients.
void combine(const Assignments& assignments, const DispatchPlan& plan, ConstMatrix rows_SD, Matrix sum_TD);

}  // namespace switchyard::moe
