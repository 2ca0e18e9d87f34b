// An NPY file.

#include "switchyard/formats/npy.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace switchyard;
  return fuzz::run([&] {
    const Tensor tensor = formats::parse_npy(fuzz::bytes_of(fuzz::text_of(data, size)), "input");
    fuzz::check(static_cast<Index>(tensor.bytes().size()) == dtype_bytes(tensor.dtype(), tensor.numel()),
                "the size matches the shape");
  });
}
