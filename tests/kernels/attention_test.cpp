#include "switchyard/kernels/attention.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/each_target.hpp"
#include "oracle/attention.hpp"
#include "oracle/compare.hpp"
#include "oracle/finite_difference.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"

namespace switchyard::kernels {
namespace {

using oracle::GuardedMatrix;

AttentionShape make_shape(Index batch, Index queries, Index keys, Index heads, Index kv_heads, Index head_dim) {
  return {batch, queries, keys, heads, kv_heads, head_dim, 1.0F / std::sqrt(static_cast<float>(head_dim))};
}

// Inputs and outputs of one call, every matrix inside guarded memory with rows further apart than they are wide.
struct Case {
  explicit Case(const AttentionShape& s, std::uint32_t seed = 1, float scale = 1.0F)
      : shape(s),
        query_cols(s.heads * s.head_dim),
        key_cols(s.kv_heads * s.head_dim),
        q_values(oracle::random_values(s.batch * s.queries * query_cols, seed, scale)),
        k_values(oracle::random_values(s.batch * s.keys * key_cols, seed + 1, scale)),
        v_values(oracle::random_values(s.batch * s.keys * key_cols, seed + 2)),
        q(s.batch * s.queries, query_cols, 3, q_values),
        k(s.batch * s.keys, key_cols, 5, k_values),
        v(s.batch * s.keys, key_cols, 1, v_values),
        out(s.batch * s.queries, query_cols, 2, NAN),
        log_sum_exp(static_cast<std::size_t>(s.batch * s.heads * s.queries), NAN) {}

  void forward() {
    attention_forward(shape, std::as_const(q).view(), std::as_const(k).view(), std::as_const(v).view(), out.view(),
                      log_sum_exp);
  }
  oracle::AttentionResult expected() const {
    return oracle::attention(shape, oracle::to_double(q_values), oracle::to_double(k_values),
                             oracle::to_double(v_values));
  }

  AttentionShape shape;
  Index query_cols, key_cols;
  std::vector<float> q_values, k_values, v_values;
  GuardedMatrix q, k, v, out;
  std::vector<float> log_sum_exp;
};

struct Gradients {
  Gradients(Case& c, const std::vector<float>& d_out_values)
      : d_out(c.shape.batch * c.shape.queries, c.query_cols, 4, d_out_values),
        d_q(c.shape.batch * c.shape.queries, c.query_cols, 3, NAN),
        d_k(c.shape.batch * c.shape.keys, c.key_cols, 2, NAN),
        d_v(c.shape.batch * c.shape.keys, c.key_cols, 1, NAN) {
    c.forward();
    attention_backward(c.shape, std::as_const(c.q).view(), std::as_const(c.k).view(), std::as_const(c.v).view(),
                       std::as_const(c.out).view(), c.log_sum_exp, std::as_const(d_out).view(), d_q.view(), d_k.view(),
                       d_v.view());
  }
  std::vector<float> all() const {
    std::vector<float> values = d_q.values();
    for (const auto& part : {d_k.values(), d_v.values()}) values.insert(values.end(), part.begin(), part.end());
    return values;
  }
  bool untouched() const { return d_q.untouched() && d_k.untouched() && d_v.untouched(); }
  GuardedMatrix d_out, d_q, d_k, d_v;
};

// A score is a sum over head_dim, an output a sum over keys.
double forward_tolerance(const AttentionShape& s) { return oracle::sum_tolerance(s.head_dim + s.keys, 2); }

void expect_matches_oracle(const AttentionShape& shape) {
  SCOPED_TRACE(testing::Message() << "batch " << shape.batch << " queries " << shape.queries << " keys " << shape.keys
                                  << " heads " << shape.heads << "/" << shape.kv_heads << " head_dim "
                                  << shape.head_dim);
  Case c(shape);
  c.forward();
  const auto expected = c.expected();
  EXPECT_TRUE(oracle::close(c.out.values(), expected.out, forward_tolerance(shape)));
  EXPECT_TRUE(oracle::close(c.log_sum_exp, expected.log_sum_exp, forward_tolerance(shape)));
  EXPECT_TRUE(c.out.untouched());
}

TEST(Attention, PrefillMatchesOracle) {
  on_each_target([] {
    for (const Index head_dim : {1, 2, 5, 8, 33, 64, 128})
      for (const Index length : {1, 7, 8, 9, 16, 17, 63, 64, 65, 97, 130})
        expect_matches_oracle(make_shape(1, length, length, 2, 1, head_dim));
    expect_matches_oracle(make_shape(3, 40, 40, 6, 2, 12));
    expect_matches_oracle(make_shape(2, 210, 210, 3, 3, 16));
  });
}

TEST(Attention, QueriesAfterACacheMatchOracle) {
  on_each_target([] {
    for (const Index queries : {1, 2, 3, 7, 8, 20, 70})
      for (const Index before : {0, 1, 50, 96, 255, 256, 300})
        for (const Index head_dim : {5, 32})
          expect_matches_oracle(make_shape(2, queries, before + queries, 4, 2, head_dim));
    expect_matches_oracle(make_shape(1, 1, 777, 8, 1, 64));
    expect_matches_oracle(make_shape(1, 5, 515, 7, 7, 80));
  });
}

TEST(Attention, DecodingGivesTheRowsOfPrefill) {
  const AttentionShape whole = make_shape(1, 90, 90, 4, 2, 24);
  Case prefill(whole);
  prefill.forward();
  const auto rows = prefill.out.values();
  for (Index i = 0; i < whole.queries; ++i) {
    AttentionShape one = whole;
    one.queries = 1;
    one.keys = i + 1;
    std::vector<float> out(static_cast<std::size_t>(prefill.query_cols));
    attention_forward(one, std::as_const(prefill.q).view().slice_rows(i, 1),
                      std::as_const(prefill.k).view().slice_rows(0, i + 1),
                      std::as_const(prefill.v).view().slice_rows(0, i + 1), {out.data(), 1, prefill.query_cols}, {});
    const std::span row(rows.data() + i * prefill.query_cols, out.size());
    EXPECT_TRUE(oracle::close(out, oracle::to_double(row), forward_tolerance(one))) << "row " << i;
  }
}

TEST(Attention, ReadsSlicesOfOneTensor) {
  const AttentionShape s = make_shape(2, 19, 19, 4, 2, 6);
  const Index width = (s.heads + 2 * s.kv_heads) * s.head_dim;
  const auto values = oracle::random_values(s.batch * s.queries * width, 9);
  const ConstMatrix qkv(values.data(), s.batch * s.queries, width);
  const auto slice = [&](Index begin, Index cols) {
    std::vector<double> copy;
    for (Index i = 0; i < qkv.rows; ++i)
      for (Index c = 0; c < cols; ++c) copy.push_back(qkv(i, begin + c));
    return copy;
  };
  GuardedMatrix out(s.batch * s.queries, 24, 0);
  attention_forward(s, qkv.slice_cols(0, 24), qkv.slice_cols(24, 12), qkv.slice_cols(36, 12), out.view(), {});
  EXPECT_TRUE(oracle::close(out.values(), oracle::attention(s, slice(0, 24), slice(24, 12), slice(36, 12)).out,
                            forward_tolerance(s)));
}

TEST(Attention, LaterKeysDoNotChangeAnyBit) {
  for (const Index queries : {5, 120}) {
    const Index changed = queries - 3;
    Case a(make_shape(1, queries, 120, 2, 2, 16)), b(a.shape);
    const Index from = 120 - queries + changed;
    for (Index key = from; key < 120; ++key) {
      std::fill_n(b.k.view().row(key), b.key_cols, 30.0F);
      std::fill_n(b.v.view().row(key), b.key_cols, -1000.0F);
    }
    a.forward();
    b.forward();
    const auto before = a.out.values(), after = b.out.values();
    const auto kept = static_cast<std::size_t>(changed * a.query_cols);
    EXPECT_TRUE(oracle::same_bits(std::span(before).first(kept), std::span(after).first(kept)));
    EXPECT_FALSE(oracle::same_bits(before, after));
  }
}

TEST(Attention, LargeScoresStayFinite) {
  on_each_target([] {
    for (const Index queries : {1, 100}) {
      Case c(make_shape(1, queries, 100, 2, 1, 4), 3, 100.0F);  // scores of about 1e4
      c.forward();
      // The error of a score is relative to itself, and moves the weights by as much in absolute terms.
      const double score = 2.0 * 3.0 * 3.0 * 1.0e4;
      EXPECT_TRUE(oracle::close(c.out.values(), c.expected().out, score * oracle::sum_tolerance(4)));
      std::fill_n(c.q.view().row(0), c.query_cols, 1.0e4F);
      std::fill_n(c.k.view().row(0), c.key_cols, 1.0e4F);
      c.forward();
      for (const float x : c.out.values()) EXPECT_TRUE(std::isfinite(x));
    }
  });
}

TEST(Attention, NanIsNotHidden) {
  for (const Index queries : {1, 20}) {
    Case c(make_shape(1, queries, 20, 1, 1, 8));
    c.k.view()(0, 3) = NAN;
    c.forward();
    for (const float x : c.out.values()) EXPECT_TRUE(std::isnan(x));
  }
}

// The loss is <d_out, attention(q, k, v)>; x holds q, k and v one after another.
oracle::ScalarFunction loss(const Case& c, const std::vector<float>& d_out) {
  return [&c, &d_out](const std::vector<double>& x) {
    const auto q_end = x.begin() + static_cast<std::ptrdiff_t>(c.q_values.size());
    const auto k_end = q_end + static_cast<std::ptrdiff_t>(c.k_values.size());
    return oracle::dot(oracle::attention(c.shape, {x.begin(), q_end}, {q_end, k_end}, {k_end, x.end()}).out, d_out);
  };
}

TEST(Attention, BackwardIsTheGradient) {
  on_each_target([] {
    for (const AttentionShape& s :
         {make_shape(1, 1, 1, 1, 1, 1), make_shape(1, 3, 3, 2, 1, 5), make_shape(2, 9, 9, 4, 2, 3),
          make_shape(1, 18, 18, 1, 1, 17), make_shape(1, 35, 35, 2, 2, 4), make_shape(1, 67, 67, 1, 1, 2)}) {
      SCOPED_TRACE(testing::Message() << "length " << s.queries << " head_dim " << s.head_dim);
      Case c(s);
      const auto d_out = oracle::random_values(s.batch * s.queries * c.query_cols, 50);
      const Gradients g(c, d_out);
      std::vector<float> x = c.q_values;
      x.insert(x.end(), c.k_values.begin(), c.k_values.end());
      x.insert(x.end(), c.v_values.begin(), c.v_values.end());
      EXPECT_TRUE(oracle::is_gradient(g.all(), loss(c, d_out), x, s.head_dim + s.keys, 3));
      EXPECT_TRUE(g.untouched());
    }
  });
}

// Long enough for several key blocks, whose first keys fall inside a tile of queries at 1700. Checked along random
// directions, because central differences of every element would take minutes.
TEST(Attention, BackwardOfLongSequencesIsTheGradient) {
  for (const Index length : {400, 1700}) {
    Case c(make_shape(1, length, length, 2, 1, 3));
    const auto d_out = oracle::random_values(length * c.query_cols, 50);
    const auto f = loss(c, d_out);
    std::vector<double> x = oracle::to_double(c.q_values);
    x.insert(x.end(), c.k_values.begin(), c.k_values.end());
    x.insert(x.end(), c.v_values.begin(), c.v_values.end());
    std::vector<std::vector<float>> directions;
    std::vector<double> slopes;
    for (std::uint32_t seed = 0; seed < 2; ++seed) {
      directions.push_back(oracle::random_values(static_cast<Index>(x.size()), 90 + seed));
      const double h = 1.0e-5;
      std::vector<double> above = x, below = x;
      for (std::size_t i = 0; i < x.size(); ++i) {
        above[i] += h * static_cast<double>(directions.back()[i]);
        below[i] -= h * static_cast<double>(directions.back()[i]);
      }
      slopes.push_back((f(above) - f(below)) / (2.0 * h));
    }
    on_each_target([&] {
      const Gradients g(c, d_out);
      const std::vector<float> gradient = g.all();
      // The error of each element adds to the slope with a random sign.
      const double norm = std::sqrt(oracle::dot(gradient, gradient));
      for (std::size_t i = 0; i < slopes.size(); ++i)
        EXPECT_NEAR(oracle::dot(gradient, directions[i]), slopes[i],
                    norm * oracle::sum_tolerance(length + 3, 3) + 1.0e-6);
      EXPECT_TRUE(g.untouched());
    });
  }
}

TEST(Attention, SameBitsAtAnyThreadCount) {
  const auto run = [](int threads) {
    std::vector<float> all;
    ThreadArena arena(threads);
    arena.run([&] {
      for (const Index length : {70, 800}) {
        Case c(make_shape(2, length, length, 4, 2, 20));
        const Gradients g(c, oracle::random_values(2 * length * c.query_cols, 50));
        for (const auto& part : {c.out.values(), c.log_sum_exp, g.all()})
          all.insert(all.end(), part.begin(), part.end());
      }
      Case decode(make_shape(2, 1, 800, 4, 2, 20));
      decode.forward();
      const auto part = decode.out.values();
      all.insert(all.end(), part.begin(), part.end());
    });
    return all;
  };
  const auto one = run(1);
  for (const int threads : {2, 3, 4}) EXPECT_TRUE(oracle::same_bits(one, run(threads))) << threads << " threads";
}

TEST(Attention, NothingToDoIsLegal) {
  Case none(make_shape(0, 4, 4, 2, 1, 8));
  none.forward();
  Case no_queries(make_shape(2, 0, 5, 2, 1, 8));
  no_queries.forward();
  EXPECT_TRUE(no_queries.out.untouched());
}

TEST(Attention, WrongShapesAreRefused) {
  Case c(make_shape(1, 8, 8, 4, 2, 4));
  for (const auto& change : std::vector<void (*)(AttentionShape&)>{
           [](AttentionShape& s) { s.kv_heads = 3; }, [](AttentionShape& s) { s.keys = 7; },
           [](AttentionShape& s) { s.head_dim = 0; }, [](AttentionShape& s) { s.heads = 3; }}) {
    AttentionShape wrong = c.shape;
    change(wrong);
    EXPECT_THROW(attention_forward(wrong, c.q.view(), c.k.view(), c.v.view(), c.out.view(), {}), Error);
  }
  EXPECT_THROW(
      attention_forward(c.shape, c.q.view(), c.k.view(), c.v.view(), c.out.view(), std::span(c.log_sum_exp).first(3)),
      Error);
}

}  // namespace
}  // namespace switchyard::kernels
