// The facts of a lab as JSON.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "switchyard/train/lab.hpp"

namespace switchyard::train {
namespace {

using Json = nlohmann::ordered_json;

const char* to_string(RunState state) {
  switch (state) {
    case RunState::kFinished:
      return "finished";
    case RunState::kDiverged:
      return "diverged";
    case RunState::kFailed:
      return "failed";
    case RunState::kUnfinished:
      break;
  }
  return "unfinished";
}

const char* to_string(Relation relation) {
  switch (relation) {
    case Relation::kLower:
      return "lower";
    case Relation::kHigher:
      return "higher";
    case Relation::kNotHigher:
      return "not-higher";
    case Relation::kEqual:
      break;
  }
  return "equal";
}

Json spread_json(const Spread& spread) {
  return {{"mean", spread.mean}, {"deviation", spread.deviation}, {"seeds", spread.count}};
}

std::string statement_of(const LabClaim& claim) {
  if (claim.relation == Relation::kEqual) {
    return fmt::format("{}: {} (equal within {:g})", claim.metric, fmt::join(claim.runs, " = "), claim.within);
  }
  if (claim.relation == Relation::kNotHigher) {
    return fmt::format("{}: {} (not higher, within {:g})", claim.metric, fmt::join(claim.runs, " <= "), claim.within);
  }
  return fmt::format("{}: {}", claim.metric, fmt::join(claim.runs, claim.relation == Relation::kLower ? " < " : " > "));
}

Json claim_json(const LabClaim& claim, const ClaimResult& judged) {
  Json json;
  json["text"] = claim.text;
  json["source"] = claim.source;
  json["published"] = claim.published;
  json["statement"] = statement_of(claim);
  json["metric"] = claim.metric;
  json["relation"] = to_string(claim.relation);
  if (claim.within > 0.0) json["within"] = claim.within;
  json["runs"] = claim.runs;
  json["verdict"] = to_string(judged.verdict);
  json["comparisons"] = Json::array();
  for (std::size_t i = 0; i < judged.comparisons.size(); ++i) {
    const Comparison& c = judged.comparisons[i];
    Json row;
    row["first"] = claim.runs[i];
    row["second"] = claim.runs[i + 1];
    row["first_spread"] = spread_json(c.first);
    row["second_spread"] = spread_json(c.second);
    row["difference"] = c.first.count > 0 && c.second.count > 0 ? Json(c.difference) : Json();
    row["standard_error"] = c.error ? Json(*c.error) : Json();
    row["verdict"] = to_string(c.verdict);
    row["reason"] = c.reason;
    json["comparisons"].push_back(std::move(row));
  }
  return json;
}

// Point by point over the seeds that finished; seeds of one recipe have their points at the same tokens.
Json mean_curve(const std::vector<const RunResult*>& results, std::vector<CurvePoint> RunResult::*curve) {
  Json json = Json::array();
  std::size_t points = 0, count = 0;
  for (const RunResult* r : results) {
    if (r->state != RunState::kFinished) continue;
    points = count == 0 ? (r->*curve).size() : std::min(points, (r->*curve).size());
    ++count;
  }
  for (std::size_t i = 0; i < points; ++i) {
    CurvePoint mean;
    for (const RunResult* r : results) {
      if (r->state != RunState::kFinished) continue;
      mean.tokens += (r->*curve)[i].tokens / static_cast<double>(count);
      mean.seconds += (r->*curve)[i].seconds / static_cast<double>(count);
      mean.value += (r->*curve)[i].value / static_cast<double>(count);
    }
    json.push_back({mean.tokens, mean.seconds, mean.value});
  }
  return json;
}

Json run_json(const LabRun& run, std::span<const RunResult> all) {
  std::vector<const RunResult*> results;
  for (const RunResult& result : all) {
    if (result.run == run.name) results.push_back(&result);
  }
  Json json;
  json["name"] = run.name;
  json["about"] = run.about;
  json["figures"] = Json::object();
  for (const LabMetric& metric : lab_metrics()) {
    std::vector<double> values;
    for (const RunResult* r : results) {
      if (const auto found = r->figures.find(metric.name); found != r->figures.end()) values.push_back(found->second);
    }
    if (!values.empty()) json["figures"][metric.name] = spread_json(spread_of(values));
  }
  std::set<std::string> domains;
  for (const RunResult* r : results) {
    for (const auto& [name, bits] : r->domains) domains.insert(name);
  }
  json["domains"] = Json::object();
  for (const std::string& name : domains) {
    std::vector<double> values;
    for (const RunResult* r : results) {
      if (const auto found = r->domains.find(name); found != r->domains.end()) values.push_back(found->second);
    }
    json["domains"][name] = spread_json(spread_of(values));
  }
  json["seeds"] = Json::array();
  for (const RunResult* r : results) {
    Json row{{"seed", r->seed}, {"state", to_string(r->state)}};
    if (!r->message.empty()) row["message"] = r->message;
    row["figures"] = r->figures;
    json["seeds"].push_back(std::move(row));
  }
  json["loss"] = mean_curve(results, &RunResult::loss);
  json["held_out"] = mean_curve(results, &RunResult::held_out);
  json["max_violation"] = mean_curve(results, &RunResult::violation);
  return json;
}

}  // namespace

std::string lab_report(const Lab& lab, const LabOptions& options, std::span<const RunResult> results) {
  const Recipe& recipe = lab.runs.front().recipe;
  const TrainConfig& t = recipe.train;
  Json json;
  json["version"] = 1;
  json["title"] = lab.title;
  json["source"] = lab.source;
  json["quick"] = lab.quick;
  json["seeds"] = lab.seeds;
  json["jobs"] = options.jobs;
  json["tokens_a_run"] = t.steps * t.batch * t.sequence * t.accumulate;
  json["sequence"] = t.sequence;
  json["data"] = {{"paths", recipe.data.paths},
                  {"tokenizer", recipe.data.tokenizer},
                  {"vocab", recipe.data.vocab},
                  {"held_out_share", recipe.data.validation}};
  json["metrics"] = Json::array();
  for (const LabMetric& metric : lab_metrics()) {
    json["metrics"].push_back({{"name", metric.name}, {"unit", metric.unit}, {"meaning", metric.meaning}});
  }
  Index comparisons = 0;
  json["claims"] = Json::array();
  for (const LabClaim& claim : lab.claims) {
    const ClaimResult judged = judge(claim, results);
    comparisons += static_cast<Index>(judged.comparisons.size());
    json["claims"].push_back(claim_json(claim, judged));
  }
  json["rule"] = lab_rule(lab.seeds, comparisons);
  json["runs"] = Json::array();
  for (const LabRun& run : lab.runs) json["runs"].push_back(run_json(run, results));
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace switchyard::train
