#include <algorithm>
#include <numbers>

#include "switchyard/base/error.hpp"
#include "switchyard/model/score_tokens.hpp"
#include "switchyard/train/trainer.hpp"

namespace switchyard::train {
namespace {

// The first token of a text has nothing before it: it is taken to cost what the others do.
double bits_per_byte(const model::TokenScore& score, std::size_t tokens, Index bytes) {
  const double loss = score.nats / static_cast<double>(score.targets);
  return loss * static_cast<double>(tokens) / static_cast<double>(std::max<Index>(1, bytes)) / std::numbers::ln2;
}

EvalMetrics metrics_of(const model::TokenScore& score, const TokenSplit& held_out) {
  EvalMetrics metrics;
  metrics.loss = score.nats / static_cast<double>(score.targets);
  metrics.bits_per_byte = bits_per_byte(score, held_out.tokens.size(), held_out.bytes());
  metrics.tokens = score.targets;
  metrics.complete = score.complete;
  return metrics;
}

}  // namespace

EvalMetrics evaluate_some(model::Transformer& transformer, const TokenSplit& held_out, Index sequence, Index batch,
                          Index max_windows) {
  model::ScoreOptions options;
  options.window = sequence;
  options.batch = batch;
  options.max_windows = max_windows;
  return metrics_of(model::score_tokens(transformer, held_out.tokens, options), held_out);
}

EvalMetrics evaluate_all(model::Transformer& transformer, const TokenSplit& held_out, Index sequence, Index batch,
                         const HeldOutReading& reading) {
  model::TokenScore total;
  total.complete = true;
  std::vector<DomainMetrics> domains;
  for (std::size_t i = 0; i < held_out.domains.size(); ++i) {
    const Domain& domain = held_out.domains[i];
    const auto begin = static_cast<std::size_t>(domain.begin), size = static_cast<std::size_t>(domain.end) - begin;
    if (size < 2) continue;
    model::ScoreOptions options;
    options.window = std::min(sequence, static_cast<Index>(size));
    options.batch = batch;
    if (reading.observer) options.observer = reading.observer(i);
    if (reading.progress)
      options.progress = [&](std::uint64_t windows, std::uint64_t) {
        reading.progress(begin + std::min<std::uint64_t>(windows * static_cast<std::uint64_t>(options.window), size));
      };
    const model::TokenScore score = model::score_tokens(transformer, held_out.tokens.subspan(begin, size), options);
    domains.push_back({domain.name, bits_per_byte(score, size, domain.bytes)});
    total.nats += score.nats;
    total.targets += score.targets;
  }
  require(total.targets > 0, "held-out text of {} tokens in {} domains has none to predict", held_out.tokens.size(),
          held_out.domains.size());
  EvalMetrics metrics = metrics_of(total, held_out);
  metrics.domains = std::move(domains);
  return metrics;
}

}  // namespace switchyard::train
