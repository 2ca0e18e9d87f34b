#include <fmt/format.h>

#include <algorithm>

#include "plan.hpp"
#include "switchyard/base/progress.hpp"
#include "switchyard/model/describe.hpp"

namespace switchyard::cli {
namespace {

using model::ParameterPart;

// "30 532 122 624"
std::string grouped(Index number) {
  const std::string digits = fmt::format("{}", number);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ' ';
    text += digits[i];
  }
  return text;
}

std::string count(double number) { return format_count(number); }
std::string bytes(Index number) { return format_bytes(static_cast<std::uint64_t>(number)); }
double share(Index part, Index whole) { return 100.0 * static_cast<double>(part) / static_cast<double>(whole); }

// Three significant digits, so that 0.031 and 31 are both told.
std::string speed(double per_second) {
  return per_second < 99.95 ? fmt::format("{:#.3g}", per_second) : fmt::format("{:.0f}", per_second);
}

std::string hours(double number) { return number < 999.5 ? fmt::format("{:.3g}", number) : count(number); }

std::string heading(const plan::ModelPlan& plan) {
  const model::ModelConfig& c = plan.file.config;
  std::string text = fmt::format("{}: {}\n", plan.file.origin, plan.file.family);
  text += fmt::format("  {} layers of width {}, vocabulary {}{}, made for {} positions\n", c.layers.size(), c.width,
                      c.vocab, c.tied_embeddings ? " (output tied to the embedding)" : "", c.max_positions);
  // Rows in words; alternating kinds would make a line a layer, so equal ones are told together.
  std::vector<std::pair<std::string, std::vector<std::size_t>>> kinds;
  for (std::size_t i = 0; i < c.layers.size(); ++i) {
    std::string words = model::describe(c.layers[i]);
    const auto same = std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) { return kind.first == words; });
    if (same != kinds.end()) {
      same->second.push_back(i);
    } else {
      kinds.emplace_back(std::move(words), std::vector{i});
    }
  }
  for (const auto& [words, layers] : kinds) {
    const bool run = layers.back() - layers.front() + 1 == layers.size();
    const std::string which = layers.size() == 1 ? fmt::format("layer {}", layers.front())
                              : run              ? fmt::format("layers {}-{}", layers.front(), layers.back())
                                    : fmt::format("{} layers, {}, {} ...", layers.size(), layers[0], layers[1]);
    text += fmt::format("  {}: {}\n", which, words);
  }
  return text;
}

std::string parameters(const plan::ModelPlan& plan) {
  const model::ParameterCounts& counts = plan.counts;
  std::string text = fmt::format("\n{:<20}{:>20}{:>8}{:>24}\n", "Parameters", "all", "share", "a token meets");
  for (std::size_t i = 0; i < model::kParameterParts; ++i) {
    const auto part = static_cast<ParameterPart>(i);
    const Index all = counts.parts[i];
    if (all == 0) continue;
    std::string met = grouped(all);
    if (part == ParameterPart::kEmbedding) met = "one row";
    if (part == ParameterPart::kRoutedExperts) met = grouped(counts.active_experts);
    text += fmt::format("  {:<18}{:>20}{:>7.2f}%{:>24}\n", model::parameter_part_name(part), grouped(all),
                        share(all, counts.total), met);
  }
  text += fmt::format("  {:<18}{:>20}\n", "total", grouped(counts.total));
  text += "  active, in the three ways in which publishers count:\n";
  const auto line = [&](const char* name, Index number, const char* what) {
    text += fmt::format("  {:<18}{:>20}{:>7.2f}%  {}\n", name, grouped(number), share(number, counts.total), what);
  };
  line("  (i)", counts.active, "embedding table and output projection included");
  line("  (ii)", counts.active_without_lookup,
       plan.file.config.tied_embeddings ? "the same: the tied table is the output projection"
                                        : "without the embedding table, of which a token reads one row");
  line("  (iii)", counts.active_in_layers, "without embedding and output: the layers alone");
  if (plan.draft_parameters > 0)
    text += fmt::format(
        "  not counted: {} layer{} of multi-token prediction, about {} parameters, which only --draft reads\n",
        plan.file.prediction_layers, plan.file.prediction_layers == 1 ? "" : "s",
        count(static_cast<double>(plan.draft_parameters)));
  return text;
}

std::string memory_and_speed(const plan::ModelPlan& plan) {
  const plan::Machine& m = plan.machine;
  const auto source = [](bool measured) { return measured ? "measured" : "given"; };
  std::string text = fmt::format(
      "\nThis machine: {} of {} memory free; {} thread{} ({}) read {:.1f} GB/s ({}) and compute {:.1f} float32 GFLOP/s "
      "({})\n",
      bytes(m.memory_available), bytes(m.memory_total), m.threads, m.threads == 1 ? "" : "s", m.instruction_set,
      m.bandwidth / 1e9, source(m.bandwidth_measured), m.arithmetic / 1e9, source(m.arithmetic_measured));
  text += fmt::format("\n{:<10}{:>11}{:>11}{:>12}{:>12}{:>12}\n", "", "weights", "needs at", "longest ctx", "decode",
                      "prefill");
  text += fmt::format("{:<10}{:>11}{:>11}{:>12}{:>12}{:>12}\n", "Data type", "",
                      fmt::format("ctx {}", plan.options.context), "that fits", "tokens/s", "tokens/s");
  const auto stored = std::find_if(plan.formats.begin(), plan.formats.end(), [](const auto& f) { return f.stored; });
  for (const plan::FormatPlan& f : plan.formats) {
    const std::string name = fmt::format("{}{}", f.format->name, f.format->computed_from ? "" : "*");
    text += fmt::format("  {:<8}{:>11}{:>11}{:>12}{:>12}{:>12}{}\n", name, bytes(f.bytes), bytes(f.needed),
                        f.longest_context > 0 ? fmt::format("{}", f.longest_context) : "does not",
                        speed(f.sparse.decode_tokens_per_second), speed(f.sparse.prefill_tokens_per_second),
                        f.stored ? "  <- this checkpoint" : "");
  }
  if (stored == plan.formats.end())
    text += plan.file.stored.quantisation.empty() && plan.file.stored.dtype.empty()
                ? "  the config does not say which of these the checkpoint has\n"
                : fmt::format("  the checkpoint has none of these: {}\n", plan.file.stored.quantisation.empty()
                                                                              ? plan.file.stored.dtype
                                                                              : plan.file.stored.quantisation);
  const auto fits = [&](const plan::FormatPlan& f) { return f.needed <= m.memory_available; };
  const auto largest = std::find_if(plan.formats.begin(), plan.formats.end(), fits);
  const auto computed = std::find_if(plan.formats.begin(), plan.formats.end(),
                                     [&](const plan::FormatPlan& f) { return fits(f) && f.format->computed_from; });
  if (largest == plan.formats.end()) {
    const plan::FormatPlan& least = plan.formats.back();
    text += fmt::format("  None fits with a context of {}: even {} needs {}.\n", plan.options.context,
                        least.format->name, bytes(least.needed));
  } else {
    text +=
        fmt::format("  The largest that fits with a context of {} is {}", plan.options.context, largest->format->name);
    if (computed == plan.formats.end()) {
      text += "; none that fits has a kernel here yet";
    } else if (computed != largest) {
      text += fmt::format("; with a kernel here, {}", computed->format->name);
    }
    text += ".\n";
  }
  text += fmt::format(
      "  Needs = weights + 5% + 200 MB + cache. Decode: one token after {} others; prefill: a prompt of {}.\n"
      "  Upper bounds: time = max(bytes / bandwidth, operations / arithmetic), with weights in memory, not in caches.\n"
      "  What does not fit is read from disk instead, and is slower by as much as the disk is. Arithmetic is taken as\n"
      "  float32 for every type: smaller ones are unpacked first, which is not counted.\n",
      plan.options.context, plan.options.prompt);
  if (std::any_of(plan.formats.begin(), plan.formats.end(), [](const auto& f) { return !f.format->computed_from; }))
    text += "  * This engine has no kernel for it yet: what a perfect one would reach.\n";
  text += "  A type other than the checkpoint's own needs a converted checkpoint.\n";
  return text;
}

std::string comparison(const plan::ModelPlan& plan, const plan::FormatPlan& f) {
  std::string text = fmt::format("\nAs {}: why a mixture of experts\n", f.format->name);
  text +=
      fmt::format("{:<34}{:>11}{:>10}{:>10}{:>11}{:>11}\n", "", "weights", "decode", "prefill", "decode", "prefill");
  text +=
      fmt::format("{:<34}{:>11}{:>10}{:>10}{:>11}{:>11}\n", "", "", "tokens/s", "tokens/s", "FLOP/byte", "FLOP/byte");
  const auto line = [&](const std::string& name, Index size, const plan::Speeds& s) {
    text += fmt::format("  {:<32}{:>11}{:>10}{:>10}{:>11.2f}{:>11.1f}\n", name, bytes(size),
                        speed(s.decode_tokens_per_second), speed(s.prefill_tokens_per_second), s.decode.intensity(),
                        s.prefill.intensity());
  };
  const bool sparse = plan.file.config.has_moe();
  line(sparse ? "this model" : "this model (dense)", f.bytes, f.sparse);
  if (sparse) {
    line(fmt::format("dense of equal total, {}", count(static_cast<double>(plan.counts.total))), f.bytes,
         f.dense_total);
    line(fmt::format("dense of equal active, {}", count(static_cast<double>(plan.counts.active))),
         static_cast<Index>(f.dense_active_bytes), f.dense_active);
  }
  const double balance = plan.machine.arithmetic / plan.machine.bandwidth;
  text += fmt::format(
      "  This machine computes {:.1f} FLOP in the time of a byte: work below that waits for memory, above it for\n"
      "  arithmetic. Here decoding waits for {}, prefill for {}.\n",
      balance, f.sparse.decode.waits_for_memory(plan.machine) ? "memory" : "arithmetic",
      f.sparse.prefill.waits_for_memory(plan.machine) ? "memory" : "arithmetic");
  if (f.batches.empty()) return text;
  text +=
      fmt::format("\nAs {}: several texts at once, each with {} tokens before\n", f.format->name, plan.options.context);
  text += fmt::format("  {:>6}{:>18}{:>14}{:>12}{:>14}\n", "texts", sparse ? "experts a layer" : "", "weights read",
                      "tokens/s", "FLOP/byte");
  for (const plan::BatchPlan& b : f.batches)
    text += fmt::format("  {:>6}{:>18}{:>14}{:>12}{:>14.2f}\n", b.batch, sparse ? fmt::format("{:.1f}", b.experts) : "",
                        bytes(static_cast<Index>(b.cost.weight_bytes)), speed(b.tokens_per_second), b.cost.intensity());
  if (sparse) text += "  Experts that some text needs, expected where all are alike likely: E (1 - (1 - K/E)^texts).\n";
  return text;
}

std::string caches(const plan::ModelPlan& plan) {
  const auto& layers = plan.file.config.layers;
  const auto bounded =
      std::count_if(layers.begin(), layers.end(), [](const auto& l) { return l.attention.window > 0; });
  std::string text = fmt::format("\nKey/value cache of one text\n  {:>9}{:>16}", "context", "this engine");
  if (bounded > 0) text += fmt::format("{:>18}", "windows bound");
  text += fmt::format("{:>18}\n", "least, 16 bit");
  for (const plan::CachePlan& row : plan.caches) {
    text += fmt::format("  {:>9}{:>16}", row.context, bytes(row.allocated));
    if (bounded > 0) text += fmt::format("{:>18}", bytes(row.windows_bound));
    text += fmt::format("{:>18}\n", bytes(row.least));
  }
  const Index numbers = plan::cached_numbers(plan.file.config, 1, false);
  text += fmt::format("  {} numbers a token in {} layers; this engine keeps float32 for every position.\n",
                      grouped(numbers), layers.size());
  if (bounded > 0)
    text += fmt::format(
        "  {} layers see only the last {} positions: keeping no more of them is the column \"windows bound\".\n",
        bounded, std::find_if(layers.begin(), layers.end(), [](const auto& l) {
                   return l.attention.window > 0;
                 })->attention.window);
  if (const model::AttentionConfig& a = layers.front().attention; a.latent) {
    const Index expanded = a.heads * (a.head_dim + a.latent->value_dim);
    text += fmt::format(
        "  Latent attention caches {} numbers a token and layer; its keys and values would be {}, {:.0f} times as "
        "many.\n",
        model::cached_key_width(a), grouped(expanded),
        static_cast<double>(expanded) / static_cast<double>(model::cached_key_width(a)));
  }
  return text;
}

std::string training_cost(const plan::ModelPlan& plan, const TrainingQuestion& training) {
  const double flops = plan::training_flops(plan.counts, training.tokens);
  return fmt::format(
      "\nTraining on {} tokens: {:.3g} FLOP (6 x active (ii) x tokens, attention scores not counted), {} GPU-hours\n"
      "  at {:.0f}% of {:.0f} TFLOP/s (--tokens, --utilisation, --gpu-tflops).\n",
      count(training.tokens), flops, hours(plan::gpu_hours(flops, training.gpu)), 100.0 * training.gpu.utilisation,
      training.gpu.tflops);
}

}  // namespace

std::string plan_text(const plan::ModelPlan& plan, const plan::WeightFormat& shown, const TrainingQuestion& training) {
  const auto chosen = std::find_if(plan.formats.begin(), plan.formats.end(),
                                   [&](const plan::FormatPlan& f) { return f.format->name == shown.name; });
  std::string text = heading(plan) + parameters(plan) + memory_and_speed(plan);
  if (chosen != plan.formats.end()) text += comparison(plan, *chosen);
  return text + caches(plan) + training_cost(plan, training);
}

}  // namespace switchyard::cli
