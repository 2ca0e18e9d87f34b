// The rule of the verdicts on numbers made by hand, and the report's facts.

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "support.hpp"
#include "switchyard/train/lab.hpp"

namespace switchyard::train {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Verdict verdict(Relation relation, double within, bool count, const std::vector<double>& first,
                const std::vector<double>& second) {
  return compare(relation, within, count, first, second).verdict;
}

TEST(LabVerdict, SpreadIsTheSampleStandardDeviation) {
  const std::vector<double> values = {2, 4, 4, 4, 5, 5, 7, 9};
  const Spread spread = spread_of(values);
  EXPECT_EQ(spread.count, 8);
  EXPECT_DOUBLE_EQ(spread.mean, 5.0);
  EXPECT_DOUBLE_EQ(spread.deviation, std::sqrt(32.0 / 7.0));
  EXPECT_EQ(spread_of(std::vector<double>{3.0}).deviation, 0.0);
  EXPECT_EQ(spread_of({}).count, 0);
}

TEST(LabVerdict, DifferenceIsMeasuredByTheStandardError) {
  // Deviations 1 and 2 of 3 seeds each: standard error sqrt(1/3 + 4/3) = 1.291, so 2.582 is needed.
  const std::vector<double> first = {9, 10, 11};
  const auto second = [](double mean) { return std::vector<double>{mean - 2.0, mean, mean + 2.0}; };
  const Comparison c = compare(Relation::kLower, 0.0, false, first, second(12.0));
  EXPECT_DOUBLE_EQ(c.difference, -2.0);
  EXPECT_DOUBLE_EQ(c.error.value(), std::sqrt(5.0 / 3.0));
  EXPECT_EQ(c.verdict, Verdict::kTooSmall);
  EXPECT_EQ(verdict(Relation::kLower, 0.0, false, first, second(12.58)), Verdict::kTooSmall);
  EXPECT_EQ(verdict(Relation::kLower, 0.0, false, first, second(12.59)), Verdict::kAgrees);
  EXPECT_EQ(verdict(Relation::kLower, 0.0, false, first, second(7.41)), Verdict::kDisagrees);
  EXPECT_EQ(verdict(Relation::kHigher, 0.0, false, first, second(7.41)), Verdict::kAgrees);
  EXPECT_EQ(verdict(Relation::kHigher, 0.0, false, first, second(12.59)), Verdict::kDisagrees);
}

TEST(LabVerdict, EqualAndNotHigherNeedTheMargin) {
  const std::vector<double> first = {0.99, 1.0, 1.01};  // twice the standard error against itself: 0.0163
  const auto shifted = [](double by) { return std::vector<double>{0.99 + by, 1.0 + by, 1.01 + by}; };
  EXPECT_EQ(verdict(Relation::kEqual, 0.02, false, first, shifted(0.0)), Verdict::kAgrees);
  EXPECT_EQ(verdict(Relation::kEqual, 0.01, false, first, shifted(0.0)), Verdict::kTooSmall);
  EXPECT_EQ(verdict(Relation::kEqual, 0.02, false, first, shifted(0.03)), Verdict::kTooSmall);
  EXPECT_EQ(verdict(Relation::kEqual, 0.02, false, first, shifted(0.04)), Verdict::kDisagrees);
  EXPECT_EQ(verdict(Relation::kEqual, 0.02, false, first, shifted(-0.04)), Verdict::kDisagrees);
  EXPECT_EQ(verdict(Relation::kNotHigher, 0.02, false, first, shifted(0.04)), Verdict::kAgrees);
  EXPECT_EQ(verdict(Relation::kNotHigher, 0.02, false, first, shifted(-0.01)), Verdict::kTooSmall);
  EXPECT_EQ(verdict(Relation::kNotHigher, 0.02, false, first, shifted(-0.04)), Verdict::kDisagrees);
}

TEST(LabVerdict, OneSeedTellsOnlyCounts) {
  EXPECT_EQ(verdict(Relation::kLower, 0.0, false, {1.0}, {100.0}), Verdict::kTooSmall);
  EXPECT_EQ(verdict(Relation::kLower, 0.0, false, {1.0, 1.1}, {100.0}), Verdict::kTooSmall);
  EXPECT_THAT(compare(Relation::kLower, 0.0, false, std::vector{1.0}, std::vector{100.0}).reason,
              HasSubstr("one seed"));
  EXPECT_EQ(verdict(Relation::kLower, 0.0, true, {1.0}, {100.0}), Verdict::kAgrees);
  EXPECT_EQ(verdict(Relation::kHigher, 0.0, true, {1.0}, {100.0}), Verdict::kDisagrees);
  EXPECT_EQ(verdict(Relation::kLower, 0.0, true, {5.0}, {5.0}), Verdict::kTooSmall);
  EXPECT_THAT(compare(Relation::kLower, 0.0, true, std::vector{1.0}, std::vector{2.0}).reason, HasSubstr("one seed"));
  EXPECT_EQ(verdict(Relation::kLower, 0.0, true, {}, {1.0}), Verdict::kNoResult);
}

TEST(LabVerdict, EqualFiguresTellNothing) {
  EXPECT_EQ(verdict(Relation::kLower, 0.0, false, {2.0, 2.0}, {2.0, 2.0}), Verdict::kTooSmall);
  EXPECT_EQ(verdict(Relation::kLower, 0.0, true, {0.0, 0.0}, {3.0, 3.0}), Verdict::kAgrees);  // no spread at all
}

TEST(LabVerdict, ChanceIsTheTailOfStudentsT) {
  // With 2 degrees of freedom the tail beyond t is 1 - t / sqrt(2 + t^2).
  EXPECT_NEAR(chance_of_false_verdict(2), 1.0 - 2.0 / std::sqrt(6.0), 1e-9);
  // With 4: 1 - (t / sqrt(4 + t^2)) (1 + 2 / (4 + t^2)).
  EXPECT_NEAR(chance_of_false_verdict(3), 1.0 - 2.0 / std::sqrt(8.0) * (1.0 + 2.0 / 8.0), 1e-9);
  EXPECT_NEAR(chance_of_false_verdict(1000), 0.0456, 2e-4);  // close to the normal distribution's
  EXPECT_THAT(lab_rule(3, 10), HasSubstr("12 of 100 comparisons, and there are 10 here, so about 1.2"));
  EXPECT_THAT(lab_rule(1, 10), Not(HasSubstr("of 100")));
}

class Claims : public ::testing::Test {
 protected:
  void add(const std::string& run, std::uint64_t seed, double loss, RunState state = RunState::kFinished) {
    RunResult result;
    result.run = run;
    result.seed = seed;
    result.state = state;
    if (state == RunState::kFinished) {
      result.figures["bits_per_byte"] = loss;
      result.figures["train_seconds"] = 1.0;
      result.loss = {{10.0, 0.5, loss + 1.0}, {20.0, 1.0, loss}};
      result.domains["prose"] = loss;
    } else {
      result.message = "went \"wrong\"";
    }
    results_.push_back(result);
  }
  LabClaim claim(std::vector<std::string> runs) {
    LabClaim claim;
    claim.text = "a claim";
    claim.metric = "bits_per_byte";
    claim.runs = std::move(runs);
    return claim;
  }
  Verdict judged(std::vector<std::string> runs) { return judge(claim(std::move(runs)), results_).verdict; }
  void three(const std::string& run, double loss) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) add(run, seed, loss + 0.01 * static_cast<double>(seed));
  }

  std::vector<RunResult> results_;
};

TEST_F(Claims, AChainIsAsGoodAsItsPairs) {
  three("a", 1.0);
  three("b", 2.0);
  three("c", 3.0);
  three("d", 3.001);
  EXPECT_EQ(judged({"a", "b", "c"}), Verdict::kAgrees);
  EXPECT_EQ(judged({"a", "b", "c", "d"}), Verdict::kTooSmall);
  EXPECT_EQ(judged({"b", "a", "d"}), Verdict::kDisagrees);
  EXPECT_EQ(judge(claim({"a", "b", "c", "d"}), results_).comparisons.size(), 3U);
}

TEST_F(Claims, MissingRunsAreSaid) {
  three("a", 1.0);
  add("b", 1, 0.0, RunState::kDiverged);
  add("b", 2, 0.0, RunState::kFailed);
  add("b", 3, 0.0, RunState::kUnfinished);
  const ClaimResult none = judge(claim({"a", "b"}), results_);
  EXPECT_EQ(none.verdict, Verdict::kNoResult);
  EXPECT_THAT(none.comparisons[0].reason, HasSubstr("diverged: seeds 1 of \"b\""));
  EXPECT_THAT(none.comparisons[0].reason, HasSubstr("failed: seeds 1 of \"b\""));
  EXPECT_THAT(none.comparisons[0].reason, HasSubstr("not finished: seeds 1 of \"b\""));
  // Two seeds of three are judged, and the third is said.
  results_[3] = results_[0];
  results_[4] = results_[1];
  results_[3].run = results_[4].run = "b";
  results_[3].figures["bits_per_byte"] = 3.0;
  results_[4].figures["bits_per_byte"] = 3.1;
  const ClaimResult some = judge(claim({"a", "b"}), results_);
  EXPECT_EQ(some.verdict, Verdict::kAgrees);
  EXPECT_EQ(some.comparisons[0].second.count, 2);
  EXPECT_THAT(some.comparisons[0].reason, HasSubstr("not finished: seeds 1"));
}

TEST_F(Claims, DivergingIsACount) {
  add("a", 1, 1.0);
  add("b", 1, 0.0, RunState::kDiverged);
  results_[0].figures["diverged"] = 0.0;
  results_[1].figures["diverged"] = 1.0;
  LabClaim diverges = claim({"a", "b"});
  diverges.metric = "diverged";
  const ClaimResult result = judge(diverges, results_);
  EXPECT_EQ(result.verdict, Verdict::kAgrees);
  EXPECT_THAT(result.comparisons[0].reason, Not(HasSubstr("diverged: seeds")));
}

TEST_F(Claims, TheReportHasEveryFact) {
  Lab lab;
  lab.title = "T";
  lab.seeds = 3;
  lab.runs = {{"a", "first", tiny_recipe("text.txt")}, {"b", "", tiny_recipe("text.txt")}};
  lab.claims = {claim({"a", "b"})};
  three("a", 1.0);
  add("b", 1, 2.0);
  add("b", 2, 2.1);
  add("b", 3, 0.0, RunState::kFailed);
  LabOptions options;
  options.jobs = 2;
  const auto json = nlohmann::json::parse(lab_report(lab, options, results_));
  EXPECT_EQ(json["title"], "T");
  EXPECT_EQ(json["tokens_a_run"], 12 * 3 * 20);
  EXPECT_EQ(json["claims"][0]["verdict"], "agrees");
  EXPECT_EQ(json["claims"][0]["statement"], "bits_per_byte: a < b");
  EXPECT_NEAR(json["claims"][0]["comparisons"][0]["difference"], 1.02 - 2.05, 1e-12);
  EXPECT_EQ(json["claims"][0]["comparisons"][0]["second_spread"]["seeds"], 2);
  EXPECT_EQ(json["rule"], lab_rule(3, 1));
  const auto& b = json["runs"][1];
  EXPECT_EQ(b["seeds"][2]["state"], "failed");
  EXPECT_EQ(b["seeds"][2]["message"], "went \"wrong\"");
  EXPECT_NEAR(b["figures"]["bits_per_byte"]["mean"], 2.05, 1e-12);
  EXPECT_NEAR(b["figures"]["bits_per_byte"]["deviation"], std::sqrt(0.005), 1e-12);
  EXPECT_NEAR(b["domains"]["prose"]["mean"], 2.05, 1e-12);
  ASSERT_EQ(b["loss"].size(), 2U);
  EXPECT_NEAR(b["loss"][1][2], 2.05, 1e-12);  // of the seeds that finished
  EXPECT_EQ(b["loss"][1][0], 20.0);
}

}  // namespace
}  // namespace switchyard::train
