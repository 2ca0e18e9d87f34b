// The statistics of the lab, and the rule by which a claim is judged.

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "switchyard/base/error.hpp"
#include "switchyard/train/lab.hpp"

namespace switchyard::train {
namespace {

constexpr std::array kMetrics = {
    LabMetric{"bits_per_byte", "bits", "held-out loss by byte of text", false, false},
    LabMetric{"validation_loss", "nats", "held-out loss by token", false, false},
    LabMetric{"max_violation", "", "MaxVio on all held-out text (max load / mean load - 1), mean of the layers", false,
              true},
    LabMetric{"batch_max_violation", "", "MaxVio of a training step, mean of the layers and the last quarter of steps",
              false, true},
    LabMetric{"entropy", "", "of the router's probabilities on held-out text, as a share of the most possible", false,
              true},
    LabMetric{"drop_rate", "", "share of assignments dropped in training, mean of the last quarter of steps", false,
              true},
    LabMetric{"dead_experts", "", "experts, of all layers, that got no held-out token", true, true},
    LabMetric{
        "specialisation", "",
        "Jensen-Shannon divergence of the domains' use of experts, as a share of the most possible (0: all domains "
        "use experts alike; 1: they share none)",
        false, true},
    LabMetric{"gradient_norm_max", "", "largest gradient norm before clipping, after the first tenth of the steps",
              false, false},
    LabMetric{"diverged", "", "1 where a loss or gradient became infinite or NaN", true, false},
    LabMetric{"seconds_per_step", "s", "median, one thread, other runs beside it", false, false},
    LabMetric{"train_seconds", "s", "of all steps, without evaluation", false, false},
    LabMetric{"tokens_per_second", "", "in training, by the median step", false, false},
    LabMetric{"parameters", "", "all weights", true, false},
    LabMetric{"active_parameters", "", "weights that a token uses", true, false},
};

// Density of Student's t.
double student_density(double t, double freedom) {
  const double half = (freedom + 1.0) / 2.0;
  return std::exp(std::lgamma(half) - std::lgamma(freedom / 2.0)) / std::sqrt(freedom * std::numbers::pi) *
         std::pow(1.0 + t * t / freedom, -half);
}

Verdict by_sign(Relation relation, double difference) {
  return (difference < 0.0) == (relation == Relation::kLower) ? Verdict::kAgrees : Verdict::kDisagrees;
}

}  // namespace

std::span<const LabMetric> lab_metrics() { return kMetrics; }

const LabMetric* find_lab_metric(std::string_view name) {
  const auto* found =
      std::find_if(kMetrics.begin(), kMetrics.end(), [&](const LabMetric& m) { return m.name == name; });
  return found == kMetrics.end() ? nullptr : found;
}

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAgrees:
      return "agrees";
    case Verdict::kDisagrees:
      return "disagrees";
    case Verdict::kTooSmall:
      return "too small to tell";
    case Verdict::kNoResult:
      break;
  }
  return "no result";
}

Spread spread_of(std::span<const double> values) {
  Spread spread;
  spread.count = static_cast<Index>(values.size());
  if (values.empty()) return spread;
  const auto n = static_cast<double>(values.size());
  for (const double value : values) spread.mean += value / n;
  if (values.size() < 2) return spread;
  double squares = 0.0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  spread.deviation = std::sqrt(squares / (n - 1.0));
  return spread;
}

Comparison compare(Relation relation, double within, bool count, std::span<const double> first,
                   std::span<const double> second) {
  Comparison c;
  c.first = spread_of(first);
  c.second = spread_of(second);
  if (first.empty() || second.empty()) {
    c.reason = "a run has no figure";
    return c;
  }
  c.difference = c.first.mean - c.second.mean;
  c.verdict = Verdict::kTooSmall;
  double allowance = 0.0;
  if (first.size() > 1 && second.size() > 1) {
    const auto square = [](const Spread& s) { return s.deviation * s.deviation / static_cast<double>(s.count); };
    c.error = std::sqrt(square(c.first) + square(c.second));
    allowance = 2.0 * *c.error;
  } else if (!count) {
    c.reason = "one seed shows no spread";
    return c;
  } else {
    c.reason = "a count, told from one seed";
  }
  const double distance = std::abs(c.difference);
  if (relation == Relation::kEqual) {
    if (distance + allowance <= within) c.verdict = Verdict::kAgrees;
    if (distance - allowance > within) c.verdict = Verdict::kDisagrees;
  } else if (relation == Relation::kNotHigher) {
    if (c.difference + allowance <= within) c.verdict = Verdict::kAgrees;
    if (c.difference - allowance > within) c.verdict = Verdict::kDisagrees;
  } else if (distance > allowance) {
    c.verdict = by_sign(relation, c.difference);
  }
  return c;
}

double chance_of_false_verdict(Index seeds) {
  require(seeds >= 2, "{} seeds have no spread", seeds);
  // Simpson's rule on [0, 2], where the density is smooth.
  const auto freedom = static_cast<double>(2 * seeds - 2);
  constexpr int kParts = 200;
  const double width = 2.0 / kParts;
  double inside = student_density(0.0, freedom) + student_density(2.0, freedom);
  for (int i = 1; i < kParts; ++i) inside += (i % 2 == 1 ? 4.0 : 2.0) * student_density(i * width, freedom);
  return 1.0 - 2.0 * inside * width / 3.0;
}

std::string lab_rule(Index seeds, Index comparisons) {
  std::string text =
      "A claim compares the means of two runs over their seeds. It \"agrees\" where the difference has the claimed "
      "sign "
      "and is larger than twice its standard error, sqrt(s1^2/n1 + s2^2/n2) with the sample standard deviations s of "
      "the seeds (Welch); it \"disagrees\" where it is that large with the other sign; otherwise it is \"too small to "
      "tell\". \"Equal within m\" agrees where the difference and twice its standard error lie within m, and disagrees "
      "where the difference is beyond m by more than that; \"not higher within m\" looks at one side only. A chain "
      "agrees where every pair does and disagrees where one pair does. With one seed there is no spread and no "
      "verdict, "
      "except on counts such as dead experts.";
  if (seeds < 2) return text + " These are figures of one seed.";
  const double chance = chance_of_false_verdict(seeds);
  text += fmt::format(
      " With {} seeds a run the spread itself is known poorly: two runs that are really equal differ by more than this "
      "in {:.0f} of 100 comparisons",
      seeds, 100.0 * chance);
  if (comparisons > 0) {
    text += fmt::format(", and there {} {} here, so about {:.1f} verdicts may be chance",
                        comparisons == 1 ? "is" : "are", comparisons, chance * static_cast<double>(comparisons));
  }
  return text +
         ". The sizes are far below those of the publications: a verdict is about these runs, not about large models.";
}

ClaimResult judge(const LabClaim& claim, std::span<const RunResult> results) {
  const LabMetric* metric = find_lab_metric(claim.metric);
  require(metric != nullptr, "no metric {}", claim.metric);
  const auto values_of = [&](const std::string& run) {
    std::vector<double> values;
    for (const RunResult& result : results) {
      const auto figure = result.figures.find(claim.metric);
      if (result.run == run && figure != result.figures.end()) values.push_back(figure->second);
    }
    return values;
  };
  const auto lacking = [&](const std::string& run) {
    Index diverged = 0, failed = 0, unfinished = 0;
    for (const RunResult& result : results) {
      if (result.run != run) continue;
      diverged += result.state == RunState::kDiverged ? 1 : 0;
      failed += result.state == RunState::kFailed ? 1 : 0;
      unfinished += result.state == RunState::kUnfinished ? 1 : 0;
    }
    std::string text;
    const auto add = [&](Index number, const char* what) {
      if (number > 0) text += fmt::format("{}{} {} of \"{}\"", text.empty() ? "" : ", ", what, number, run);
    };
    if (claim.metric != "diverged") add(diverged, "diverged: seeds");
    add(failed, "failed: seeds");
    add(unfinished, "not finished: seeds");
    return text;
  };
  ClaimResult result;
  Index agreeing = 0, disagreeing = 0, missing = 0;
  for (std::size_t i = 0; i + 1 < claim.runs.size(); ++i) {
    const std::vector<double> first = values_of(claim.runs[i]), second = values_of(claim.runs[i + 1]);
    Comparison c = compare(claim.relation, claim.within, metric->count, first, second);
    for (const std::string& run : {claim.runs[i], claim.runs[i + 1]}) {
      const std::string text = lacking(run);
      if (!text.empty()) c.reason += (c.reason.empty() ? "" : "; ") + text;
    }
    agreeing += c.verdict == Verdict::kAgrees ? 1 : 0;
    disagreeing += c.verdict == Verdict::kDisagrees ? 1 : 0;
    missing += c.verdict == Verdict::kNoResult ? 1 : 0;
    result.comparisons.push_back(std::move(c));
  }
  if (disagreeing > 0) {
    result.verdict = Verdict::kDisagrees;
  } else if (missing > 0) {
    result.verdict = Verdict::kNoResult;
  } else if (agreeing == static_cast<Index>(result.comparisons.size())) {
    result.verdict = Verdict::kAgrees;
  } else {
    result.verdict = Verdict::kTooSmall;
  }
  return result;
}

}  // namespace switchyard::train
