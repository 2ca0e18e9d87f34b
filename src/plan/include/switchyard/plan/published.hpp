#pragma once
// Published mixture-of-experts models: what their configs say, what their publishers say, and how far the two are
// apart.

#include <span>
#include <string_view>
#include <vector>

#include "switchyard/plan/plan.hpp"

namespace switchyard::plan {

// Figures are those of the publisher; 0 and "" where there are none.
struct PublishedModel {
  std::string_view name;
  std::string_view config;  // config.json, the keys that decide shapes
  double total = 0.0, active = 0.0;
  double tokens = 0.0;     // of pre-training
  double gpu_hours = 0.0;  // of the GPU named in `gpu`
  std::string_view gpu;
  std::string_view note;  // where tokens and hours come from and what they are of
};

// By family.
std::span<const PublishedModel> published_models();
// Models that are often named beside these, whose publishers do not say what they consist of.
std::span<const std::string_view> models_not_public();

struct TableRow {
  const PublishedModel* model = nullptr;
  model::ParameterCounts counts;
  Index layers = 0, moe_layers = 0, experts = 0, top_k = 0;
  double tokens = 0.0;  // the publisher's, or those asked for
  bool tokens_published = false;
  double flops = 0.0;                // 0 without tokens
  double gpu_hours = 0.0;            // predicted
  double implied_utilisation = 0.0;  // 0 without published hours or tokens
};

// `tokens` stands in where none are published; 0 = leave out.
std::vector<TableRow> published_table(const GpuAssumptions& gpu, double tokens);

}  // namespace switchyard::plan
