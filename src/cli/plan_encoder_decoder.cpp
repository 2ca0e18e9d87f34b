#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "plan.hpp"
#include "switchyard/base/progress.hpp"

namespace switchyard::cli {
namespace {

std::size_t sparse_layers(const std::vector<model::FeedForwardConfig>& layers) {
  std::size_t count = 0;
  for (const model::FeedForwardConfig& layer : layers)
    if (layer.moe) ++count;
  return count;
}

std::string bytes(Index number) { return format_bytes(static_cast<std::uint64_t>(number)); }

}  // namespace

std::string encoder_decoder_text(const std::string& origin, const plan::EncoderDecoderPlan& plan) {
  const model::EncoderDecoderConfig& c = plan.config;
  std::string text = fmt::format(
      "{}: switch_transformers, an encoder-decoder\n  encoder {} layers, {} with experts; decoder {} layers, {} with "
      "experts; width {}, vocabulary {}{}\n",
      origin, c.encoder.size(), sparse_layers(c.encoder), c.decoder.size(), sparse_layers(c.decoder), c.width, c.vocab,
      c.tied_embeddings ? " (output tied to the embedding)" : "");
  text += fmt::format("\n{:<20}{:>20}\n", "Parameters", "all");
  for (std::size_t i = 0; i < model::kParameterParts; ++i)
    if (plan.counts.parts[i] > 0)
      text += fmt::format("  {:<18}{:>20}\n", model::parameter_part_name(static_cast<model::ParameterPart>(i)),
                          plan.counts.parts[i]);
  text += fmt::format("  {:<18}{:>20}\n  {:<18}{:>20}  by a token that goes through both stacks\n", "total",
                      plan.counts.total, "active", plan.counts.active);
  text += fmt::format("\n{:<10}{:>12}{:>12}\n", "Data type", "weights", "needs");
  for (const plan::EncoderDecoderFormat& f : plan.formats)
    text += fmt::format("  {:<8}{:>12}{:>12}\n", f.format->name, bytes(f.bytes), bytes(f.needed));
  text += fmt::format(
      "  Needs = weights + 5% + 200 MB + caches of a source of {} tokens and as many written (--prompt): {} a token of "
      "the\n  source for cross-attention, {} a written token; a beam search has the latter once a beam.\n  Speeds are "
      "not predicted for encoder-decoders.\n",
      plan.source, bytes(plan.source_token_bytes), bytes(plan.written_token_bytes));
  return text;
}

nlohmann::ordered_json encoder_decoder_json(const std::string& origin, const plan::EncoderDecoderPlan& plan) {
  nlohmann::ordered_json json;
  json["file"] = origin;
  json["family"] = "switch_transformers";
  json["encoder_layers"] = plan.config.encoder.size();
  json["decoder_layers"] = plan.config.decoder.size();
  json["parameters"] = {{"total", plan.counts.total},
                        {"active", plan.counts.active},
                        {"active_experts", plan.counts.active_experts},
                        {"embedding", plan.counts.embedding}};
  for (std::size_t i = 0; i < model::kParameterParts; ++i) {
    std::string name(model::parameter_part_name(static_cast<model::ParameterPart>(i)));
    std::replace(name.begin(), name.end(), ' ', '_');
    json["parameters"]["parts"][name] = plan.counts.parts[i];
  }
  json["source_token_bytes"] = plan.source_token_bytes;
  json["written_token_bytes"] = plan.written_token_bytes;
  json["types"] = nlohmann::ordered_json::array();
  for (const plan::EncoderDecoderFormat& f : plan.formats)
    json["types"].push_back({{"name", f.format->name}, {"bytes", f.bytes}, {"needed", f.needed}});
  return json;
}

}  // namespace switchyard::cli
