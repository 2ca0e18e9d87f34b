#include "switchyard/plan/plan.hpp"

#include <algorithm>

#include "switchyard/base/error.hpp"
#include "switchyard/model/kv_cache.hpp"

namespace switchyard::plan {
namespace {

constexpr Index kFixedMemory = 200'000'000;
constexpr double kWeightOverhead = 1.05;
constexpr Index kFirstContext = 1024, kContextStep = 4;
constexpr double kSecondsAnHour = 3600.0;

Index added(Index a, Index b) {
  Index sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) fail(ErrorKind::kBadInput, "the number of bytes of the model overflows");
  return sum;
}

constexpr Index kHeld = model::KvCache::kNumberBytes, kHalf = 2;  // bytes of a cached number: here, and in 16 bits

Index cache_bytes(const model::ModelConfig& config, Index positions, bool windows_bound, Index element) {
  Index bytes = 0;
  if (__builtin_mul_overflow(cached_numbers(config, positions, windows_bound), element, &bytes))
    fail(ErrorKind::kBadInput, "a cache of {} positions: the number of bytes overflows", positions);
  return bytes;
}

Speeds speeds_of(const CostModel& cost, const Machine& machine, const PlanOptions& options) {
  Speeds speeds;
  speeds.decode = decode_cost(cost, 1, options.context);
  speeds.prefill = prefill_cost(cost, options.prompt);
  speeds.decode_tokens_per_second = 1.0 / speeds.decode.seconds(machine);
  speeds.prefill_tokens_per_second = static_cast<double>(options.prompt) / speeds.prefill.seconds(machine);
  return speeds;
}

// The longest text whose memory_needed() is available.
Index longest_context(const model::ModelConfig& config, Index weight_bytes, Index available) {
  if (memory_needed(config, weight_bytes, 1) > available) return 0;
  Index fits = 1, too_long = config.max_positions + 1;
  while (too_long - fits > 1) {
    const Index middle = fits + (too_long - fits) / 2;
    (memory_needed(config, weight_bytes, middle) <= available ? fits : too_long) = middle;
  }
  return fits;
}

FormatPlan plan_format(const ModelPlan& plan, const WeightFormat& format) {
  const model::ModelConfig& config = plan.file.config;
  FormatPlan result;
  result.format = &format;
  result.stored = stored_format(plan.file.stored) == &format;
  for (const model::ParameterShape& parameter : model::parameter_shapes(config)) {
    const Index bytes = stored_bytes(format, parameter);
    Index& part = result.parts[static_cast<std::size_t>(parameter.part)];
    part = added(part, bytes);
    result.bytes = added(result.bytes, bytes);
  }
  result.needed = memory_needed(config, result.bytes, plan.options.context);
  result.longest_context = longest_context(config, result.bytes, plan.machine.memory_available);
  const CostModel cost = cost_model(config, format);
  const CostModel dense_active = cost.dense_of_active_size();
  result.sparse = speeds_of(cost, plan.machine, plan.options);
  result.dense_total = speeds_of(cost.dense_of_total_size(), plan.machine, plan.options);
  result.dense_active = speeds_of(dense_active, plan.machine, plan.options);
  result.dense_active_bytes = dense_active.bytes();
  for (const Index batch : plan.options.batches) {
    BatchPlan row;
    row.batch = batch;
    if (!cost.experts.empty())
      row.experts = expected_experts(cost.experts[0].experts, cost.experts[0].top_k, static_cast<double>(batch));
    row.cost = decode_cost(cost, batch, plan.options.context);
    row.tokens_per_second = static_cast<double>(batch) / row.cost.seconds(plan.machine);
    result.batches.push_back(row);
  }
  return result;
}

// A layer like the last with norms of the embedding, of the hidden state and before the shared output, and a matrix
// that joins the two. DeepSeek-AI 2024, arXiv 2412.19437, section 2.2; embedding and output are the model's.
Index draft_parameters(const model::ConfigFile& file) {
  if (file.prediction_layers == 0) return 0;
  const Index last = static_cast<Index>(file.config.layers.size()) - 1, width = file.config.width;
  Index sum = 2 * width * width + 3 * width;
  for (const model::ParameterShape& parameter : model::parameter_shapes(file.config))
    if (parameter.layer == last) sum = added(sum, parameter.shape.numel());
  Index all = 0;
  if (__builtin_mul_overflow(sum, file.prediction_layers, &all))
    fail(ErrorKind::kBadInput, "the number of parameters of {} draft layers overflows", file.prediction_layers);
  return all;
}

}  // namespace

Index memory_needed(const model::ModelConfig& config, Index weight_bytes, Index context) {
  const double weights = kWeightOverhead * static_cast<double>(weight_bytes);
  // Far above any machine, and a double beyond it would not be an Index.
  constexpr double kMost = 9.0e18;
  const double all =
      weights + static_cast<double>(kFixedMemory) + static_cast<double>(cache_bytes(config, context, false, kHeld));
  return static_cast<Index>(std::min(all, kMost));
}

ModelPlan plan_model(model::ConfigFile file, const Machine& machine, PlanOptions options) {
  ModelPlan plan;
  plan.file = std::move(file);
  plan.machine = machine;
  const model::ModelConfig& config = plan.file.config;
  options.context = std::min(options.context, config.max_positions);
  options.prompt = std::min(options.prompt, config.max_positions);
  if (options.contexts.empty()) {
    for (Index context = kFirstContext; context < config.max_positions; context *= kContextStep)
      options.contexts.push_back(context);
    options.contexts.push_back(config.max_positions);
    options.contexts.push_back(options.context);
    std::sort(options.contexts.begin(), options.contexts.end());
    options.contexts.erase(std::unique(options.contexts.begin(), options.contexts.end()), options.contexts.end());
  }
  plan.options = std::move(options);
  plan.counts = model::count_parameters(config);
  plan.draft_parameters = draft_parameters(plan.file);
  for (const Index context : plan.options.contexts)
    plan.caches.push_back({context, cache_bytes(config, context, false, kHeld),
                           cache_bytes(config, context, true, kHeld), cache_bytes(config, context, true, kHalf)});
  for (const WeightFormat& format : weight_formats()) plan.formats.push_back(plan_format(plan, format));
  std::stable_sort(plan.formats.begin(), plan.formats.end(),
                   [](const FormatPlan& a, const FormatPlan& b) { return a.bytes > b.bytes; });
  return plan;
}

EncoderDecoderPlan plan_encoder_decoder(model::EncoderDecoderConfig config, Index source) {
  EncoderDecoderPlan plan;
  plan.config = std::move(config);
  plan.counts = model::count_parameters(plan.config);
  plan.source = source;
  const double inner = static_cast<double>(plan.config.heads * plan.config.head_dim);
  const double cached = 2.0 * inner * static_cast<double>(plan.config.decoder.size()) * static_cast<double>(kHeld);
  constexpr double kMost = 9.0e18;
  plan.source_token_bytes = plan.written_token_bytes = static_cast<Index>(std::min(cached, kMost));
  const std::vector<model::ParameterShape> parameters = model::parameter_shapes(plan.config);
  for (const WeightFormat& format : weight_formats()) {
    EncoderDecoderFormat& row = plan.formats.emplace_back();
    row.format = &format;
    for (const model::ParameterShape& parameter : parameters)
      row.bytes = added(row.bytes, stored_bytes(format, parameter));
    row.needed =
        static_cast<Index>(std::min(kWeightOverhead * static_cast<double>(row.bytes) +
                                        static_cast<double>(kFixedMemory) + 2.0 * cached * static_cast<double>(source),
                                    kMost));
  }
  std::stable_sort(plan.formats.begin(), plan.formats.end(),
                   [](const EncoderDecoderFormat& a, const EncoderDecoderFormat& b) { return a.bytes > b.bytes; });
  return plan;
}

double training_flops(const model::ParameterCounts& counts, double tokens) {
  return 6.0 * static_cast<double>(counts.active_without_lookup) * tokens;
}

double gpu_hours(double flops, const GpuAssumptions& gpu) {
  return flops / (gpu.tflops * 1.0e12 * gpu.utilisation * kSecondsAnHour);
}

double implied_utilisation(double flops, double hours, const GpuAssumptions& gpu) {
  return flops / (hours * kSecondsAnHour * gpu.tflops * 1.0e12);
}

}  // namespace switchyard::plan
