#pragma once
// What the tests of the file formats share: temporary folders, bytes, errors and damaged copies of good files.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "support/temporary_folder.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/tensor/tensor.hpp"

namespace switchyard::formats {

inline std::filesystem::path golden(std::string_view name) {
  return std::filesystem::path(SWITCHYARD_TEST_DIR) / "golden" / name;
}

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline std::vector<std::string> file_names(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// A safetensors file with this header and `data_bytes` zeros.
inline std::string safetensors_of(std::string_view header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + std::string(header) + std::string(data_bytes, '\0');
}

// A tensor of any type filled with random bits.
inline Tensor random_bits(DType dtype, const Shape& shape, std::uint32_t seed) {
  const RandomStream stream(seed, RandomPurpose::kTest);
  Tensor tensor = Tensor::uninitialized(dtype, shape);
  std::uint64_t i = 0;
  for (std::byte& byte : tensor.mutable_bytes()) byte = static_cast<std::byte>(stream.bits(i++));
  return tensor;
}

inline bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() && std::ranges::equal(a.bytes(), b.bytes());
}

// Runs `action`, which must throw an Error of this kind whose message contains all of `parts`.
template <class Action>
void expect_error(ErrorKind kind, const std::vector<std::string>& parts, Action&& action,
                  testing::Message context = {}) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what() << context;
    for (const std::string& part : parts) EXPECT_THAT(error.what(), testing::HasSubstr(part)) << context;
    return;
  }
  ADD_FAILURE() << "nothing was thrown, expected an error with " << testing::PrintToString(parts) << context;
}

// The `number`-th damaged copy of `good`: flipped bits, cut ends, and pieces removed, doubled or replaced by one of
// `tokens`. Deterministic.
inline std::string mutant(const std::string& good, std::uint32_t number, std::span<const std::string_view> tokens) {
  const RandomStream stream(2024, RandomPurpose::kTest, number);
  std::uint64_t draws = 0;
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(stream.below(draws++, n)); };
  std::string bad = good;
  const std::size_t edits = 1 + below(3);
  for (std::size_t edit = 0; edit < edits && !bad.empty(); ++edit) {
    const std::size_t at = below(bad.size());
    const std::size_t length = 1 + below(std::min<std::size_t>(bad.size() - at, 24));
    switch (below(6)) {
      case 0:
        bad[at] = static_cast<char>(bad[at] ^ (1 << below(8)));
        break;
      case 1:
        bad.resize(at);
        break;
      case 2:
        bad.erase(at, length);
        break;
      case 3:
        bad.insert(at, bad.substr(at, length));
        break;
      case 4:
        bad.replace(at, length, tokens[below(tokens.size())]);
        break;
      default:
        bad.insert(at, tokens[below(tokens.size())]);
        break;
    }
  }
  return bad;
}

inline constexpr std::array<std::string_view, 24> kJsonTokens = {"{",
                                                                 "}",
                                                                 "[",
                                                                 "]",
                                                                 "\"",
                                                                 ":",
                                                                 ",",
                                                                 "0",
                                                                 "-1",
                                                                 "1e3",
                                                                 "18446744073709551615",
                                                                 "1e999",
                                                                 "9",
                                                                 " ",
                                                                 "\\",
                                                                 "\n",
                                                                 "\\u0000",
                                                                 "4",
                                                                 "true",
                                                                 "false",
                                                                 "null",
                                                                 "\xff",
                                                                 "NaN",
                                                                 "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["};

// Parses `count` damaged copies: each must be accepted or end in an Error about the input that names the file. Both
// must happen. `parse(text)` may throw Error only; it checks what it accepted itself.
template <class Make, class Parse>
void expect_sound_under_mutation(std::uint32_t count, std::string_view file_name, Make&& make, Parse&& parse) {
  std::uint32_t accepted = 0, refused = 0;
  for (std::uint32_t number = 0; number < count; ++number) {
    const std::string bad = make(number);
    try {
      parse(bad);
      ++accepted;
    } catch (const Error& error) {
      ++refused;
      ASSERT_TRUE(error.kind() == ErrorKind::kBadInput || error.kind() == ErrorKind::kUnsupported)
          << "mutant " << number << ": " << error.what();
      ASSERT_THAT(error.what(), testing::StartsWith(std::string(file_name))) << "mutant " << number;
    }
  }
  EXPECT_GT(accepted, 0U);
  EXPECT_GT(refused, 0U);
}

}  // namespace switchyard::formats
