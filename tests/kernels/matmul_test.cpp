#include "switchyard/kernels/matmul.hpp"

#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <set>
#include <string>

#include "kernels/each_target.hpp"
#include "oracle/compare.hpp"
#include "oracle/matmul.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;

struct Kind {
  const char* name;
  void (*run)(ConstMatrix, ConstMatrix, Matrix, Store);
  bool transpose_a, transpose_b;
};
constexpr std::array<Kind, 3> kKinds = {
    Kind{"nt", [](ConstMatrix a, ConstMatrix b, Matrix c, Store store) { matmul_nt(a, b, c, store); }, false, true},
    Kind{"nn", &matmul_nn, false, false}, Kind{"tn", &matmul_tn, true, false}};

struct Case {
  Index m, n, k;
};

// Every size alone beside middling others, then random mixes.
std::vector<Case> cases() {
  const std::array<Index, 16> sizes = {0, 1, 2, 5, 6, 7, 15, 16, 17, 31, 33, 64, 255, 256, 257, 300};
  std::vector<Case> all;
  for (const Index s : sizes) {
    all.push_back({s, 33, 17});
    all.push_back({7, s, 33});
    all.push_back({31, 17, s});
  }
  const RandomStream stream(1, RandomPurpose::kTest, 99);
  for (std::uint64_t i = 0; i < 40; ++i)
    all.push_back(
        {sizes[stream.below(3 * i, 16)], sizes[stream.below(3 * i + 1, 16)], sizes[stream.below(3 * i + 2, 16)]});
  all.push_back({1, 300, 513});
  all.push_back({5, 130, 1025});
  all.push_back({200, 150, 600});
  return all;
}

GuardedMatrix operand(bool transposed, Index rows, Index cols, Index gap, std::uint32_t seed) {
  return transposed ? GuardedMatrix(cols, rows, gap, oracle::random_values(rows * cols, seed))
                    : GuardedMatrix(rows, cols, gap, oracle::random_values(rows * cols, seed));
}

// |error| <= (k + 2) u / (1 - (k + 2) u) * sum |a b| + u |c|, for sums in any order (Higham, Accuracy and Stability,
// section 3.1).
testing::AssertionResult within_bound(const Matrix& c, const oracle::MatmulReference& expected, Index k,
                                      double before) {
  const double u = oracle::kUnitRoundoff, relative = static_cast<double>(k + 2) * u;
  for (Index i = 0; i < c.rows; ++i)
    for (Index j = 0; j < c.cols; ++j) {
      const auto at = static_cast<std::size_t>(i * c.cols + j);
      const double error = std::abs(static_cast<double>(c(i, j)) - before - expected.value[at]);
      const double limit = relative / (1.0 - relative) * (expected.magnitude[at] + std::abs(before));
      if (!(error <= limit))
        return testing::AssertionFailure() << "element " << i << ", " << j << " is " << c(i, j) << ", expected "
                                           << before + expected.value[at] << ", limit of the error " << limit;
    }
  return testing::AssertionSuccess();
}

void check_case(const Kind& kind, const Case& shape, Index gap) {
  SCOPED_TRACE(testing::Message() << kind.name << " M=" << shape.m << " N=" << shape.n << " K=" << shape.k
                                  << " gap=" << gap);
  const GuardedMatrix a = operand(kind.transpose_a, shape.m, shape.k, gap, 1);
  const GuardedMatrix b = operand(kind.transpose_b, shape.k, shape.n, gap, 2);
  const auto expected = oracle::matmul(a.view(), kind.transpose_a, b.view(), kind.transpose_b);
  for (const Store store : {Store::kOverwrite, Store::kAdd}) {
    const float before = store == Store::kAdd ? 0.75F : std::numeric_limits<float>::quiet_NaN();
    GuardedMatrix c(shape.m, shape.n, gap, before);
    kind.run(a.view(), b.view(), c.view(), store);
    EXPECT_TRUE(within_bound(c.view(), expected, shape.k, store == Store::kAdd ? 0.75 : 0.0));
    EXPECT_TRUE(c.untouched());
  }
}

TEST(Matmul, AgreesWithTheOracle) {
  for (const Kind& kind : kKinds)
    for (const Case& shape : cases())
      for (const Index gap : {0, 3}) check_case(kind, shape, gap);
}

TEST(Matmul, AgreesWithTheOracleOnEveryInstructionSet) {
  std::set<std::string> names;
  on_each_target([&] {
    names.insert(instruction_set());
    for (const Kind& kind : kKinds)
      for (const Case& shape :
           {Case{1, 1, 1}, Case{1, 70, 300}, Case{5, 40, 65}, Case{13, 37, 29}, Case{64, 48, 257}, Case{130, 131, 132}})
        check_case(kind, shape, 1);
  });
  EXPECT_GE(names.size(), 1U);
  EXPECT_EQ(names.count("Unknown"), 0U);
}

std::vector<float> run(const Kind& kind, const GuardedMatrix& a, const GuardedMatrix& b, Index m, Index n, int threads,
                       Store store = Store::kOverwrite) {
  GuardedMatrix c(m, n, 0, 0.5F);
  ThreadArena(threads).run([&] { kind.run(a.view(), b.view(), c.view(), store); });
  return c.values();
}

TEST(Matmul, SameBitsAtAnyNumberOfThreads) {
  for (const Kind& kind : kKinds)
    for (const Case& shape : {Case{3, 500, 600}, Case{40, 300, 300}, Case{400, 300, 520}, Case{97, 513, 64}}) {
      const GuardedMatrix a = operand(kind.transpose_a, shape.m, shape.k, 0, 3);
      const GuardedMatrix b = operand(kind.transpose_b, shape.k, shape.n, 0, 4);
      for (const Store store : {Store::kOverwrite, Store::kAdd}) {
        const std::vector<float> one = run(kind, a, b, shape.m, shape.n, 1, store);
        for (const int threads : {2, 3, 4})
          EXPECT_TRUE(oracle::same_bits(run(kind, a, b, shape.m, shape.n, threads, store), one))
              << kind.name << " with " << threads << " threads";
      }
    }
}

TEST(Matmul, ARowDoesNotDependOnItsBatch) {
  const Index n = 150, k = 600;
  const GuardedMatrix weights_nk(n, k, 0, oracle::random_values(n * k, 5));
  const GuardedMatrix weights_kn(k, n, 0, oracle::random_values(n * k, 6));
  const GuardedMatrix x(300, k, 0, oracle::random_values(300 * k, 7));
  for (const Store store : {Store::kOverwrite, Store::kAdd}) {
    GuardedMatrix all_nt(300, n, 0, 0.5F), all_nn(300, n, 0, 0.5F);
    matmul_nt(x.view(), weights_nk.view(), all_nt.view(), store);
    matmul_nn(x.view(), weights_kn.view(), all_nn.view(), store);
    for (const Index count : {1, 2, 5, 8, 9, 17, 60, 200})
      for (const Index first : {0, 41, 100}) {
        GuardedMatrix part_nt(count, n, 0, 0.5F), part_nn(count, n, 0, 0.5F);
        matmul_nt(x.view().slice_rows(first, count), weights_nk.view(), part_nt.view(), store);
        matmul_nn(x.view().slice_rows(first, count), weights_kn.view(), part_nn.view(), store);
        for (Index i = 0; i < count; ++i) {
          ASSERT_TRUE(oracle::same_bits(part_nt.view().row_span(i), all_nt.view().row_span(first + i))) << count;
          ASSERT_TRUE(oracle::same_bits(part_nn.view().row_span(i), all_nn.view().row_span(first + i))) << count;
        }
      }
  }
}

TEST(Matmul, ThreeFormsGiveTheSameBits) {
  const Index m = 70, n = 90, k = 300;
  const std::vector<float> a = oracle::random_values(m * k, 8), b = oracle::random_values(k * n, 9);
  std::vector<float> a_t(a.size()), b_t(b.size());
  for (Index i = 0; i < m; ++i)
    for (Index z = 0; z < k; ++z) Matrix(a_t.data(), k, m)(z, i) = ConstMatrix(a.data(), m, k)(i, z);
  for (Index z = 0; z < k; ++z)
    for (Index j = 0; j < n; ++j) Matrix(b_t.data(), n, k)(j, z) = ConstMatrix(b.data(), k, n)(z, j);
  std::vector<float> nt(static_cast<std::size_t>(m * n)), nn(nt.size()), tn(nt.size());
  matmul_nt({a.data(), m, k}, ConstMatrix(b_t.data(), n, k), {nt.data(), m, n});
  matmul_nn({a.data(), m, k}, {b.data(), k, n}, {nn.data(), m, n});
  matmul_tn({a_t.data(), k, m}, {b.data(), k, n}, {tn.data(), m, n});
  EXPECT_TRUE(oracle::same_bits(nt, nn));
  EXPECT_TRUE(oracle::same_bits(tn, nn));
}

TEST(Matmul, NaNStaysInItsRowAndColumn) {
  for (const Kind& kind : kKinds)
    for (const Case& shape : {Case{1, 40, 20}, Case{20, 40, 20}}) {
      GuardedMatrix a = operand(kind.transpose_a, shape.m, shape.k, 0, 3);
      GuardedMatrix b = operand(kind.transpose_b, shape.k, shape.n, 0, 4);
      const Index row = shape.m - 1, column = 37, z = 19;
      (kind.transpose_a ? a.view()(z, row) : a.view()(row, z)) = std::numeric_limits<float>::quiet_NaN();
      (kind.transpose_b ? b.view()(column, z) : b.view()(z, column)) = std::numeric_limits<float>::infinity();
      const std::vector<float> c = run(kind, a, b, shape.m, shape.n, 1);
      for (Index i = 0; i < shape.m; ++i)
        for (Index j = 0; j < shape.n; ++j)
          EXPECT_EQ(std::isfinite(c[static_cast<std::size_t>(i * shape.n + j)]), i != row && j != column)
              << kind.name << " " << i << ", " << j;
    }
}

TEST(Matmul, NestedCallsDoNotShareWorkingMemory) {
  const Index n = 64, k = 300;
  const GuardedMatrix b(n, k, 0, oracle::random_values(n * k, 11));
  const GuardedMatrix a(160, k, 0, oracle::random_values(160 * k, 12));
  GuardedMatrix expected(160, n), actual(160, n);
  matmul_nt(a.view(), b.view(), expected.view());
  ThreadArena(4).run([&] {
    parallel_for(16, 1, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        matmul_nt(a.view().slice_rows(10 * i, 10), b.view(), actual.view().slice_rows(10 * i, 10));
    });
  });
  EXPECT_TRUE(oracle::same_bits(actual.values(), expected.values()));
}

TEST(Matmul, RefusesShapesThatDoNotFit) {
  std::vector<float> memory(100);
  const Matrix m23(memory.data(), 2, 3), m32(memory.data() + 20, 3, 2), m22(memory.data() + 40, 2, 2);
  EXPECT_THROW(matmul_nt(m23, m32, m22), Error);
  EXPECT_THROW(matmul_nn(m23, m23, m22), Error);
  EXPECT_THROW(matmul_tn(m23, m32, m22), Error);
  EXPECT_THROW(matmul_nn(m23, m32, Matrix(memory.data() + 40, 2, 2, 1)), Error);
  EXPECT_NO_THROW(matmul_nn(m23, m32, m22));
}

}  // namespace
}  // namespace switchyard::kernels
