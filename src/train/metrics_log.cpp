#include <cmath>
#include <nlohmann/json.hpp>

#include "run_folder.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"

namespace switchyard::train {
namespace {

using Json = nlohmann::ordered_json;

Json layer_json(Index layer, const moe::RoutingStatistics& s, bool with_load) {
  Json json;
  json["layer"] = layer;
  json["max_violation"] = s.max_violation();
  json["entropy"] = s.mean_entropy();
  json["drop_rate"] = s.drop_rate();
  json["reroute_rate"] = s.reroute_rate();
  for (const auto& [name, sum] : s.loss_sum) json["losses"][std::string(name)] = sum / static_cast<double>(s.calls);
  json["dead"] = s.dead_experts();
  if (with_load) {
    json["load"] = s.load_E;
    json["importance"] = s.importance_E;
  }
  return json;
}

}  // namespace

MetricsLog::MetricsLog(const std::filesystem::path& run, Index step) : path_(run / "metrics.jsonl") {
  if (std::filesystem::exists(path_)) {
    const std::string text = read_file(path_, std::size_t{1} << 33);
    std::string kept;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = text.find('\n', begin);
      if (end == std::string::npos) break;  // the line that a kill cut short
      const auto line = Json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                    text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
      if (line.is_object() && line.contains("step") && line["step"].is_number_integer() && line["step"] <= step) {
        kept.append(text, begin, end + 1 - begin);
      }
      begin = end + 1;
    }
    if (kept.size() != text.size()) write_file_atomically(path_, kept);
  }
  file_.open(path_, std::ios::app | std::ios::binary);
  if (!file_) fail(ErrorKind::kResource, "{}: cannot write", path_.string());
}

void MetricsLog::append(const std::string& line) {
  file_ << line << '\n' << std::flush;
  if (!file_) fail(ErrorKind::kResource, "{}: cannot write (disk full?)", path_.string());
}

void MetricsLog::write(const StepMetrics& m, bool with_load) {
  Json json;
  json["kind"] = "step";
  json["step"] = m.step;
  json["loss"] = m.loss;
  json["bits_per_byte"] = m.bits_per_byte;
  json["router_loss"] = m.router_loss;
  json["learning_rate"] = m.learning_rate;
  json["gradient_norm"] = m.gradient_norm;
  json["seconds"] = m.seconds;
  json["tokens_per_second"] = m.tokens_per_second;
  json["activation_bytes"] = m.activation_bytes;
  Json layers = Json::array();
  for (const auto& [layer, statistics] : *m.routing) layers.push_back(layer_json(layer, statistics, with_load));
  if (!layers.empty()) json["layers"] = std::move(layers);
  append(json.dump());
}

void MetricsLog::write(const EvalMetrics& m) {
  Json json;
  json["kind"] = "evaluation";
  json["step"] = m.step;
  json["loss"] = m.loss;
  json["bits_per_byte"] = m.bits_per_byte;
  json["tokens"] = m.tokens;
  json["complete"] = m.complete;
  append(json.dump());
}

void MetricsLog::warning(Index step, std::string_view text) {
  Json json;
  json["kind"] = "warning";
  json["step"] = step;
  json["text"] = text;
  append(json.dump());
}

}  // namespace switchyard::train
