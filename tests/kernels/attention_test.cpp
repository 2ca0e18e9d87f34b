#include "switchyard/kernels/attention.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
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
  explicit Case(const AttentionShape& s, bool with_sink = false, std::uint32_t seed = 1, float scale = 1.0F)
      : shape(s),
        value_dim(s.value_dim == 0 ? s.head_dim : s.value_dim),
        query_cols(s.heads * s.head_dim),
        key_cols(s.kv_heads * s.head_dim),
        out_cols(s.heads * value_dim),
        value_cols(s.kv_heads * value_dim),
        q_values(oracle::random_values(s.batch * s.queries * query_cols, seed, scale)),
        k_values(oracle::random_values(s.batch * s.keys * key_cols, seed + 1, scale)),
        v_values(oracle::random_values(s.batch * s.keys * value_cols, seed + 2)),
        sink(oracle::random_values(with_sink ? s.heads : 0, seed + 3)),
        q(s.batch * s.queries, query_cols, 3, q_values),
        k(s.batch * s.keys, key_cols, 5, k_values),
        v(s.batch * s.keys, value_cols, 1, v_values),
        out(s.batch * s.queries, out_cols, 2, NAN),
        log_sum_exp(static_cast<std::size_t>(s.batch * s.heads * s.queries), NAN) {}

  void forward() {
    attention_forward(shape, std::as_const(q).view(), std::as_const(k).view(), std::as_const(v).view(), sink,
                      out.view(), log_sum_exp);
  }
  oracle::AttentionResult expected() const {
    return oracle::attention(shape, oracle::to_double(q_values), oracle::to_double(k_values),
                             oracle::to_double(v_values), oracle::to_double(sink));
  }
  // All that the result is a function of, one after another.
  std::vector<float> inputs() const {
    std::vector<float> x;
    for (const auto* part : {&q_values, &k_values, &v_values, &sink}) x.insert(x.end(), part->begin(), part->end());
    return x;
  }

  AttentionShape shape;
  Index value_dim, query_cols, key_cols, out_cols, value_cols;
  std::vector<float> q_values, k_values, v_values, sink;
  GuardedMatrix q, k, v, out;
  std::vector<float> log_sum_exp;
};

// In the order of Case::inputs().
struct Gradients {
  Gradients(Case& c, const std::vector<float>& d_out_values)
      : d_out(c.shape.batch * c.shape.queries, c.out_cols, 4, d_out_values),
        d_q(c.shape.batch * c.shape.queries, c.query_cols, 3, NAN),
        d_k(c.shape.batch * c.shape.keys, c.key_cols, 2, NAN),
        d_v(c.shape.batch * c.shape.keys, c.value_cols, 1, NAN),
        d_sink(c.sink.size(), 0.0F) {
    c.forward();
    attention_backward(c.shape, std::as_const(c.q).view(), std::as_const(c.k).view(), std::as_const(c.v).view(), c.sink,
                       std::as_const(c.out).view(), c.log_sum_exp, std::as_const(d_out).view(), d_q.view(), d_k.view(),
                       d_v.view(), d_sink);
  }
  std::vector<float> all() const {
    std::vector<float> values = d_q.values();
    for (const auto& part : {d_k.values(), d_v.values(), d_sink}) values.insert(values.end(), part.begin(), part.end());
    return values;
  }
  bool untouched() const { return d_q.untouched() && d_k.untouched() && d_v.untouched(); }
  GuardedMatrix d_out, d_q, d_k, d_v;
  std::vector<float> d_sink;
};

// A score is a sum over head_dim, an output a sum over keys.
double forward_tolerance(const AttentionShape& s) { return oracle::sum_tolerance(s.head_dim + s.keys, 2); }

void expect_matches_oracle(const AttentionShape& shape, bool with_sink = false) {
  SCOPED_TRACE(testing::Message() << "batch " << shape.batch << " queries " << shape.queries << " keys " << shape.keys
                                  << " heads " << shape.heads << "/" << shape.kv_heads << " head_dim " << shape.head_dim
                                  << " value_dim " << shape.value_dim << " window " << shape.window << " softcap "
                                  << shape.softcap << " sink " << with_sink);
  Case c(shape, with_sink);
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

// The variants of published models: none, other widths of values, windows, soft caps, sinks, and all at once.
std::vector<AttentionShape> variants(const AttentionShape& shape) {
  AttentionShape values = shape, window = shape, cap = shape;
  values.value_dim = shape.head_dim / 2 + 1;
  window.window = 5;
  cap.softcap = 1.5F;
  AttentionShape all = values;
  all.value_dim = shape.head_dim + 3;
  all.window = 40;
  all.softcap = 30.0F;
  return {shape, values, window, cap, all};
}

TEST(Attention, VariantsMatchOracle) {
  on_each_target([] {
    for (const AttentionShape& shape :
         {make_shape(1, 1, 1, 1, 1, 1), make_shape(2, 9, 9, 4, 2, 6), make_shape(1, 67, 67, 2, 1, 16),
          make_shape(1, 210, 210, 2, 2, 9), make_shape(2, 12, 150, 2, 1, 8), make_shape(1, 70, 300, 3, 1, 33)})
      for (const AttentionShape& variant : variants(shape))
        for (const bool with_sink : {false, true}) expect_matches_oracle(variant, with_sink);
  });
}

TEST(Attention, VariantsOfDecodingMatchOracle) {
  on_each_target([] {
    for (const Index queries : {1, 7})
      for (const Index keys : {7, 8, 257, 600})
        // Few and many heads (or queries and heads) on one key/value head, which take different ways.
        for (const auto& [heads, kv_heads] : {std::pair<Index, Index>{4, 2}, {34, 2}, {70, 1}})
          for (const AttentionShape& variant : variants(make_shape(1, queries, keys, heads, kv_heads, 10)))
            expect_matches_oracle(variant, keys % 2 == 0);
    expect_matches_oracle(make_shape(3, 2, 40, 20, 1, 16), true);
    expect_matches_oracle(make_shape(1, 1, 10000, 16, 1, 5), true);  // more than 32 chunks of the least length
  });
}

TEST(Attention, WindowsOfEveryLengthMatchOracle) {
  for (const Index window : {1, 2, 3, 15, 16, 17, 31, 33, 47, 64, 95, 96, 97, 129, 199, 200, 201, 1000})
    for (const Index queries : {1, 8, 65, 200}) {
      AttentionShape shape = make_shape(1, queries, 200, 2, 1, 6);
      shape.window = window;
      expect_matches_oracle(shape, window % 2 == 0);
    }
}

TEST(Attention, WindowsNeverReadTheKeysBefore) {
  for (const Index queries : {1, 3, 20, 100})
    for (const Index heads : {2, 32}) {
      AttentionShape shape = make_shape(1, queries, 400, heads, 1, 8);
      shape.window = 30;
      Case c(shape);
      for (Index key = 0; key < 400 - queries + 1 - 30; ++key) {
        std::fill_n(c.k.view().row(key), c.key_cols, NAN);
        std::fill_n(c.v.view().row(key), c.value_cols, NAN);
      }
      c.forward();
      for (const float x : c.out.values()) ASSERT_TRUE(std::isfinite(x)) << queries << " queries";
    }
}

// The absorbed form of latent attention: one key/value head for all, whose values are the first columns of its keys.
TEST(Attention, ValuesMayBeColumnsOfTheKeys) {
  on_each_target([] {
    for (const Index queries : {1, 2, 11}) {
      AttentionShape s = make_shape(1, queries, 130, 20, 1, 640);
      s.value_dim = 512;
      Case c(s);
      attention_forward(s, std::as_const(c.q).view(), std::as_const(c.k).view(),
                        std::as_const(c.k).view().slice_cols(0, 512), {}, c.out.view(), c.log_sum_exp);
      c.v_values.clear();
      for (Index key = 0; key < s.keys; ++key) {
        const auto row = c.k_values.begin() + key * 640;
        c.v_values.insert(c.v_values.end(), row, row + 512);
      }
      const auto expected = c.expected();
      EXPECT_TRUE(oracle::close(c.out.values(), expected.out, forward_tolerance(s)));
      EXPECT_TRUE(oracle::close(c.log_sum_exp, expected.log_sum_exp, forward_tolerance(s)));
    }
  });
}

TEST(Attention, AHugeSinkTakesEverythingAndATinyOneNothing) {
  for (const Index queries : {1, 20})
    for (const Index heads : {2, 32}) {
      Case c(make_shape(1, queries, 50, heads, 1, 8), true);
      Case without(c.shape);
      without.forward();
      std::fill(c.sink.begin(), c.sink.end(), 1.0e4F);
      c.forward();
      EXPECT_EQ(oracle::max_abs(c.out.values()), 0.0);
      for (const float x : c.log_sum_exp) EXPECT_EQ(x, 1.0e4F);
      for (const float tiny : {-1.0e4F, -std::numeric_limits<float>::infinity()}) {
        std::fill(c.sink.begin(), c.sink.end(), tiny);
        c.forward();
        EXPECT_TRUE(oracle::same_bits(c.out.values(), without.out.values()));
      }
    }
}

TEST(Attention, SoftCapKeepsSmallScoresAndBoundsLargeOnes) {
  on_each_target([] {
    AttentionShape s = make_shape(1, 100, 100, 2, 1, 4);
    s.softcap = 30.0F;
    for (const float size : {1.0e-3F, 100.0F, 1.0e15F}) {
      Case c(s, false, 3, size);
      c.forward();
      // The error of what is capped is relative to itself; past the cap the tanh flattens it, |x| sech^2(x) < 0.5.
      const double score = std::min(0.5 * 30.0, static_cast<double>(size * size) * 20.0);
      EXPECT_TRUE(
          oracle::close(c.out.values(), c.expected().out, forward_tolerance(s) + score * oracle::sum_tolerance(4)));
    }
  });
}

TEST(Attention, DecodingGivesTheRowsOfPrefill) {
  for (const AttentionShape& whole : variants(make_shape(1, 90, 90, 4, 2, 24))) {
    Case prefill(whole, true);
    prefill.forward();
    const auto rows = prefill.out.values();
    for (Index i = 0; i < whole.queries; ++i) {
      AttentionShape one = whole;
      one.queries = 1;
      one.keys = i + 1;
      std::vector<float> out(static_cast<std::size_t>(prefill.out_cols));
      attention_forward(
          one, std::as_const(prefill.q).view().slice_rows(i, 1), std::as_const(prefill.k).view().slice_rows(0, i + 1),
          std::as_const(prefill.v).view().slice_rows(0, i + 1), prefill.sink, {out.data(), 1, prefill.out_cols}, {});
      const std::span row(rows.data() + i * prefill.out_cols, out.size());
      EXPECT_TRUE(oracle::close(out, oracle::to_double(row), forward_tolerance(one))) << "row " << i;
    }
  }
}

TEST(Attention, AGroupOfManyHeadsDecodesAsItsPrefill) {
  const AttentionShape whole = make_shape(1, 90, 90, 32, 1, 24);
  Case prefill(whole);
  prefill.forward();
  const auto rows = prefill.out.values();
  for (Index i = 0; i < whole.queries; ++i) {
    AttentionShape one = whole;
    one.queries = 1;
    one.keys = i + 1;
    std::vector<float> out(static_cast<std::size_t>(prefill.query_cols));
    attention_forward(
        one, std::as_const(prefill.q).view().slice_rows(i, 1), std::as_const(prefill.k).view().slice_rows(0, i + 1),
        std::as_const(prefill.v).view().slice_rows(0, i + 1), {}, {out.data(), 1, prefill.query_cols}, {});
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
  attention_forward(s, qkv.slice_cols(0, 24), qkv.slice_cols(24, 12), qkv.slice_cols(36, 12), {}, out.view(), {});
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
      Case c(make_shape(1, queries, 100, 2, 1, 4), false, 3, 100.0F);  // scores of about 1e4
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

// The loss is <d_out, attention(q, k, v, sink)>; x is as Case::inputs().
oracle::ScalarFunction loss(const Case& c, const std::vector<float>& d_out) {
  return [&c, &d_out](const std::vector<double>& x) {
    const auto q_end = x.begin() + static_cast<std::ptrdiff_t>(c.q_values.size());
    const auto k_end = q_end + static_cast<std::ptrdiff_t>(c.k_values.size());
    const auto v_end = k_end + static_cast<std::ptrdiff_t>(c.v_values.size());
    return oracle::dot(
        oracle::attention(c.shape, {x.begin(), q_end}, {q_end, k_end}, {k_end, v_end}, {v_end, x.end()}).out, d_out);
  };
}

TEST(Attention, BackwardIsTheGradient) {
  on_each_target([] {
    for (const AttentionShape& s :
         {make_shape(1, 1, 1, 1, 1, 1), make_shape(1, 3, 3, 2, 1, 5), make_shape(2, 9, 9, 4, 2, 3),
          make_shape(1, 18, 18, 1, 1, 17), make_shape(1, 35, 35, 2, 2, 4), make_shape(1, 67, 67, 1, 1, 2)}) {
      SCOPED_TRACE(testing::Message() << "length " << s.queries << " head_dim " << s.head_dim);
      Case c(s);
      const auto d_out = oracle::random_values(s.batch * s.queries * c.out_cols, 50);
      const Gradients g(c, d_out);
      EXPECT_TRUE(oracle::is_gradient(g.all(), loss(c, d_out), c.inputs(), s.head_dim + s.keys, 3));
      EXPECT_TRUE(g.untouched());
    }
  });
}

TEST(Attention, BackwardOfVariantsIsTheGradient) {
  std::vector<AttentionShape> shapes = variants(make_shape(2, 9, 9, 4, 2, 3));
  for (const AttentionShape& shape : variants(make_shape(1, 35, 35, 2, 2, 4))) shapes.push_back(shape);
  shapes.push_back(variants(make_shape(1, 67, 67, 1, 1, 2)).back());
  for (const AttentionShape& s : shapes) {
    SCOPED_TRACE(testing::Message() << "length " << s.queries << " head_dim " << s.head_dim << " value_dim "
                                    << s.value_dim << " window " << s.window << " softcap " << s.softcap);
    Case c(s, true);
    const auto d_out = oracle::random_values(s.batch * s.queries * c.out_cols, 50);
    const auto f = loss(c, d_out);
    const auto x = oracle::to_double(c.inputs());
    const auto expected = oracle::finite_difference(f, x);
    on_each_target([&] {
      const Gradients g(c, d_out);
      EXPECT_TRUE(oracle::close(g.all(), expected, oracle::sum_tolerance(s.head_dim + c.value_dim + s.keys, 3),
                                1.0e-9 * (1.0 + std::abs(f(x)))));
      EXPECT_TRUE(g.untouched());
    });
  }
}

TEST(Attention, GradientOfTheSinkIsAddedTo) {
  Case c(make_shape(2, 9, 9, 4, 2, 3), true);
  const auto d_out = oracle::random_values(18 * c.out_cols, 50);
  Gradients g(c, d_out);
  std::vector<float> onto(4, 2.0F);
  attention_backward(c.shape, c.q.view(), c.k.view(), c.v.view(), c.sink, c.out.view(), c.log_sum_exp, g.d_out.view(),
                     g.d_q.view(), g.d_k.view(), g.d_v.view(), onto);
  for (std::size_t i = 0; i < onto.size(); ++i) EXPECT_EQ(onto[i], 2.0F + g.d_sink[i]);
}

// Long enough for several key blocks, whose first keys fall inside a tile of queries at 1700. Checked along random
// directions, because central differences of every element would take minutes.
TEST(Attention, BackwardOfLongSequencesIsTheGradient) {
  std::vector<AttentionShape> shapes = {make_shape(1, 400, 400, 2, 1, 3), make_shape(1, 1700, 1700, 2, 1, 3)};
  for (const Index window : {1, 33, 500, 900}) {
    shapes.push_back(shapes[1]);
    shapes.back().window = window;
    shapes.back().value_dim = 5;
  }
  for (const AttentionShape& shape : shapes) {
    SCOPED_TRACE(testing::Message() << "length " << shape.queries << " window " << shape.window);
    const Index length = shape.queries;
    Case c(shape, shape.window > 0);
    const auto d_out = oracle::random_values(length * c.out_cols, 50);
    const auto f = loss(c, d_out);
    const std::vector<double> x = oracle::to_double(c.inputs());
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
      for (const Index length : {70, 800})
        for (const Index window : {0, 100}) {
          AttentionShape shape = make_shape(2, length, length, 4, 2, 20);
          shape.window = window;
          Case c(shape, window > 0);
          const Gradients g(c, oracle::random_values(2 * length * c.out_cols, 50));
          for (const auto& part : {c.out.values(), c.log_sum_exp, g.all()})
            all.insert(all.end(), part.begin(), part.end());
        }
      for (const Index heads : {4, 64}) {
        Case decode(make_shape(2, 1, 800, heads, 2, 20));
        decode.forward();
        const auto part = decode.out.values();
        all.insert(all.end(), part.begin(), part.end());
      }
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
           [](AttentionShape& s) { s.head_dim = 0; }, [](AttentionShape& s) { s.heads = 3; },
           [](AttentionShape& s) { s.value_dim = 3; }, [](AttentionShape& s) { s.value_dim = -4; },
           [](AttentionShape& s) { s.window = -1; }, [](AttentionShape& s) { s.softcap = -1.0F; },
           [](AttentionShape& s) { s.softcap = NAN; }}) {
    AttentionShape wrong = c.shape;
    change(wrong);
    EXPECT_THROW(attention_forward(wrong, c.q.view(), c.k.view(), c.v.view(), {}, c.out.view(), {}), Error);
  }
  EXPECT_THROW(attention_forward(c.shape, c.q.view(), c.k.view(), c.v.view(), {}, c.out.view(),
                                 std::span(c.log_sum_exp).first(3)),
               Error);
  const std::vector<float> sinks(3);
  EXPECT_THROW(attention_forward(c.shape, c.q.view(), c.k.view(), c.v.view(), sinks, c.out.view(), {}), Error);
  Gradients g(c, oracle::random_values(8 * c.out_cols, 50));
  std::vector<float> d_sink(4);
  EXPECT_THROW(attention_backward(c.shape, c.q.view(), c.k.view(), c.v.view(), {}, c.out.view(), c.log_sum_exp,
                                  g.d_out.view(), g.d_q.view(), g.d_k.view(), g.d_v.view(), d_sink),
               Error);
}

}  // namespace
}  // namespace switchyard::kernels
