#include "switchyard/moe/combine.hpp"

#include <algorithm>

#include "rows.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::moe {

void combine(const Assignments& list, const DispatchPlan& plan, ConstMatrix rows_SD, Matrix sum_TD) {
  require(
      sum_TD.rows == list.tokens && rows_SD.rows == plan.slots() && (rows_SD.rows == 0 || rows_SD.cols == sum_TD.cols),
      "combine of [{}, {}] with {} slots into [{}, {}] with {} tokens", rows_SD.rows, rows_SD.cols, plan.slots(),
      sum_TD.rows, sum_TD.cols, list.tokens);
  const Index width = sum_TD.cols;
  parallel_for(list.tokens, row_grain(4 * width), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      float* sum = sum_TD.row(t);
      bool empty = true;
      const Index last = list.offset_T1[static_cast<std::size_t>(t) + 1];
      for (Index a = list.offset_T1[static_cast<std::size_t>(t)]; a < last; ++a) {
        const Index slot = plan.slot_of_assignment_A[static_cast<std::size_t>(a)];
        if (slot < 0) continue;
        const float* row = rows_SD.row(slot);
        if (empty)
          std::copy_n(row, width, sum);
        else
          for (Index d = 0; d < width; ++d) sum[d] += row[d];
        empty = false;
      }
      if (empty) std::fill_n(sum, width, 0.0F);
    }
  });
}

}  // namespace switchyard::moe
