#include "switchyard/observe/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "report_page.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::observe {
namespace {

using Json = nlohmann::ordered_json;

// Points a curve: more than a screen has pixels shows nothing and makes the page heavy.
constexpr std::size_t kMostPoints = 1500;
constexpr std::size_t kFavourites = 6;

double number(const Json& line, const char* key, const std::string& where) {
  const auto at = line.find(key);
  // A figure that was not finite is written as null.
  if (at != line.end() && at->is_null()) return std::nan("");
  if (at == line.end() || !at->is_number()) {
    fail(ErrorKind::kBadInput, "{}: \"{}\" is not a number", where, key);
  }
  return at->get<double>();
}

Index whole_number(const Json& line, const char* key, const std::string& where) {
  const auto at = line.find(key);
  if (at == line.end() || !at->is_number_integer()) {
    fail(ErrorKind::kBadInput, "{}: \"{}\" is not a whole number", where, key);
  }
  return at->get<Index>();
}

std::string string_of(const Json& line, const char* key, const std::string& where) {
  const auto at = line.find(key);
  if (at == line.end() || !at->is_string()) fail(ErrorKind::kBadInput, "{}: \"{}\" is not a string", where, key);
  return at->get<std::string>();
}

// The mean of each run of `group` steps, so that a long run keeps its shape.
class Curve {
 public:
  explicit Curve(std::size_t group) : group_(group) {}
  void add(double x, double y) {
    if (!std::isfinite(y)) return;
    sum_ += y;
    if (++count_ < group_) return;
    flush(x);
  }
  void flush(double x) {
    if (count_ == 0) return;
    points_.push_back({x, sum_ / static_cast<double>(count_)});
    sum_ = 0.0;
    count_ = 0;
  }
  const Json& points() const { return points_; }

 private:
  std::size_t group_, count_ = 0;
  double sum_ = 0.0;
  Json points_ = Json::array();
};

struct Line {
  Json json;
  std::string where;
};

std::vector<Line> read_lines(const std::filesystem::path& path) {
  const std::string text = read_file(path, std::size_t{1} << 33);
  std::vector<Line> lines;
  std::size_t number_of_line = 1;
  for (std::size_t begin = 0; begin < text.size(); ++number_of_line) {
    const std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // a line that is still being written
    const std::string where = fmt::format("{}:{}", path.string(), number_of_line);
    Json json = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                            text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    if (!json.is_object()) fail(ErrorKind::kBadInput, "{}: not a JSON object", where);
    lines.push_back({std::move(json), where});
    begin = end + 1;
  }
  return lines;
}

Json metrics_json(const std::filesystem::path& path) {
  const std::vector<Line> lines = read_lines(path);
  const std::size_t group = lines.size() / kMostPoints + 1;
  Curve loss(group), norm(group);
  std::map<Index, Curve> violation, entropy, dropped, rerouted;
  Json evaluations = Json::array(), warnings = Json::array();
  double last = 0.0;
  for (const Line& entry : lines) {
    const Json& line = entry.json;
    const std::string& where = entry.where;
    const std::string kind = string_of(line, "kind", where);
    const auto step = static_cast<double>(whole_number(line, "step", where));
    last = step;
    if (kind == "evaluation") {
      const double bits = number(line, "bits_per_byte", where);
      if (std::isfinite(bits)) evaluations.push_back({step, bits});
    } else if (kind == "warning") {
      warnings.push_back({step, string_of(line, "text", where)});
    } else if (kind == "step") {
      loss.add(step, number(line, "bits_per_byte", where));
      norm.add(step, number(line, "gradient_norm", where));
      const auto layers = line.find("layers");
      if (layers == line.end()) continue;  // a dense model
      if (!layers->is_array()) fail(ErrorKind::kBadInput, "{}: \"layers\" is not an array", where);
      for (const Json& layer : *layers) {
        const Index index = whole_number(layer, "layer", where);
        const auto add = [&](std::map<Index, Curve>& curves, const char* key) {
          curves.try_emplace(index, group).first->second.add(step, number(layer, key, where));
        };
        add(violation, "max_violation");
        add(entropy, "entropy");
        add(dropped, "drop_rate");
        if (layer.contains("reroute_rate")) add(rerouted, "reroute_rate");  // older runs have none
      }
    }
  }
  loss.flush(last);
  norm.flush(last);
  Json json;
  json["loss"] = loss.points();
  json["held_out"] = evaluations;
  json["gradient_norm"] = norm.points();
  json["warnings"] = warnings;
  const auto by_layer = [&](const char* name, std::map<Index, Curve>& curves) {
    json[name] = Json::array();
    for (auto& [index, curve] : curves) {
      curve.flush(last);
      json[name].push_back({{"name", fmt::format("layer {}", index)}, {"points", curve.points()}});
    }
  };
  by_layer("max_violation", violation);
  by_layer("entropy", entropy);
  by_layer("drop_rate", dropped);
  by_layer("reroute_rate", rerouted);
  return json;
}

Json profile_json(const RoutingProfile& profile, const std::function<std::string(std::int32_t)>& token_text) {
  Json json;
  json["domains"] = profile.domains();
  json["layers"] = Json::array();
  for (const auto& [index, layer] : profile.layers()) {
    const moe::RoutingStatistics& s = layer.statistics;
    Json row;
    row["layer"] = index;
    row["max_violation"] = s.max_violation();
    row["entropy"] = s.mean_entropy();
    row["drop_rate"] = s.drop_rate();
    row["dead"] = s.dead_experts();
    const double mean = std::max(s.mean_load(), 1e-300);
    row["load"] = Json::array();
    for (const Index load : s.load_E) row["load"].push_back(static_cast<double>(load) / mean);
    row["preference"] = Json::array();
    for (std::size_t x = 0; x < profile.domains().size(); ++x) {
      Json values = Json::array();
      for (Index e = 0; e < static_cast<Index>(s.load_E.size()); ++e) values.push_back(profile.preference(index, e, x));
      row["preference"].push_back(std::move(values));
    }
    row["favourites"] = Json::array();
    for (Index e = 0; e < static_cast<Index>(s.load_E.size()); ++e) {
      Json tokens = Json::array();
      for (const FavouriteToken& token : profile.favourites(index, e, kFavourites)) {
        tokens.push_back(token_text ? token_text(token.id) : std::to_string(token.id));
      }
      row["favourites"].push_back(std::move(tokens));
    }
    json["layers"].push_back(std::move(row));
  }
  return json;
}

}  // namespace

void write_report(const std::filesystem::path& target, const ReportInput& input) {
  Json data;
  data["title"] = input.title;
  data["facts"] = Json::array();
  for (const auto& [name, value] : input.facts) data["facts"].push_back({name, value});
  data["metrics"] = metrics_json(input.metrics);
  data["profile"] = input.profile == nullptr ? Json() : profile_json(*input.profile, input.token_text);
  data["sample"] = input.sample;
  std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  // Inside a script element only "<" can end it or open a comment; JSON strings may spell it as an escape.
  std::string safe;
  safe.reserve(text.size());
  for (const char c : text) {
    if (c == '<') {
      safe += "\\u003c";
    } else {
      safe += c;
    }
  }
  const std::string_view page = report_page();
  const std::size_t hole = page.find(kReportDataMark);
  require(hole != std::string_view::npos, "the report page has no place for its data");
  AtomicFile file(target);
  file.write(page.substr(0, hole));
  file.write(safe);
  file.write(page.substr(hole + kReportDataMark.size()));
  file.commit();
}

}  // namespace switchyard::observe
