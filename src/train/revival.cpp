#include "switchyard/train/revival.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "switchyard/base/error.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/model/transformer.hpp"

namespace switchyard::train {
namespace {

// The part of a tensor [E, ...] that belongs to one of E.
std::span<float> part(Tensor& tensor, Index of, Index index) {
  const auto size = static_cast<std::size_t>(tensor.numel() / of);
  return tensor.f32().subspan(static_cast<std::size_t>(index) * size, size);
}

// The parameters of a layer that have a part for every expert (of_experts) or for every logit.
bool is_of_experts(std::string_view name, std::string_view prefix) {
  return name.starts_with(prefix) && name.substr(prefix.size()).starts_with("experts.");
}
bool is_of_router(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  return name == "router" || name == "router_bias" || name == "router_noise" || name == "router_residual" ||
         name == "selection_bias";
}

}  // namespace

std::vector<std::string> Revival::observe(Index step, const std::map<Index, moe::RoutingStatistics>& layers,
                                          model::Transformer& transformer, AdamW& optimizer) {
  std::vector<std::string> lines;
  if (config_.revive_after == 0) return lines;
  for (const auto& [layer, statistics] : layers) {
    const moe::RouterConfig& router = transformer.config().layers[static_cast<std::size_t>(layer)].moe->router;
    std::vector<Index>& dead_E = dead_steps_[layer];
    dead_E.resize(static_cast<std::size_t>(router.experts));
    const auto first = statistics.load_E.begin(), last = first + router.experts;
    const Index source = std::max_element(first, last) - first;
    const RandomStream random(config_.seed, RandomPurpose::kRevival, static_cast<std::uint32_t>(step),
                              static_cast<std::uint32_t>(layer));
    std::uint64_t draw = 0;
    for (Index e = 0; e < router.experts; ++e) {
      Index& dead = dead_E[static_cast<std::size_t>(e)];
      dead = first[e] == 0 ? dead + 1 : 0;
      if (dead < config_.revive_after || first[source] == 0) continue;
      dead = 0;
      const std::string prefix = fmt::format("layers.{}.moe.", layer);
      for (autograd::Parameter* parameter : transformer.parameters()) {
        const bool of_experts = is_of_experts(parameter->name, prefix);
        if (!of_experts && !is_of_router(parameter->name, prefix)) continue;
        const bool buffer = parameter->role == autograd::ParameterRole::kBuffer;
        if (!buffer && !parameter->wants_grad()) continue;
        const Index of = of_experts ? router.experts : router.choices();
        const std::span<float> from = part(parameter->value, of, source), to = part(parameter->value, of, e);
        for (std::size_t i = 0; i < from.size(); ++i)
          to[i] =
              buffer ? from[i] : from[i] * (1.0F + static_cast<float>(config_.revive_noise) * random.normal(draw++));
        for (AdamW::Moments& m : optimizer.moments()) {
          if (m.parameter != parameter) continue;
          std::ranges::fill(part(m.first, of, e), 0.0F);
          std::ranges::fill(part(m.second, of, e), 0.0F);
        }
      }
      lines.push_back(
          fmt::format("layer {}: expert {} got no token for {} steps and starts again as a copy of expert {}", layer, e,
                      config_.revive_after, source));
    }
  }
  return lines;
}

}  // namespace switchyard::train
