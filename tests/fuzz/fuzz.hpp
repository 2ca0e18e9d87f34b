#pragma once
// What every fuzz target does: hand bytes to a parser, which must accept them or throw an Error about the input.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

#include "switchyard/base/error.hpp"

namespace switchyard::fuzz {

// A promise of the parser that was broken: libFuzzer keeps the input.
inline void check(bool condition, const char* promise) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

template <class Parse>
int run(Parse&& parse) {
  try {
    parse();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kBadInput && error.kind() != ErrorKind::kUnsupported) {
      std::fprintf(stderr, "an error that is not about the input: %s\n", error.what());
      std::abort();
    }
  }
  return 0;
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace switchyard::fuzz
