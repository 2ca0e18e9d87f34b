#include "deferred_tensors.hpp"

#include "quoted.hpp"

namespace switchyard::formats {

std::size_t bytes_of(const DeferredTensor& tensor) {
  return static_cast<std::size_t>(dtype_bytes(tensor.dtype, tensor.shape.numel()));
}

Tensor make_tensor(const DeferredTensor& tensor, std::string_view file) {
  Tensor made = tensor.make();
  require(made.defined() && made.dtype() == tensor.dtype && made.shape() == tensor.shape,
          "{}: tensor {} was made of another type or shape than promised", file, in_quotes(tensor.name));
  return made;
}

std::vector<std::span<const DeferredTensor>> cut_into_shards(std::span<const DeferredTensor> tensors,
                                                             std::size_t max_bytes) {
  std::vector<std::span<const DeferredTensor>> shards;
  std::size_t filled = 0, first = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::size_t bytes = bytes_of(tensors[i]);
    if (shards.empty() || filled > max_bytes || bytes > max_bytes - filled) {
      shards.emplace_back();
      first = i;
      filled = 0;
    }
    shards.back() = tensors.subspan(first, i - first + 1);
    filled += bytes;
  }
  return shards;
}

}  // namespace switchyard::formats
