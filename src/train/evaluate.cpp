#include <algorithm>
#include <numbers>

#include "switchyard/model/score_tokens.hpp"
#include "switchyard/train/trainer.hpp"

namespace switchyard::train {

EvalMetrics evaluate(model::Transformer& transformer, const TokenSplit& split, Index sequence, Index batch,
                     Index max_windows, moe::RoutingObserver* observer) {
  model::ScoreOptions options;
  options.window = sequence;
  options.batch = batch;
  options.max_windows = max_windows;
  options.observer = observer;
  const model::TokenScore score = model::score_tokens(transformer, split.tokens, options);
  EvalMetrics metrics;
  metrics.loss = score.nats / static_cast<double>(score.targets);
  const auto tokens = static_cast<double>(split.tokens.size());
  const auto bytes = static_cast<double>(std::max<Index>(1, split.bytes()));
  metrics.bits_per_byte = metrics.loss * tokens / bytes / std::numbers::ln2;
  metrics.tokens = score.targets;
  metrics.complete = score.complete;
  return metrics;
}

}  // namespace switchyard::train
