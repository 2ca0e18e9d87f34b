#pragma once
// Guesses of the tokens to come, made with a model's layer for multi-token prediction.

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "switchyard/model/transformer.hpp"

namespace switchyard::runtime {

// Chooses a guess from the layer's logits, [V]; `guesses` are those before it.
using ChooseGuess = std::function<std::int32_t(std::span<const float> logits_V, std::span<const std::int32_t> guesses)>;

// Follows one sequence as the model reads it. Holds the final hidden state of every token, 4 D bytes, and the layer's
// own keys and values; what the layer makes of the tokens is computed when a guess is asked for. The transformer must
// outlive it and have the layer.
class Drafter {
 public:
  // capacity: tokens, as the session's cache. chunk: tokens a pass.
  Drafter(const model::Transformer& transformer, Index capacity, Index chunk);

  // The model has read these tokens from `position` on, which is not behind the end of what it has read before; what
  // was there is forgotten. hidden_TD and text_length as for Transformer::predict().
  void follow(Index position, std::span<const std::int32_t> ids, ConstMatrix hidden_TD, Index text_length);
  // Forgets the tokens from `length` on.
  void truncate(Index length);
  // Computes what does not depend on the token to come: to do it while a prompt is read.
  void catch_up(model::Transformer& transformer);
  // `count` tokens to follow `next`, which follows all that was read.
  std::vector<std::int32_t> draft(model::Transformer& transformer, std::int32_t next, Index count,
                                  const ChooseGuess& choose);

 private:
  autograd::Value read(model::Transformer& transformer, Index end);
  Index length() const { return static_cast<Index>(ids_.size()); }

  model::KvCache cache_;  // row t: of token t and its hidden state, and of token t + 1; guesses behind these
  Index chunk_, width_;
  Index rows_ = 0;  // of the cache that are of the model's own states
  std::vector<std::int32_t> ids_;
  std::vector<float> hidden_;         // [tokens, D]
  std::optional<std::int32_t> next_;  // what the last row was computed with, where all tokens have one
  Index text_length_ = 0;
};

}  // namespace switchyard::runtime
