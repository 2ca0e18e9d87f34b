#include "switchyard/kernels/row_sums.hpp"

#include <algorithm>
#include <array>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "row_sums.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace switchyard::kernels::HWY_NAMESPACE {

// sum = rows[0] + ... + rows[kRows - 1]; rows[0] may be sum itself.
template <int kRows>
HWY_ATTR void sum_of_rows(const float* const* rows, float* sum, Index width) {
  std::array<const float*, kRows> row;
  std::copy_n(rows, kRows, row.begin());
  for_each_vector(width, [&](auto d, Index i) HWY_ATTR {
    auto v = hn::LoadU(d, row[0] + i);
    for (int r = 1; r < kRows; ++r) v = hn::Add(v, hn::LoadU(d, row[static_cast<std::size_t>(r)] + i));
    hn::StoreU(v, d, sum + i);
  });
}

void sum_rows(const float* const* rows, int count, float* sum, Index width) {
  switch (count) {
    case 1:
      return sum_of_rows<1>(rows, sum, width);
    case 2:
      return sum_of_rows<2>(rows, sum, width);
    case 3:
      return sum_of_rows<3>(rows, sum, width);
    case 4:
      return sum_of_rows<4>(rows, sum, width);
    case 5:
      return sum_of_rows<5>(rows, sum, width);
    case 6:
      return sum_of_rows<6>(rows, sum, width);
    case 7:
      return sum_of_rows<7>(rows, sum, width);
    default:
      return sum_of_rows<8>(rows, sum, width);
  }
}

}  // namespace switchyard::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace switchyard::kernels {
namespace {

HWY_EXPORT(sum_rows);

constexpr std::size_t kTogether = 8;  // rows read side by side

void sum_of_token(std::span<const std::int32_t> row_K, ConstMatrix rows_SD, std::span<float> sum_D) {
  std::array<const float*, kTogether> rows;
  std::size_t count = 0;
  bool any = false;
  const auto flush = [&] {
    HWY_DYNAMIC_DISPATCH(sum_rows)(rows.data(), static_cast<int>(count), sum_D.data(), std::ssize(sum_D));
    rows[0] = sum_D.data();  // what follows is added to the sum so far
    count = 1;
    any = true;
  };
  for (const std::int32_t row : row_K) {
    if (row < 0) continue;
    if (count == kTogether) flush();
    rows[count++] = rows_SD.row(row);
  }
  if (count > (any ? 1U : 0U)) flush();
  if (!any) std::fill(sum_D.begin(), sum_D.end(), 0.0F);
}

}  // namespace

void sum_listed_rows(std::span<const std::int32_t> offset_T1, std::span<const std::int32_t> row_A, ConstMatrix rows_SD,
                     Matrix sum_TD) {
  require(
      std::ssize(offset_T1) == sum_TD.rows + 1 && (row_A.empty() || rows_SD.rows == 0 || rows_SD.cols == sum_TD.cols),
      "sums of rows of [{}, {}] into [{}, {}] with {} offsets", rows_SD.rows, rows_SD.cols, sum_TD.rows, sum_TD.cols,
      offset_T1.size());
  const Index width = sum_TD.cols;
  // Some ten microseconds a task.
  parallel_for(sum_TD.rows, std::max<Index>(1, 4096 / std::max<Index>(width, 1)), [&](Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      const auto first = static_cast<std::size_t>(offset_T1[static_cast<std::size_t>(t)]);
      const auto last = static_cast<std::size_t>(offset_T1[static_cast<std::size_t>(t) + 1]);
      sum_of_token(row_A.subspan(first, last - first), rows_SD, {sum_TD.row(t), static_cast<std::size_t>(width)});
    }
  });
}

}  // namespace switchyard::kernels
#endif  // HWY_ONCE
