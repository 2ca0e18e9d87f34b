#pragma once
// How well a model predicts a text.

#include <cstdint>
#include <functional>
#include <span>

#include "switchyard/model/transformer.hpp"

namespace switchyard::model {

struct TokenScore {
  double nats = 0.0;  // sum over targets of -log p(target | its window so far)
  Index targets = 0;
  bool complete = false;  // every token but the first was a target
};

struct ScoreOptions {
  Index window = 0;       // tokens that the model sees at a time; each window starts afresh
  Index batch = 1;        // windows a forward pass
  Index max_windows = 0;  // 0 = all, else so many, spread evenly over the text
  moe::RoutingObserver* observer = nullptr;
  std::function<void(std::uint64_t windows_done, std::uint64_t windows)> progress;  // may be empty
};

// Cuts the text into windows that abut, so that every token but the first is a target exactly once. Needs two tokens.
TokenScore score_tokens(Transformer& transformer, std::span<const std::int32_t> tokens, const ScoreOptions& options);

}  // namespace switchyard::model
