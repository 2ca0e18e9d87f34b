#include "switchyard/moe/combine.hpp"

#include "switchyard/base/error.hpp"
#include "switchyard/kernels/row_sums.hpp"

namespace switchyard::moe {

void combine(const Assignments& list, const DispatchPlan& plan, ConstMatrix rows_SD, Matrix sum_TD) {
  require(
      sum_TD.rows == list.tokens && rows_SD.rows == plan.slots() && (rows_SD.rows == 0 || rows_SD.cols == sum_TD.cols),
      "combine of [{}, {}] with {} slots into [{}, {}] with {} tokens", rows_SD.rows, rows_SD.cols, plan.slots(),
      sum_TD.rows, sum_TD.cols, list.tokens);
  kernels::sum_listed_rows(list.offset_T1, plan.slot_of_assignment_A, rows_SD, sum_TD);
}

}  // namespace switchyard::moe
