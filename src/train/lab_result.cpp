#include "lab_result.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int kVersion = 1;
// Points a curve: enough for a chart of a few hundred pixels.
constexpr Index kPoints = 100;

// Every access that a damaged file could break ends in an Error that names the file.
template <class F>
auto reading(const fs::path& file, F&& f) {
  try {
    return f();
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::kBadInput, "{}: damaged: {}", file.string(), error.what());
  }
}

// Sums values and drops what was not finite (written as null).
class Mean {
 public:
  void add(const Json& value) {
    if (!value.is_null()) add(value.get<double>());
  }
  void add(double value) {
    sum_ += value;
    ++count_;
  }
  void clear() { *this = Mean(); }
  bool any() const { return count_ > 0; }
  double value() const { return sum_ / static_cast<double>(count_); }

 private:
  double sum_ = 0.0;
  Index count_ = 0;
};

double median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Mean mean_of_layers(const Json& line, const char* key) {
  Mean mean;
  for (const Json& layer : line.at("layers")) mean.add(layer.at(key));
  return mean;
}

void read_metrics(const fs::path& file, const TrainConfig& t, RunResult& result) {
  const auto tokens_of = [&](Index step) { return static_cast<double>(step * t.batch * t.sequence * t.accumulate); };
  const Index group = ceil_div(t.steps, kPoints);
  const std::string text = read_file(file, std::size_t{1} << 33);
  std::vector<double> step_seconds;
  double seconds = 0.0, norm = 0.0;
  Mean loss, violation, late_violation, late_drop;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;
    const auto line =
        Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin), text.begin() + static_cast<std::ptrdiff_t>(end));
    begin = end + 1;
    const std::string kind = line.at("kind");
    const auto step = line.at("step").get<Index>();
    if (kind == "evaluation") {
      result.held_out.push_back({tokens_of(step), seconds, line.at("bits_per_byte").get<double>()});
    }
    if (kind != "step") continue;
    step_seconds.push_back(line.at("seconds").get<double>());
    seconds += step_seconds.back();
    if (step * 10 > t.steps && !line.at("gradient_norm").is_null()) {
      norm = std::max(norm, line.at("gradient_norm").get<double>());
    }
    loss.add(line.at("bits_per_byte"));
    if (line.contains("layers")) {
      const Mean here = mean_of_layers(line, "max_violation");
      violation.add(here.value());
      if (step * 4 > t.steps * 3) {
        late_violation.add(here.value());
        late_drop.add(mean_of_layers(line, "drop_rate").value());
      }
    }
    if (step % group != 0 && step != t.steps) continue;
    if (loss.any()) result.loss.push_back({tokens_of(step), seconds, loss.value()});
    if (violation.any()) result.violation.push_back({tokens_of(step), seconds, violation.value()});
    loss.clear();
    violation.clear();
  }
  auto& f = result.figures;
  f["gradient_norm_max"] = norm;
  f["train_seconds"] = seconds;
  f["seconds_per_step"] = median(step_seconds);
  if (f["seconds_per_step"] > 0.0) f["tokens_per_second"] = tokens_of(1) / f["seconds_per_step"];
  if (late_violation.any()) f["batch_max_violation"] = late_violation.value();
  if (late_drop.any()) f["drop_rate"] = late_drop.value();
}

double entropy_of(const std::vector<double>& shares) {
  double sum = 0.0;
  for (const double p : shares) sum -= p > 0.0 ? p * std::log(p) : 0.0;
  return sum;
}

// The divergence of the domains' shares of experts, each domain counting the same (Lin 1991, generalised
// Jensen-Shannon): the entropy of their mean less the mean of their entropies, at most log(domains).
std::optional<double> specialisation_of(const Json& load_by_domain) {
  std::vector<double> mean;
  double entropies = 0.0;
  Index domains = 0;
  for (const Json& loads : load_by_domain) {
    auto shares = loads.get<std::vector<double>>();
    double total = 0.0;
    for (const double load : shares) total += load;
    if (total == 0.0) continue;
    mean.resize(std::max(mean.size(), shares.size()));
    for (std::size_t e = 0; e < shares.size(); ++e) {
      shares[e] /= total;
      mean[e] += shares[e];
    }
    entropies += entropy_of(shares);
    ++domains;
  }
  if (domains < 2) return std::nullopt;
  for (double& share : mean) share /= static_cast<double>(domains);
  return (entropy_of(mean) - entropies / static_cast<double>(domains)) / std::log(static_cast<double>(domains));
}

void read_summary(const fs::path& file, RunResult& result) {
  const auto json = Json::parse(read_file(file, std::size_t{1} << 28));
  result.figures["validation_loss"] = json.at("loss").get<double>();
  result.figures["bits_per_byte"] = json.at("bits_per_byte").get<double>();
  if (json.contains("domains")) {
    for (const auto& [name, bits] : json.at("domains").items()) result.domains[name] = bits.get<double>();
  }
  Mean violation, entropy, specialisation;
  double dead = 0.0;
  for (const Json& layer : json.at("routing")) {
    violation.add(layer.at("max_violation"));
    const auto experts = static_cast<double>(layer.at("load").size());
    if (experts > 1.0 && !layer.at("entropy").is_null()) {
      entropy.add(layer.at("entropy").get<double>() / std::log(experts));
    }
    dead += static_cast<double>(layer.at("dead").size());
    if (!layer.contains("load_by_domain")) continue;
    if (const auto value = specialisation_of(layer.at("load_by_domain"))) specialisation.add(*value);
  }
  if (violation.any()) {
    result.figures["max_violation"] = violation.value();
    result.figures["dead_experts"] = dead;
  }
  if (entropy.any()) result.figures["entropy"] = entropy.value();
  if (specialisation.any()) result.figures["specialisation"] = specialisation.value();
}

Json curve_json(const std::vector<CurvePoint>& curve) {
  Json json = Json::array();
  for (const CurvePoint& p : curve) json.push_back({p.tokens, p.seconds, p.value});
  return json;
}

std::vector<CurvePoint> curve_from(const Json& json) {
  std::vector<CurvePoint> curve;
  for (const Json& p : json) curve.push_back({p.at(0).get<double>(), p.at(1).get<double>(), p.at(2).get<double>()});
  return curve;
}

}  // namespace

RunResult measure_run(const LabRun& run, std::uint64_t seed, const fs::path& folder, Index vocab) {
  RunResult result;
  result.run = run.name;
  result.seed = seed;
  result.state = RunState::kFinished;
  result.figures["diverged"] = 0.0;
  const model::ParameterCounts counts = model::count_parameters(resolve_model(run.recipe, vocab));
  result.figures["parameters"] = static_cast<double>(counts.total);
  result.figures["active_parameters"] = static_cast<double>(counts.active);
  reading(folder / kSummaryFile, [&] { read_summary(folder / kSummaryFile, result); });
  const fs::path metrics = folder / "metrics.jsonl";
  reading(metrics, [&] { read_metrics(metrics, run.recipe.train, result); });
  return result;
}

RunResult diverged_run(const LabRun& run, std::uint64_t seed, const std::string& message) {
  RunResult result;
  result.run = run.name;
  result.seed = seed;
  result.state = RunState::kDiverged;
  result.message = message;
  result.figures["diverged"] = 1.0;
  return result;
}

void save_result(const RunResult& result, const fs::path& file) {
  Json json;
  json["version"] = kVersion;
  json["run"] = result.run;
  json["seed"] = result.seed;
  json["state"] = result.state == RunState::kDiverged ? "diverged" : "finished";
  json["message"] = result.message;
  json["figures"] = result.figures;
  json["domains"] = result.domains;
  json["loss"] = curve_json(result.loss);
  json["held_out"] = curve_json(result.held_out);
  json["max_violation"] = curve_json(result.violation);
  write_file_atomically(file, json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

RunResult load_result(const fs::path& file) {
  return reading(file, [&] {
    const auto json = Json::parse(read_file(file, std::size_t{1} << 26));
    if (json.at("version") != kVersion) {
      fail(ErrorKind::kBadInput, "{}: version {}, expected {}; delete it to measure the run again", file.string(),
           json.at("version").dump(), kVersion);
    }
    RunResult result;
    result.run = json.at("run").get<std::string>();
    result.seed = json.at("seed").get<std::uint64_t>();
    result.state = json.at("state") == "diverged" ? RunState::kDiverged : RunState::kFinished;
    result.message = json.at("message").get<std::string>();
    for (const auto& [name, value] : json.at("figures").items()) result.figures[name] = value.get<double>();
    for (const auto& [name, value] : json.at("domains").items()) result.domains[name] = value.get<double>();
    result.loss = curve_from(json.at("loss"));
    result.held_out = curve_from(json.at("held_out"));
    result.violation = curve_from(json.at("max_violation"));
    return result;
  });
}

}  // namespace switchyard::train
