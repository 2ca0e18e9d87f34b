#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "oracle/balance.hpp"
#include "oracle/finite_difference.hpp"
#include "support.hpp"
#include "switchyard/moe/losses.hpp"
#include "switchyard/moe/weights.hpp"

namespace switchyard::moe {
namespace {

const RouterLoss& loss_named(std::string_view name) {
  for (const RouterLoss& loss : router_losses())
    if (loss.name == name) return loss;
  throw std::logic_error("no such loss");
}

// A router's output for some tokens, in float32 for the losses and in double for the oracle.
struct Case {
  MoeConfig config;
  Index tokens, experts;
  std::vector<std::uint8_t> valid_T;
  std::vector<float> logits_TE, scores_TE;
  Assignments list;
  std::vector<Index> before_E;
  Index sequence = 0;

  Case(const std::string& score, Index token_count, Index expert_count, Index k, bool padded)
      : tokens(token_count), experts(expert_count), logits_TE(oracle::random_values(tokens * experts, 1, 1.5F)) {
    if (padded) valid_T = some_padding(tokens, 2);
    config.router.score = score;
    config.router.experts = experts;
    config.router.top_k = k;
    scores_TE.resize(logits_TE.size());
    find_score_function(score).forward(config.router, matrix_of(logits_TE, experts), matrix_of(scores_TE, experts));
    list = select("top-k", scores_TE, experts, k, {}, valid_T);
    find_weight_rule("none").forward(config.router, list);
  }
  LossInput input() const {
    return {.config = config,
            .logits_TR = matrix_of(logits_TE, experts),
            .scores_TE = matrix_of(scores_TE, experts),
            .assignments = list,
            .valid_T = valid_T,
            .sequence = sequence,
            .load_before_E = before_E,
            .clean_logits_TR = {},
            .noise_std_TR = {}};
  }
  oracle::BalanceProblem problem() const {
    oracle::BalanceProblem p;
    p.tokens = tokens;
    p.experts = experts;
    p.top_k = config.router.top_k;
    p.devices = config.balance.devices;
    p.devices_a_token = std::min(p.devices, p.top_k);
    p.sequence = sequence;
    p.first_only = config.balance.load_balance_counts == "first";
    p.before_E = {before_E.begin(), before_E.end()};
    p.valid_T = valid_T;
    p.choices = choices_of(list);
    return p;
  }
  // What losses take as probabilities.
  oracle::Values probabilities(const oracle::Values& logits) const {
    oracle::Values p =
        oracle::moe_scores(config.router.score == "logits" ? "softmax" : config.router.score, logits, experts);
    for (Index t = 0; t < tokens; ++t) {
      double sum = 0.0;
      for (Index e = 0; e < experts; ++e) sum += p[static_cast<std::size_t>(t * experts + e)];
      for (Index e = 0; e < experts; ++e) p[static_cast<std::size_t>(t * experts + e)] /= sum;
    }
    return p;
  }

  // dL/dlogits of a loss that is a function of the probabilities, started at one everywhere, against differences of
  // `value`, a function of the logits.
  void expect_gradient(const RouterLoss& loss, const oracle::ScalarFunction& value) const {
    std::vector<float> d_scores_TE(scores_TE.size(), 0.0F), d_logits_TE(logits_TE.size(), 1.0F);
    loss.backward(input(), 3.0F, {matrix_of(d_scores_TE, experts), matrix_of(d_logits_TE, experts), {}});
    find_score_function(config.router.score)
        .backward(config.router, input().logits_TR, input().scores_TE, matrix_of(d_scores_TE, experts),
                  matrix_of(d_logits_TE, experts));
    const auto whole = [&](const std::vector<double>& logits) {
      return 3.0 * value(logits) + std::accumulate(logits.begin(), logits.end(), 0.0);
    };
    const double rounding = oracle::sum_tolerance(experts, 4);
    EXPECT_TRUE(
        oracle::close(d_logits_TE, oracle::finite_difference(whole, oracle::to_double(logits_TE)), rounding, rounding));
  }
};

// Every loss of probabilities and counts, in every circumstance, value and gradient.
TEST(BalanceLosses, AgreeWithTheOracle) {
  for (const char* score : {"softmax", "sigmoid", "logits"})
    for (const Index experts : {1, 2, 6, 17})
      for (const Index tokens : {0, 1, 7, 12})
        for (const bool padded : {false, true}) {
          SCOPED_TRACE(testing::Message() << score << " E=" << experts << " T=" << tokens << " padded " << padded);
          Case c(score, tokens, experts, (experts + 1) / 2, padded);
          c.config.balance.devices = experts % 3 == 0 ? 3 : experts;
          const oracle::Values p_TE = c.probabilities(oracle::to_double(c.logits_TE));
          const bool some = c.list.size() > 0;
          const auto expect_value = [&](const char* name, double expected) {
            EXPECT_NEAR(loss_named(name).forward(c.input()), expected,
                        (1.0 + expected) * oracle::sum_tolerance(experts, 4))
                << name;
          };
          expect_value("usage_variance", oracle::usage_variance(c.problem()));
          expect_value("device", oracle::device(c.problem(), p_TE));
          expect_value("communication", oracle::communication(c.problem(), p_TE));
          expect_value("entropy", oracle::entropy(c.problem(), p_TE));
          if (!some) continue;
          c.expect_gradient(loss_named("usage_variance"), [&](const std::vector<double>& x) {
            return oracle::usage_variance_surrogate(c.problem(), c.probabilities(x));
          });
          c.expect_gradient(loss_named("device"), [&](const std::vector<double>& x) {
            return oracle::device(c.problem(), c.probabilities(x));
          });
          c.expect_gradient(loss_named("communication"), [&](const std::vector<double>& x) {
            return oracle::communication(c.problem(), c.probabilities(x));
          });
          c.expect_gradient(loss_named("entropy"), [&](const std::vector<double>& x) {
            return oracle::entropy(c.problem(), c.probabilities(x));
          });
        }
}

TEST(BalanceLosses, LoadBalanceInEveryScopeAndCount) {
  for (const char* score : {"softmax", "sigmoid", "logits"})
    for (const char* scope : {"micro-batch", "sequence", "global-batch"})
      for (const char* counts : {"all", "first"})
        for (const Index sequence : {0, 1, 4, 5})
          for (const bool padded : {false, true}) {
            SCOPED_TRACE(testing::Message()
                         << score << " " << scope << " " << counts << " sequence " << sequence << " padded " << padded);
            Case c(score, 14, 5, 2, padded);
            c.config.balance.load_balance_scope = scope;
            c.config.balance.load_balance_counts = counts;
            c.sequence = sequence;
            if (scope == std::string("global-batch")) c.before_E = {3, 0, 11, 2, 7};
            oracle::BalanceProblem problem = c.problem();
            if (scope != std::string("sequence")) problem.sequence = 0;
            const auto value = [&](const std::vector<double>& x) {
              return oracle::load_balance(problem, c.probabilities(x));
            };
            const double expected = value(oracle::to_double(c.logits_TE));
            EXPECT_NEAR(load_balance_loss(c.input()), expected, expected * oracle::sum_tolerance(14, 4));
            c.expect_gradient(loss_named("load_balance"), value);
          }
}

TEST(BalanceLosses, LoadBalanceIsThatOfWhatWasChosenNotOfWhereItWent) {
  Case c("softmax", 9, 4, 2, false);
  const float before = load_balance_loss(c.input());
  c.list.chosen_A = c.list.expert_A;
  for (std::int32_t& expert : c.list.expert_A) expert = 3;
  EXPECT_EQ(load_balance_loss(c.input()), before);
  EXPECT_FLOAT_EQ(loss_named("usage_variance").forward(c.input()),
                  static_cast<float>(oracle::usage_variance(c.problem())));
}

TEST(BalanceLosses, OfEvenAndCollapsedRouting) {
  MoeConfig config;
  config.router.experts = 4;
  config.router.top_k = 1;
  config.balance.devices = 2;
  const auto value = [&](const char* name, const std::vector<float>& p_TE) {
    const Assignments list = select("top-k", p_TE, 4, 1);
    const LossInput input{.config = config,
                          .logits_TR = matrix_of(p_TE, 4),
                          .scores_TE = matrix_of(p_TE, 4),
                          .assignments = list,
                          .valid_T = {},
                          .sequence = 0,
                          .load_before_E = {},
                          .clean_logits_TR = {},
                          .noise_std_TR = {}};
    return loss_named(name).forward(input);
  };
  std::vector<float> even(16, 0.0F), one(16, 0.0F);
  for (std::size_t t = 0; t < 4; ++t) even[5 * t] = one[4 * t] = 1.0F;
  EXPECT_FLOAT_EQ(value("usage_variance", even), 0.0F);
  EXPECT_FLOAT_EQ(value("usage_variance", one), 3.0F);
  EXPECT_FLOAT_EQ(value("device", even), 1.0F);
  EXPECT_FLOAT_EQ(value("device", one), 2.0F);
  EXPECT_FLOAT_EQ(value("communication", even), 1.0F);
  EXPECT_FLOAT_EQ(value("communication", one), 2.0F);
  EXPECT_FLOAT_EQ(value("entropy", one), 0.0F);
  EXPECT_FLOAT_EQ(value("entropy", std::vector<float>(16, 0.25F)), std::log(4.0F));
  EXPECT_FLOAT_EQ(value("load_cv", even), 0.0F);
  EXPECT_FLOAT_EQ(value("load_cv", one), 3.0F);  // counts (4, 0, 0, 0): variance 3, mean 1
  config.router.normalise = "none";
  EXPECT_FLOAT_EQ(value("importance_cv", one), 3.0F);
}

TEST(BalanceLosses, GroupsOfSelectionLimitTheMessages) {
  Case c("softmax", 12, 8, 4, false);
  c.config.balance.devices = 4;
  c.config.router.groups = 4;
  c.config.router.groups_kept = 2;
  oracle::BalanceProblem problem = c.problem();
  problem.devices_a_token = 2;
  const double expected = oracle::communication(problem, c.probabilities(oracle::to_double(c.logits_TE)));
  EXPECT_NEAR(loss_named("communication").forward(c.input()), expected, 1e-5);
}

TEST(BalanceLosses, EntropyOfCertaintyHasAFiniteGradient) {
  Case c("softmax", 3, 4, 1, false);
  for (std::size_t i = 0; i < c.scores_TE.size(); ++i) c.scores_TE[i] = i % 4 == 0 ? 1.0F : 0.0F;
  std::vector<float> d_scores_TE(12, 0.0F);
  loss_named("entropy").backward(c.input(), 1.0F, {matrix_of(d_scores_TE, 4), {}, {}});
  for (const float d : d_scores_TE) EXPECT_TRUE(std::isfinite(d));
}

// By way of the weights, whatever the rule.
TEST(BalanceLosses, ImportanceAgreesWithTheOracle) {
  for (const char* normalise : {"none", "sum", "p-norm", "softmax"})
    for (const Index experts : {1, 2, 5, 17})
      for (const Index tokens : {0, 1, 9})
        for (const bool padded : {false, true}) {
          SCOPED_TRACE(testing::Message() << normalise << " E=" << experts << " T=" << tokens << " padded " << padded);
          Case c("softmax", tokens, experts, (experts + 1) / 2, padded);
          c.config.router.normalise = normalise;
          c.config.router.norm_p = 2.0F;
          c.config.router.scale = 1.5F;
          for (std::size_t a = 0; a < c.list.dropped_A.size(); a += 3) c.list.dropped_A[a] = 1;  // drops do not matter
          const auto value = [&](const std::vector<double>& scores) {
            std::vector<oracle::MoeChoice> choices = choices_of(c.list);
            for (std::size_t a = 0; a < choices.size(); ++a) choices[a].score = scores[a];
            oracle::weigh(normalise, 1.5, choices, 2.0);
            return oracle::importance_cv(choices, experts);
          };
          const double expected = value(oracle::to_double(c.list.score_A));
          const double rounding = oracle::sum_tolerance(tokens * experts, 4);
          EXPECT_NEAR(loss_named("importance_cv").forward(c.input()), expected, (1.0 + expected) * rounding);
          std::vector<float> d_score_A(c.list.score_A.size(), 1.0F);
          loss_named("importance_cv").backward(c.input(), 3.0F, {{}, {}, {}, d_score_A});
          const auto whole = [&](const std::vector<double>& x) {
            return 3.0 * value(x) + std::accumulate(x.begin(), x.end(), 0.0);
          };
          // Slopes of weights that are divided by small sums are large and cancel.
          EXPECT_TRUE(oracle::close(d_score_A, oracle::finite_difference(whole, oracle::to_double(c.list.score_A)),
                                    4.0 * rounding, 4.0 * rounding));
        }
}

// clean, std and the draws that make the noisy logits of them.
struct NoisyCase : Case {
  std::vector<float> clean_TE, std_TE, draw_TE;
  NoisyCase(Index token_count, Index expert_count, Index k, bool padded)
      : Case("softmax", token_count, expert_count, k, padded),
        clean_TE(oracle::random_values(tokens * experts, 5)),
        std_TE(oracle::random_values(tokens * experts, 6, 0.3F)),
        draw_TE(oracle::random_values(tokens * experts, 7)) {
    for (std::size_t i = 0; i < clean_TE.size(); ++i) {
      std_TE[i] = 0.7F + std::abs(std_TE[i]);
      logits_TE[i] = clean_TE[i] + std_TE[i] * draw_TE[i];
    }
  }
  LossInput noisy_input() const {
    LossInput i = input();
    i.clean_logits_TR = matrix_of(clean_TE, experts);
    i.noise_std_TR = matrix_of(std_TE, experts);
    return i;
  }
};

TEST(BalanceLosses, SmoothLoadAgreesWithTheOracle) {
  for (const Index experts : {2, 5, 17})
    for (const Index tokens : {1, 6})
      for (const Index k : {Index{1}, (experts + 1) / 2})
        for (const bool padded : {false, true}) {
          if (k >= experts) continue;
          SCOPED_TRACE(testing::Message() << "E=" << experts << " T=" << tokens << " K=" << k << " padded " << padded);
          const NoisyCase c(tokens, experts, k, padded);
          const oracle::Values clean = oracle::to_double(c.clean_TE), std = oracle::to_double(c.std_TE),
                               draw = oracle::to_double(c.draw_TE);
          const double expected = oracle::load_cv(c.problem(), clean, std, draw);
          const double rounding = oracle::sum_tolerance(tokens * experts, 4);
          EXPECT_NEAR(loss_named("load_cv").forward(c.noisy_input()), expected, (1.0 + expected) * rounding);

          // As the layer puts them together: d_clean = d_noisy, d_std += draw * d_noisy.
          std::vector<float> d_logits_TE(c.logits_TE.size(), 0.0F), d_std_TE(c.logits_TE.size(), 0.0F);
          loss_named("load_cv").backward(c.noisy_input(), 2.0F,
                                         {{}, matrix_of(d_logits_TE, experts), matrix_of(d_std_TE, experts)});
          for (std::size_t i = 0; i < d_std_TE.size(); ++i) d_std_TE[i] += d_logits_TE[i] * c.draw_TE[i];
          const auto of_clean = [&](const std::vector<double>& x) {
            return 2.0 * oracle::load_cv(c.problem(), x, std, draw);
          };
          const auto of_std = [&](const std::vector<double>& x) {
            return 2.0 * oracle::load_cv(c.problem(), clean, x, draw);
          };
          EXPECT_TRUE(oracle::close(d_logits_TE, oracle::finite_difference(of_clean, clean), rounding, rounding));
          EXPECT_TRUE(oracle::close(d_std_TE, oracle::finite_difference(of_std, std), rounding, rounding));
        }
}

TEST(BalanceLosses, NoNoiseOrEveryExpertChosenIsALoadOfCounts) {
  const NoisyCase all(6, 4, 4, false);
  EXPECT_EQ(loss_named("load_cv").forward(all.noisy_input()), 0.0F);
  std::vector<float> d(24, 0.0F);
  loss_named("load_cv").backward(all.noisy_input(), 1.0F, {{}, matrix_of(d, 4), matrix_of(d, 4)});
  EXPECT_THAT(d, testing::Each(0.0F));
  // A deviation of zero is a step.
  NoisyCase sure(6, 4, 1, false);
  std::fill(sure.std_TE.begin(), sure.std_TE.end(), 0.0F);
  sure.logits_TE = sure.clean_TE;
  sure.list = select("top-k", sure.clean_TE, 4, 1);
  EXPECT_FLOAT_EQ(loss_named("load_cv").forward(sure.noisy_input()),
                  static_cast<float>(oracle::usage_variance(sure.problem())));
  loss_named("load_cv").backward(sure.noisy_input(), 1.0F, {{}, matrix_of(d, 4), matrix_of(d, 4)});
  EXPECT_THAT(d, testing::Each(0.0F));
}

TEST(BalanceLosses, OnlyPaddingIsNoLoss) {
  Case c("softmax", 3, 4, 2, false);
  c.valid_T = {0, 0, 0};
  c.list = select("top-k", c.scores_TE, 4, 2, {}, c.valid_T);
  std::vector<float> d(12, 0.0F);
  for (const RouterLoss& loss : router_losses()) {
    EXPECT_EQ(loss.forward(c.input()), 0.0F) << loss.name;
    loss.backward(c.input(), 1.0F, {matrix_of(d, 4), matrix_of(d, 4), matrix_of(d, 4), {}});
  }
  EXPECT_THAT(d, testing::Each(0.0F));
}

}  // namespace
}  // namespace switchyard::moe
