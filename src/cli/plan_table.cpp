#include <fmt/format.h>

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "plan.hpp"
#include "switchyard/base/progress.hpp"

namespace switchyard::cli {
namespace {

using Json = nlohmann::ordered_json;
using plan::TableRow;

double ratio(double a, double b) { return a / b; }
double total(const TableRow& row) { return static_cast<double>(row.counts.total); }
double active(const TableRow& row) { return static_cast<double>(row.counts.active_without_lookup); }

std::string billions(double number) { return fmt::format("{:.2f}", number / 1e9); }
// As publishers round: "46.7", "1000", "0.4".
std::string published(double number) { return number > 0.0 ? fmt::format("{:.4g}", number / 1e9) : "-"; }
std::string difference(double computed, double said) {
  return said > 0.0 ? fmt::format("{:+.1f}%", 100.0 * (ratio(computed, said) - 1.0)) : "-";
}

// Which of the three ways of counting active parameters comes closest to what the publisher says.
struct Closest {
  std::string_view way;
  double count = 0.0;
};
Closest closest(const TableRow& row) {
  const std::array<Closest, 3> ways = {{{"(i)", static_cast<double>(row.counts.active)},
                                        {"(ii)", active(row)},
                                        {"(iii)", static_cast<double>(row.counts.active_in_layers)}}};
  // (ii) first, so that a tie is counted as the rest of the table is.
  Closest best = ways[1];
  for (const Closest& way : ways)
    if (std::abs(way.count - row.model->active) < std::abs(best.count - row.model->active)) best = way;
  return best;
}
std::string closest_text(const TableRow& row) {
  if (row.model->active <= 0.0) return "-";
  const Closest best = closest(row);
  return fmt::format("{} {}", best.way, difference(best.count, row.model->active));
}

// "2.788 M"
std::string hours(double number) {
  if (number <= 0.0) return "-";
  return number < 1.0e6 ? fmt::format("{:.4g} k", number / 1e3) : fmt::format("{:.4g} M", number / 1e6);
}

// The cells of a row, in the order of the columns below.
std::vector<std::string> size_cells(const TableRow& row) {
  const plan::PublishedModel& m = *row.model;
  return {std::string(m.name),
          billions(total(row)),
          billions(active(row)),
          fmt::format("{} x {}", row.moe_layers, row.experts),
          fmt::format("{}", row.top_k),
          fmt::format("{:.1f}%", 100.0 * ratio(active(row), total(row))),
          published(m.total),
          difference(total(row), m.total),
          published(m.active),
          difference(active(row), m.active),
          closest_text(row)};
}
std::vector<std::string> cost_cells(const TableRow& row) {
  const plan::PublishedModel& m = *row.model;
  return {std::string(m.name),
          fmt::format("{}{}", format_count(row.tokens), row.tokens_published ? "" : "*"),
          fmt::format("{:.3g}", row.flops),
          hours(row.gpu_hours),
          m.gpu_hours > 0.0 ? fmt::format("{} {}", hours(m.gpu_hours), m.gpu) : "-",
          row.implied_utilisation > 0.0 ? fmt::format("{:.1f}%", 100.0 * row.implied_utilisation) : "-"};
}

const std::vector<std::string> kSizeColumns = {"model",       "total",     "active", "layers x experts", "K",
                                               "active rate", "published", "diff",   "published active", "diff",
                                               "closest"};
const std::vector<std::string> kCostColumns = {"model",     "tokens",          "FLOP",
                                               "GPU-hours", "hours published", "implied utilisation"};

using Cells = std::vector<std::vector<std::string>>;

// Rows of the two tables, those of models that are not public at the end.
Cells cells_of(const std::vector<TableRow>& rows, std::vector<std::string> (*cells)(const TableRow&),
               std::size_t columns) {
  Cells all;
  for (const TableRow& row : rows) all.push_back(cells(row));
  for (const std::string_view name : plan::models_not_public()) {
    std::vector<std::string> line(columns, "-");
    line[0] = name;
    line[1] = "not public";
    all.push_back(std::move(line));
  }
  return all;
}

std::string aligned(const std::vector<std::string>& header, const Cells& rows) {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < header.size(); ++i) {
    std::size_t width = header[i].size();
    for (const auto& row : rows) width = std::max(width, row[i].size());
    widths.push_back(width);
  }
  std::string text;
  const auto line = [&](const std::vector<std::string>& cells) {
    for (std::size_t i = 0; i < cells.size(); ++i)
      text += i == 0 ? fmt::format("{:<{}}", cells[i], widths[i]) : fmt::format("  {:>{}}", cells[i], widths[i]);
    text += '\n';
  };
  line(header);
  for (const auto& row : rows) line(row);
  return text;
}

std::string markdown(const std::vector<std::string>& header, const Cells& rows) {
  std::string text;
  const auto line = [&](const std::vector<std::string>& cells) {
    text += '|';
    for (const std::string& cell : cells) text += fmt::format(" {} |", cell);
    text += '\n';
  };
  line(header);
  text += "|---|";
  for (std::size_t i = 1; i < header.size(); ++i) text += "---:|";
  text += '\n';
  for (const auto& row : rows) line(row);
  return text;
}

// Every assumption behind the figures, one a line.
std::vector<std::string> assumptions(const TrainingQuestion& training) {
  return {
      "Computed from each model's config. Active and its rate are counted (ii): without the embedding table, of which "
      "a "
      "token reads one row. (i) counts it, (iii) counts neither it nor the output. Closest: the way that comes nearest "
      "to the publisher's figure.",
      "Multi-token prediction layers are left out.",
      "FLOP = 6 x active x tokens of pre-training: two operations a parameter and token forward, four backward. "
      "Attention scores, recomputation and what follows pre-training are not counted.",
      fmt::format(
          "GPU-hours = FLOP / (3600 s x {:.4g}% x {:.4g} TFLOP/s), the peak of an H100 or H800 SXM in dense bf16 "
          "being 989.",
          100.0 * training.gpu.utilisation, training.gpu.tflops),
      "Implied utilisation = FLOP / (published hours x 3600 s x that peak).",
      fmt::format("* The publisher names no number of tokens: the cost is that of {} tokens (--tokens).",
                  format_count(training.tokens)),
  };
}

Json number_or_null(double number) { return number > 0.0 ? Json(number) : Json(nullptr); }

Json row_json(const TableRow& row) {
  const plan::PublishedModel& m = *row.model;
  Json json;
  json["name"] = m.name;
  json["public"] = true;
  json["parameters"] = {{"total", row.counts.total},
                        {"active", row.counts.active},
                        {"active_without_embedding", row.counts.active_without_lookup},
                        {"active_layers_only", row.counts.active_in_layers}};
  json["layers"] = row.layers;
  json["moe_layers"] = row.moe_layers;
  json["experts"] = row.experts;
  json["experts_per_token"] = row.top_k;
  json["activation_rate"] = ratio(active(row), total(row));
  json["published"] = {{"total", number_or_null(m.total)},
                       {"active", number_or_null(m.active)},
                       {"tokens", number_or_null(m.tokens)},
                       {"gpu_hours", number_or_null(m.gpu_hours)},
                       {"gpu", m.gpu.empty() ? Json(nullptr) : Json(m.gpu)},
                       {"note", m.note},
                       {"active_closest_way", m.active > 0.0 ? Json(closest(row).way) : Json(nullptr)}};
  json["difference"] = {{"total", m.total > 0.0 ? Json(ratio(total(row), m.total) - 1.0) : Json(nullptr)},
                        {"active", m.active > 0.0 ? Json(ratio(active(row), m.active) - 1.0) : Json(nullptr)}};
  json["training"] = {{"tokens", row.tokens},
                      {"tokens_published", row.tokens_published},
                      {"flops", row.flops},
                      {"gpu_hours", row.gpu_hours},
                      {"implied_utilisation", number_or_null(row.implied_utilisation)}};
  return json;
}

}  // namespace

std::string table_text(const std::vector<TableRow>& rows, const TrainingQuestion& training) {
  std::string text = "Sizes, in billions of parameters: computed, and as the publisher says\n\n";
  text += aligned(kSizeColumns, cells_of(rows, size_cells, kSizeColumns.size()));
  text += "\nCost of pre-training\n\n";
  text += aligned(kCostColumns, cells_of(rows, cost_cells, kCostColumns.size())) + "\n";
  for (const std::string& line : assumptions(training)) text += line + "\n";
  text += "\nSources and notes\n";
  for (const TableRow& row : rows) text += fmt::format("  {}: {}\n", row.model->name, row.model->note);
  return text;
}

std::string table_markdown(const std::vector<TableRow>& rows, const TrainingQuestion& training) {
  std::string text = "## Sizes\nBillions of parameters: computed, and as the publisher says.\n\n";
  text += markdown(kSizeColumns, cells_of(rows, size_cells, kSizeColumns.size()));
  text += "\n## Cost of pre-training\n";
  text += markdown(kCostColumns, cells_of(rows, cost_cells, kCostColumns.size()));
  text += "\n## Assumptions\n";
  for (const std::string& line : assumptions(training)) text += "- " + (line[0] == '*' ? "\\" + line : line) + "\n";
  text += "\n## Sources and notes\n";
  for (const TableRow& row : rows) text += fmt::format("- {}: {}\n", row.model->name, row.model->note);
  return text;
}

Json table_json(const std::vector<TableRow>& rows, const TrainingQuestion& training) {
  Json json;
  json["models"] = Json::array();
  for (const TableRow& row : rows) json["models"].push_back(row_json(row));
  for (const std::string_view name : plan::models_not_public())
    json["models"].push_back({{"name", name}, {"public", false}});
  json["assumptions"] = {{"gpu_tflops", training.gpu.tflops},
                         {"utilisation", training.gpu.utilisation},
                         {"tokens_where_not_published", training.tokens},
                         {"text", assumptions(training)}};
  return json;
}

}  // namespace switchyard::cli
