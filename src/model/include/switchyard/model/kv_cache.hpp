#pragma once
// Keys (rotated) and values of the tokens that a session has seen, a pair of tensors a layer.

#include <span>
#include <vector>

#include "switchyard/model/config.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::model {

// One sequence. Rows are positions; grows by doubling up to capacity. Not synchronised.
class KvCache {
 public:
  static constexpr Index kNumberBytes = 4;  // float32
  KvCache(const ModelConfig& config, Index capacity) : KvCache(config.layers, capacity) {}
  KvCache(std::span<const LayerConfig> layers, Index capacity);

  Index length() const { return length_; }
  Index capacity() const { return capacity_; }
  Index bytes() const;
  // Room for `count` more rows in every layer; kBadInput naming the capacity where there is none.
  void reserve(Index count);
  // The layer's tensors, [rows >= length, cached_key_width()] and [..., cached_value_width()]. The forward pass writes
  // rows from length() on and calls advance() once when all layers are done.
  Tensor& keys(Index layer) { return keys_[static_cast<std::size_t>(layer)]; }
  Tensor& values(Index layer) { return values_[static_cast<std::size_t>(layer)]; }
  void advance(Index count) { length_ += count; }
  // Forgets everything from position `length` on.
  void truncate(Index length);

 private:
  std::vector<Tensor> keys_, values_;
  Index length_ = 0, capacity_ = 0;
};

}  // namespace switchyard::model
