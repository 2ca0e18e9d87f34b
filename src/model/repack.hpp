#pragma once
// Matrices of weights from the layout and type of one file to those of another.

#include <span>

#include "families/tensor_names.hpp"
#include "switchyard/tensor/weight.hpp"

namespace switchyard::model {

// Puts the rows of `weight`, which is the whole matrix of which `place` holds a part, to where `place` has them in
// `tensor`, the bytes of a tensor of type `dtype`. Elements and blocks that have that type already are copied; others
// become float32 first, and then one of the types that kernels::encode() writes.
void put(const WeightView& weight, const TensorPlace& place, DType dtype, std::span<std::byte> tensor);

// MXFP4 as gpt-oss' folders have it, which is bytes of two neighbours and scales beside them, and as GGUF has it, which
// is 32 elements with their scale, the first 16 in the lower halves of bytes. `weight` is of either kind.
bool is_mxfp4(const WeightView& weight);
// Row `row` of `weight`: 16 bytes and one scale for each 32 elements.
void split_mxfp4_row(const WeightView& weight, Index row, std::byte* blocks, std::byte* scales);

}  // namespace switchyard::model
