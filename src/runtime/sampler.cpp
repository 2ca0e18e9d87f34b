#include "switchyard/runtime/sampler.hpp"

#include <algorithm>
#include <cmath>

#include "switchyard/base/error.hpp"
#include "switchyard/base/random.hpp"

namespace switchyard::runtime {

void SamplingConfig::validate() const {
  const auto check = [](bool ok, const char* name, auto found, const char* expected) {
    if (!ok) fail(ErrorKind::kUsage, "{}: {}, expected {}", name, found, expected);
  };
  check(repeat_penalty > 0.0F && std::isfinite(repeat_penalty), "repeat penalty", repeat_penalty, "above 0");
  check(repeat_last >= 0, "repeat last", repeat_last, "0 or more");
  check(top_k >= 0, "top-k", top_k, "0 (all) or more");
  check(top_p > 0.0F && top_p <= 1.0F, "top-p", top_p, "above 0, at most 1");
  check(min_p >= 0.0F && min_p <= 1.0F, "min-p", min_p, "0 to 1");
  check(temperature >= 0.0F && std::isfinite(temperature), "temperature", temperature, "0 or more");
}

Sampler::Sampler(const SamplingConfig& config) : config_(config) { config_.validate(); }

std::int32_t Sampler::sample(std::span<const float> logits_V, std::span<const std::int32_t> history) {
  const std::int32_t id = draw(logits_V, history, draws_);
  ++draws_;
  return id;
}

std::int32_t Sampler::foresee(std::span<const float> logits_V, std::span<const std::int32_t> history,
                              std::uint64_t ahead) {
  return draw(logits_V, history, draws_ + ahead);
}

std::int32_t Sampler::draw(std::span<const float> logits_V, std::span<const std::int32_t> history,
                           std::uint64_t number) {
  require(!logits_V.empty(), "sampling from no logits");
  candidates_.clear();
  for (std::size_t id = 0; id < logits_V.size(); ++id) {
    if (std::isnan(logits_V[id])) fail(ErrorKind::kBadInput, "the model's logit of token {} is NaN", id);
    candidates_.push_back({static_cast<std::int32_t>(id), logits_V[id]});
  }
  if (config_.repeat_penalty != 1.0F) {
    const auto lately = history.last(std::min(history.size(), static_cast<std::size_t>(config_.repeat_last)));
    std::vector<std::int32_t> seen(lately.begin(), lately.end());
    std::sort(seen.begin(), seen.end());
    seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
    require(seen.empty() || (seen.front() >= 0 && seen.back() < static_cast<Index>(candidates_.size())),
            "the history has ids that the {} logits lack", candidates_.size());
    for (const std::int32_t id : seen) {
      float& logit = candidates_[static_cast<std::size_t>(id)].logit;
      logit = logit > 0.0F ? logit / config_.repeat_penalty : logit * config_.repeat_penalty;
    }
  }
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  if (config_.temperature == 0.0F) return std::min_element(candidates_.begin(), candidates_.end(), likelier)->id;

  const auto keep = [&](std::size_t count) { candidates_.resize(std::max<std::size_t>(1, count)); };
  const std::size_t k =
      config_.top_k == 0 ? candidates_.size() : std::min(candidates_.size(), static_cast<std::size_t>(config_.top_k));
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(k), candidates_.end(),
                    likelier);
  keep(k);

  // Relative to the likeliest, so that the exponentials cannot overflow. +inf logits share everything among them.
  const double top = static_cast<double>(candidates_.front().logit);
  const auto relative = [top](const Candidate& c, double temperature) {
    const double difference = static_cast<double>(c.logit) - top;
    return std::isnan(difference) ? 1.0 : std::exp(difference / temperature);
  };
  if (config_.top_p < 1.0F) {
    double total = 0.0, reached = 0.0;
    for (const Candidate& c : candidates_) total += relative(c, 1.0);
    std::size_t count = 0;
    while (count < candidates_.size() && reached < static_cast<double>(config_.top_p) * total) {
      reached += relative(candidates_[count++], 1.0);
    }
    keep(count);
  }
  if (config_.min_p > 0.0F) {
    const auto first_out = std::find_if(candidates_.begin(), candidates_.end(), [&](const Candidate& c) {
      return relative(c, 1.0) < static_cast<double>(config_.min_p);
    });
    keep(static_cast<std::size_t>(first_out - candidates_.begin()));
  }
  double total = 0.0;
  for (const Candidate& c : candidates_) total += relative(c, static_cast<double>(config_.temperature));
  const RandomStream random(config_.seed, RandomPurpose::kSampling);
  double left = static_cast<double>(random.uniform(number)) * total;
  for (const Candidate& c : candidates_) {
    left -= relative(c, static_cast<double>(config_.temperature));
    if (left < 0.0) return c.id;
  }
  return candidates_.back().id;
}

}  // namespace switchyard::runtime
