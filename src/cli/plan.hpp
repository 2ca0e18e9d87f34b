#pragma once
// How `switchyard plan` shows what src/plan computes.

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

#include "switchyard/plan/published.hpp"

namespace switchyard::cli {

// What the training cost of one model is computed for.
struct TrainingQuestion {
  double tokens = 1.0e12;
  plan::GpuAssumptions gpu;
};

// `shown` is the format whose comparisons are printed.
std::string plan_text(const plan::ModelPlan& plan, const plan::WeightFormat& shown, const TrainingQuestion& training);
nlohmann::ordered_json plan_json(const plan::ModelPlan& plan, const TrainingQuestion& training);

std::string table_text(const std::vector<plan::TableRow>& rows, const TrainingQuestion& training);
std::string table_markdown(const std::vector<plan::TableRow>& rows, const TrainingQuestion& training);
nlohmann::ordered_json table_json(const std::vector<plan::TableRow>& rows, const TrainingQuestion& training);

// Of an encoder-decoder.
std::string encoder_decoder_text(const std::string& origin, const plan::EncoderDecoderPlan& plan);
nlohmann::ordered_json encoder_decoder_json(const std::string& origin, const plan::EncoderDecoderPlan& plan);

}  // namespace switchyard::cli
