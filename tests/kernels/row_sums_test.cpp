#include "switchyard/kernels/row_sums.hpp"

#include <gtest/gtest.h>

#include "each_target.hpp"
#include "oracle/compare.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

struct Lists {
  std::vector<std::int32_t> offset_T1 = {0}, row_A;
};

// Token t has t % 20 entries, so that all counts come up that are read side by side, and more; every fifth is left out.
Lists lists_of(Index tokens, Index rows) {
  Lists lists;
  for (Index t = 0; t < tokens; ++t) {
    for (Index a = 0; a < t % 20; ++a)
      lists.row_A.push_back((t + a) % 5 == 4 ? -1 : static_cast<std::int32_t>((7 * t + 13 * a) % rows));
    lists.offset_T1.push_back(static_cast<std::int32_t>(lists.row_A.size()));
  }
  return lists;
}

TEST(SumListedRows, OneAfterTheOtherInOrder) {
  for (const Index width : {1, 3, 8, 33, 130, 512})
    for (const Index tokens : {0, 1, 45, 130}) {
      SCOPED_TRACE(testing::Message() << "D=" << width << " T=" << tokens);
      const Lists lists = lists_of(tokens, 31);
      const oracle::GuardedMatrix rows_SD(31, width, 5, oracle::random_values(31 * width, 3));
      std::vector<float> expected(static_cast<std::size_t>(tokens * width));
      for (std::size_t t = 0; t < static_cast<std::size_t>(tokens); ++t)
        for (auto a = lists.offset_T1[t]; a < lists.offset_T1[t + 1]; ++a)
          for (Index d = 0; d < width; ++d)
            if (const auto row = lists.row_A[static_cast<std::size_t>(a)]; row >= 0)
              expected[t * static_cast<std::size_t>(width) + static_cast<std::size_t>(d)] += rows_SD.view()(row, d);
      on_each_target([&] {
        oracle::GuardedMatrix sum_TD(tokens, width, 3, 99.0F);
        sum_listed_rows(lists.offset_T1, lists.row_A, rows_SD.view(), sum_TD.view());
        EXPECT_TRUE(oracle::same_bits(sum_TD.values(), expected));
        EXPECT_TRUE(sum_TD.untouched());
      });
    }
}

TEST(SumListedRows, WrongSizesAreErrors) {
  const std::vector<std::int32_t> offset_T1 = {0, 1}, row_A = {0};
  std::vector<float> rows(6), sums(6);
  EXPECT_THROW(sum_listed_rows(offset_T1, row_A, {rows.data(), 2, 3}, {sums.data(), 2, 3}), Error);
  EXPECT_THROW(sum_listed_rows(offset_T1, row_A, {rows.data(), 2, 3}, {sums.data(), 1, 2}), Error);
}

}  // namespace
}  // namespace switchyard::kernels
