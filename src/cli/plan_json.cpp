#include <nlohmann/json.hpp>

#include <algorithm>

#include "plan.hpp"

namespace switchyard::cli {
namespace {

using Json = nlohmann::ordered_json;

// "routed_experts"
std::string key_of(model::ParameterPart part) {
  std::string name(model::parameter_part_name(part));
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

Json pass_json(const plan::PassCost& pass, const plan::Machine& machine) {
  return {{"weight_bytes", pass.weight_bytes},
          {"cache_bytes", pass.cache_bytes},
          {"flops", pass.flops},
          {"flops_per_byte", pass.intensity()},
          {"seconds", pass.seconds(machine)},
          {"bound_by", pass.waits_for_memory(machine) ? "memory" : "arithmetic"}};
}

Json speeds_json(const plan::Speeds& speeds, const plan::Machine& machine) {
  Json json;
  json["decode"] = pass_json(speeds.decode, machine);
  json["decode"]["tokens_per_second"] = speeds.decode_tokens_per_second;
  json["prefill"] = pass_json(speeds.prefill, machine);
  json["prefill"]["tokens_per_second"] = speeds.prefill_tokens_per_second;
  return json;
}

Json model_json(const plan::ModelPlan& plan) {
  const model::ModelConfig& c = plan.file.config;
  Json json;
  json["file"] = plan.file.origin;
  json["family"] = plan.file.family;
  json["vocab"] = c.vocab;
  json["width"] = c.width;
  json["max_positions"] = c.max_positions;
  json["tied_embeddings"] = c.tied_embeddings;
  json["stored_dtype"] = plan.file.stored.dtype.empty() ? Json(nullptr) : Json(plan.file.stored.dtype);
  json["quantisation"] = plan.file.stored.quantisation.empty() ? Json(nullptr) : Json(plan.file.stored.quantisation);
  json["layers"] = Json::array();
  for (const model::LayerConfig& layer : c.layers) {
    Json row{{"cached_numbers", model::cached_key_width(layer.attention) + model::cached_value_width(layer.attention)},
             {"window", layer.attention.window}};
    if (layer.dense) row["hidden"] = layer.dense->hidden;
    if (layer.moe) {
      row["experts"] = layer.moe->router.experts;
      row["experts_per_token"] = layer.moe->router.top_k;
      row["expert_hidden"] = layer.moe->expert.hidden;
      row["shared_hidden"] = layer.moe->shared.hidden;
    }
    json["layers"].push_back(std::move(row));
  }
  return json;
}

Json parameters_json(const plan::ModelPlan& plan) {
  Json json{{"total", plan.counts.total},
            {"active", plan.counts.active},
            {"active_without_embedding", plan.counts.active_without_lookup},
            {"active_layers_only", plan.counts.active_in_layers},
            {"not_counted_draft", plan.draft_parameters}};
  for (std::size_t i = 0; i < model::kParameterParts; ++i)
    json["parts"][key_of(static_cast<model::ParameterPart>(i))] = plan.counts.parts[i];
  json["parts"]["active_routed_experts"] = plan.counts.active_experts;
  return json;
}

Json format_json(const plan::ModelPlan& plan, const plan::FormatPlan& f) {
  Json json;
  json["name"] = f.format->name;
  json["about"] = f.format->note;
  json["checkpoint"] = f.stored;
  json["computed_from"] = f.format->computed_from;
  json["bytes"] = f.bytes;
  for (std::size_t i = 0; i < model::kParameterParts; ++i)
    json["parts"][key_of(static_cast<model::ParameterPart>(i))] = f.parts[i];
  json["bytes_needed"] = f.needed;
  json["fits"] = f.longest_context > 0;
  json["longest_context_that_fits"] = f.longest_context;
  json["speed"] = speeds_json(f.sparse, plan.machine);
  json["batches"] = Json::array();
  for (const plan::BatchPlan& b : f.batches) {
    Json row = pass_json(b.cost, plan.machine);
    row["texts"] = b.batch;
    row["experts_per_layer"] = b.experts;
    row["tokens_per_second"] = b.tokens_per_second;
    json["batches"].push_back(std::move(row));
  }
  json["dense_of_equal_total"] = speeds_json(f.dense_total, plan.machine);
  json["dense_of_equal_total"]["parameters"] = plan.counts.total;
  json["dense_of_equal_total"]["bytes"] = f.bytes;
  json["dense_of_equal_active"] = speeds_json(f.dense_active, plan.machine);
  json["dense_of_equal_active"]["parameters"] = plan.counts.active;
  json["dense_of_equal_active"]["bytes"] = f.dense_active_bytes;
  return json;
}

}  // namespace

Json plan_json(const plan::ModelPlan& plan, const TrainingQuestion& training) {
  const plan::Machine& m = plan.machine;
  Json json;
  json["model"] = model_json(plan);
  json["parameters"] = parameters_json(plan);
  json["machine"] = {{"memory_total", m.memory_total},
                     {"memory_available", m.memory_available},
                     {"threads", m.threads},
                     {"instruction_set", m.instruction_set},
                     {"bandwidth", m.bandwidth},
                     {"bandwidth_measured", m.bandwidth_measured},
                     {"arithmetic", m.arithmetic},
                     {"arithmetic_measured", m.arithmetic_measured},
                     {"flops_per_byte", m.arithmetic / m.bandwidth}};
  json["context"] = plan.options.context;
  json["prompt"] = plan.options.prompt;
  json["types"] = Json::array();
  for (const plan::FormatPlan& f : plan.formats) json["types"].push_back(format_json(plan, f));
  json["cache"] = Json::array();
  for (const plan::CachePlan& row : plan.caches)
    json["cache"].push_back({{"context", row.context},
                             {"bytes_allocated", row.allocated},
                             {"bytes_windows_bound", row.windows_bound},
                             {"bytes_least_16_bit", row.least}});
  const double flops = plan::training_flops(plan.counts, training.tokens);
  json["training"] = {{"tokens", training.tokens},
                      {"flops", flops},
                      {"gpu_tflops", training.gpu.tflops},
                      {"utilisation", training.gpu.utilisation},
                      {"gpu_hours", plan::gpu_hours(flops, training.gpu)}};
  json["assumptions"] = {
      "time = max(bytes / bandwidth, operations / arithmetic): a bound, weights in memory, nothing waits",
      "operations: 2 a weight and token, and attention; norms, softmax, activations and unpacking are not counted",
      "bytes: each needed weight once a pass, E (1 - (1 - K/E)^tokens) routed experts of a layer, and the cache",
      "bytes_needed = 1.05 x weights + 200 MB + cache in float32 of every position",
      "arithmetic is float32 for every type; types without computed_from have no kernel in this engine yet; any type "
      "but "
      "the checkpoint's own needs a converted checkpoint",
      "training: 6 x active_without_embedding x tokens, attention scores not counted"};
  return json;
}

}  // namespace switchyard::cli
