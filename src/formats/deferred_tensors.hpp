#pragma once
// What the writers of weights share.

#include <span>
#include <string_view>
#include <vector>

#include "switchyard/formats/stored_tensors.hpp"

namespace switchyard::formats {

std::size_t bytes_of(const DeferredTensor& tensor);

// Makes it and checks that it is what was promised (kInternal).
Tensor make_tensor(const DeferredTensor& tensor, std::string_view file);

// Runs of tensors of at most max_bytes together; a larger one is alone. No tensors are no run.
std::vector<std::span<const DeferredTensor>> cut_into_shards(std::span<const DeferredTensor> tensors,
                                                             std::size_t max_bytes);

}  // namespace switchyard::formats
