#include "switchyard/model/kv_cache.hpp"

#include <algorithm>

#include "switchyard/base/error.hpp"

namespace switchyard::model {
namespace {

constexpr Index kFirstRows = 64;  // so that a short prompt does not grow its cache token by token

}  // namespace

KvCache::KvCache(std::span<const LayerConfig> layers, Index capacity) : capacity_(capacity) {
  if (capacity < 1) fail(ErrorKind::kBadInput, "a cache of {} positions, expected at least 1", capacity);
  for (const LayerConfig& layer : layers) {
    keys_.push_back(Tensor::uninitialized(DType::kF32, {0, cached_key_width(layer.attention)}));
    values_.push_back(Tensor::uninitialized(DType::kF32, {0, cached_value_width(layer.attention)}));
  }
}

Index KvCache::bytes() const {
  std::size_t sum = 0;
  for (const std::vector<Tensor>* tensors : {&keys_, &values_})
    for (const Tensor& tensor : *tensors) sum += tensor.bytes().size();
  return static_cast<Index>(sum);
}

void KvCache::reserve(Index count) {
  require(count >= 0, "room for {} positions was asked for", count);
  if (count > capacity_ - length_)
    fail(ErrorKind::kBadInput, "{} more positions after {} do not fit the context of {} positions", count, length_,
         capacity_);
  const Index needed = length_ + count;
  const auto grow = [&](Tensor& tensor) {
    const Index rows = tensor.shape()[0], cols = tensor.shape()[1];
    if (rows >= needed) return;
    Tensor larger =
        Tensor::uninitialized(DType::kF32, {std::min(capacity_, std::max({needed, 2 * rows, kFirstRows})), cols});
    std::copy_n(std::as_const(tensor).f32().data(), length_ * cols, larger.f32().data());
    tensor = std::move(larger);
  };
  for (Tensor& tensor : keys_) grow(tensor);
  for (Tensor& tensor : values_) grow(tensor);
}

void KvCache::truncate(Index length) {
  require(length >= 0 && length <= length_, "a cache of {} positions was truncated to {}", length_, length);
  length_ = length;
}

}  // namespace switchyard::model
