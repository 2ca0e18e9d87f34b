#include "switchyard/runtime/drafter.hpp"

#include <algorithm>

#include "switchyard/base/error.hpp"

namespace switchyard::runtime {

using autograd::Value;

namespace {

// A row of states, to go on from.
Value row_of(const Value& states, Index row) {
  const ConstMatrix from = states.matrix();
  Tensor one = Tensor::uninitialized(DType::kF32, {1, from.cols});
  std::copy_n(from.row(row), from.cols, one.f32().data());
  return Value(std::move(one));
}

}  // namespace

Drafter::Drafter(const model::Transformer& transformer, Index capacity, Index chunk)
    : cache_(transformer.prediction_cache(capacity)), chunk_(chunk), width_(transformer.config().width) {}

void Drafter::follow(Index position, std::span<const std::int32_t> ids, ConstMatrix hidden_TD, Index text_length) {
  require(position <= length() && !ids.empty() && hidden_TD.rows == static_cast<Index>(ids.size()) &&
              hidden_TD.cols == width_,
          "{} tokens at position {} of {} with states [{}, {}]", ids.size(), position, length(), hidden_TD.rows,
          hidden_TD.cols);
  truncate(position);
  if (rows_ == length() && next_ != ids[0]) rows_ = std::max<Index>(0, rows_ - 1);
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  for (Index t = 0; t < hidden_TD.rows; ++t)
    hidden_.insert(hidden_.end(), hidden_TD.row(t), hidden_TD.row(t) + hidden_TD.cols);
  text_length_ = text_length;
}

void Drafter::truncate(Index length) {
  if (length >= this->length()) return;
  // The row of the last token that stays was computed with one that goes.
  rows_ = std::min(rows_, std::max<Index>(0, length - 1));
  ids_.resize(static_cast<std::size_t>(length));
  hidden_.resize(static_cast<std::size_t>(length * width_));
}

// Rows up to `end`; the last one's output, where there is any to compute. Guesses of earlier are dropped.
Value Drafter::read(model::Transformer& transformer, Index end) {
  cache_.truncate(rows_);
  Value last;
  while (rows_ < end) {
    const Index count = std::min(chunk_, end - rows_);
    Tensor hidden = Tensor::uninitialized(DType::kF32, {count, width_});
    std::copy_n(hidden_.begin() + rows_ * width_, count * width_, hidden.f32().begin());
    std::vector<std::int32_t> next;
    for (Index t = rows_ + 1; t <= rows_ + count; ++t)
      next.push_back(t < length() ? ids_[static_cast<std::size_t>(t)] : next_.value());
    const Value states = transformer.predict(Value(std::move(hidden)), next, cache_, text_length_);
    rows_ += count;
    if (rows_ == end) last = row_of(states, count - 1);
  }
  return last;
}

void Drafter::catch_up(model::Transformer& transformer) {
  if (rows_ + 1 < length()) read(transformer, length() - 1);
}

std::vector<std::int32_t> Drafter::draft(model::Transformer& transformer, std::int32_t next, Index count,
                                         const ChooseGuess& choose) {
  require(length() > 0, "guesses behind a text of no tokens");
  next_ = next;
  rows_ = std::min(rows_, length() - 1);
  Value state = read(transformer, length());
  std::vector<std::int32_t> guesses;
  while (true) {
    const Tensor logits = transformer.prediction_logits(state.matrix());
    guesses.push_back(choose(logits.f32(), guesses));
    if (static_cast<Index>(guesses.size()) >= count) return guesses;
    state = transformer.predict(state, std::span(guesses).last(1), cache_, text_length_);
  }
}

}  // namespace switchyard::runtime
