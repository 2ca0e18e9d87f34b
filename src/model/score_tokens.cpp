#include "switchyard/model/score_tokens.hpp"

#include <algorithm>

#include "switchyard/base/error.hpp"
#include "switchyard/kernels/cross_entropy.hpp"

namespace switchyard::model {

TokenScore score_tokens(Transformer& transformer, std::span<const std::int32_t> tokens, const ScoreOptions& options) {
  const auto count = static_cast<Index>(tokens.size());
  const Index window = options.window;
  require(count >= 2 && window >= 1 && options.batch >= 1, "cannot score {} tokens in windows of {}", count, window);
  // Window w reads tokens [w * window, (w + 1) * window) and predicts those one further on.
  const Index windows = ceil_div(count - 1, window);
  const Index used = options.max_windows == 0 ? windows : std::min(windows, options.max_windows);
  TokenScore score;
  score.complete = used == windows;
  std::vector<std::int32_t> input, target;
  std::vector<std::uint8_t> valid;
  for (Index first = 0; first < used; first += options.batch) {
    const Index rows = std::min(options.batch, used - first);
    const auto cells = static_cast<std::size_t>(rows * window);
    input.assign(cells, 0);
    target.assign(cells, kernels::kIgnoreTarget);
    valid.assign(cells, 0);
    for (Index r = 0; r < rows; ++r) {
      const Index begin = (first + r) * windows / used * window;
      const Index length = std::min(window, count - 1 - begin);
      for (Index i = 0; i < length; ++i) {
        const auto to = static_cast<std::size_t>(r * window + i), from = static_cast<std::size_t>(begin + i);
        input[to] = tokens[from];
        target[to] = tokens[from + 1];
        valid[to] = 1;
      }
    }
    ForwardCall call;
    call.batch = rows;
    call.sequence = window;
    call.observer = options.observer;
    call.valid_T = valid;
    const auto result = transformer.forward(input, call);
    Index scored = 0;
    const auto loss = transformer.loss(nullptr, result.hidden_TD, target, &scored);
    score.nats += static_cast<double>(loss.scalar()) * static_cast<double>(scored);
    score.targets += scored;
    if (options.progress) {
      options.progress(static_cast<std::uint64_t>(first + rows), static_cast<std::uint64_t>(used));
    }
  }
  return score;
}

}  // namespace switchyard::model
