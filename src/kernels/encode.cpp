#include "switchyard/kernels/encode.hpp"

#include <cstring>

#include "switchyard/base/error.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/tensor/half.hpp"
#include "switchyard/tensor/quantised.hpp"

namespace switchyard::kernels {

bool can_encode(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || dtype == DType::kQ80;
}

void encode(DType dtype, std::span<const float> from, std::span<std::byte> to) {
  constexpr Index kGrain = 1 << 16;  // elements a task
  const DTypeInfo& info = dtype_info(dtype);
  require(can_encode(dtype), "numbers of type {} were asked for", info.name);
  require(dtype_bytes(dtype, std::ssize(from)) == std::ssize(to), "{} numbers of {} to {} bytes", from.size(),
          info.name, to.size());
  // Each element is copied out, since the bytes need not be aligned.
  const auto convert = [&](std::span<const float> values, std::byte* out, const auto& one) {
    for (const float value : values) {
      const auto number = one(value);
      std::memcpy(out, &number, sizeof(number));
      out += sizeof(number);
    }
  };
  const Index blocks = std::ssize(from) / info.block_elements;
  parallel_for(blocks, kGrain / info.block_elements, [&](Index begin, Index end) {
    const auto part = [&](Index size) {
      return std::pair(static_cast<std::size_t>(begin * size), static_cast<std::size_t>((end - begin) * size));
    };
    const auto [first, count] = part(info.block_elements);
    const auto [first_byte, bytes] = part(info.block_bytes);
    const std::span<const float> values = from.subspan(first, count);
    const std::span<std::byte> out = to.subspan(first_byte, bytes);
    if (dtype == DType::kF32)
      std::memcpy(out.data(), values.data(), bytes);
    else if (dtype == DType::kF16)
      convert(values, out.data(), to_float16);
    else if (dtype == DType::kBF16)
      convert(values, out.data(), to_bfloat16);
    else
      quantise_q8_0(values, out);
  });
}

}  // namespace switchyard::kernels
