#include <cstring>

#include "support.hpp"
#include "switchyard/formats/gguf.hpp"

namespace switchyard::formats {
namespace {

// A file put together by hand.
class Bytes {
 public:
  Bytes() = default;
  Bytes(std::uint32_t version, std::uint64_t tensors, std::uint64_t items) {
    text("GGUF").u32(version).u64(tensors).u64(items);
  }
  Bytes& text(std::string_view value) {
    file_ += value;
    return *this;
  }
  template <class T>
  Bytes& raw(T value) {
    std::string bytes(sizeof(T), '\0');
    std::memcpy(bytes.data(), &value, sizeof(T));
    return text(bytes);
  }
  Bytes& u8(std::uint8_t value) { return raw(value); }
  Bytes& u32(std::uint32_t value) { return raw(value); }
  Bytes& u64(std::uint64_t value) { return raw(value); }
  Bytes& string(std::string_view value) { return u64(value.size()).text(value); }
  Bytes& key(std::string_view name, std::uint32_t type) { return string(name).u32(type); }
  Bytes& tensor(std::string_view name, const std::vector<std::uint64_t>& ne, std::uint32_t type, std::uint64_t offset) {
    string(name).u32(static_cast<std::uint32_t>(ne.size()));
    for (const std::uint64_t n : ne) u64(n);
    return u32(type).u64(offset);
  }
  Bytes& pad(std::size_t alignment = 32) {
    file_.resize((file_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  Bytes& zeros(std::size_t count) { return text(std::string(count, '\0')); }
  const std::string& file() const { return file_; }

 private:
  std::string file_;
};

void expect_refused(const Bytes& bytes, std::vector<std::string> parts, ErrorKind kind = ErrorKind::kBadInput) {
  parts.push_back("m.gguf: ");
  expect_error(kind, parts, [&] { parse_gguf_header(as_bytes(bytes.file()), "m.gguf"); });
}

constexpr std::uint64_t kHuge = std::uint64_t{1} << 60;
constexpr std::uint32_t kF32 = 0, kQ40 = 2, kQ6K = 14, kTypeU8 = 0, kTypeU32 = 4, kTypeF32 = 6, kTypeBool = 7,
                        kTypeString = 8, kTypeArray = 9;

TEST(GgufMalformed, MagicAndVersion) {
  expect_refused(Bytes(), {"not a GGUF file", "begins with \"\"", "expected \"GGUF\""});
  expect_refused(Bytes().text("GGU"), {"begins with \"GGU\""});
  expect_refused(Bytes().text("\x7f"
                              "ELF, or so"),
                 {"not a GGUF file", "\\x7fELF"});
  expect_refused(Bytes().text("GGUF"), {"header: a version of 4 bytes at byte 4", "only 0 bytes follow"});
  expect_refused(Bytes(1, 0, 0), {"GGUF version 1", "expected 2 or 3"}, ErrorKind::kUnsupported);
  expect_refused(Bytes(4, 0, 0), {"GGUF version 4", "expected 2 or 3"}, ErrorKind::kUnsupported);
  expect_refused(Bytes(0, 0, 0), {"GGUF version 0"});
  expect_refused(Bytes(0x03000000, 0, 0), {"big-endian", "version 3"}, ErrorKind::kUnsupported);
  for (const std::uint32_t version : {2U, 3U}) {
    const GgufHeader header = parse_gguf_header(as_bytes(Bytes(version, 0, 0).file()), "m.gguf");
    EXPECT_EQ(header.version, version);
    EXPECT_EQ(header.data_begin, 32U);
    EXPECT_TRUE(header.tensors.empty());
  }
}

TEST(GgufMalformed, CountsThatTheFileCannotHold) {
  expect_refused(Bytes(3, kHuge, 0), {"header: a list of 1152921504606846976 tensors", "only 8 bytes follow"});
  expect_refused(Bytes(3, 0, ~std::uint64_t{0}), {"header: a list of 18446744073709551615 keys"});
  expect_refused(Bytes(3, 0, 1), {"a list of 1 keys", "only 0 bytes follow"});
}

TEST(GgufMalformed, Strings) {
  expect_refused(Bytes(3, 0, 1).u64(kHuge).zeros(20), {"key 1 of 1: a name of 1152921504606846976 bytes"});
  expect_refused(Bytes(3, 0, 1).key("k", kTypeString).u64(kHuge).zeros(20),
                 {"key \"k\": a string of 1152921504606846976 bytes", "only 20 bytes follow"});
  expect_refused(Bytes(3, 0, 1).key("k", kTypeString).u64(~std::uint64_t{0}).zeros(20), {"key \"k\": a string"});
  expect_refused(Bytes(3, 1, 0).u64(kHuge).zeros(30), {"tensor 1 of 1: a name"});
}

TEST(GgufMalformed, Values) {
  expect_refused(Bytes(3, 0, 1).key("k", 13).zeros(8), {"key \"k\": found type 13", "expected 0 to 12"});
  expect_refused(Bytes(3, 0, 1).key("k", kTypeBool).u8(2), {"key \"k\": found the bool 2, expected 0 or 1"});
  expect_refused(Bytes(3, 0, 1).key("k", kTypeU32).u8(2), {"key \"k\": a u32 of 4 bytes", "only 1 bytes follow"});
  expect_refused(Bytes(3, 0, 2).key("k", kTypeU8).u8(1).key("k", kTypeU8).u8(1), {"key \"k\" appears twice"});
  expect_refused(Bytes(3, 0, 1).key("\x1b[31m", 13).zeros(8), {"key \"\\x1b[31m\""});
}

TEST(GgufMalformed, Arrays) {
  const auto array = [](std::uint32_t type, std::uint64_t count) {
    return Bytes(3, 0, 1).key("k", kTypeArray).u32(type).u64(count);
  };
  expect_refused(array(kTypeArray, 1).zeros(20), {"key \"k\"", "array of arrays"}, ErrorKind::kUnsupported);
  expect_refused(array(77, 1).zeros(20), {"key \"k\": found array of type 77"});
  for (const std::uint32_t type : {kTypeU8, kTypeU32, kTypeF32, kTypeBool, kTypeString, 10U, 12U}) {
    expect_refused(array(type, kHuge).zeros(20), {"key \"k\": an array of 1152921504606846976 elements"});
    expect_refused(array(type, ~std::uint64_t{0}).zeros(20), {"key \"k\": an array of 18446744073709551615 elements"});
  }
  expect_refused(array(kTypeU32, 6).zeros(20), {"key \"k\": an array of 6 elements", "only 20 bytes follow"});
  expect_refused(array(kTypeBool, 3).u8(1).u8(0).u8(9), {"found the bool 9"});
  expect_refused(array(kTypeString, 2).string("ab").u64(7), {"key \"k\": a string of 7 bytes"});
}

TEST(GgufMalformed, Alignment) {
  const auto aligned = [](std::uint32_t alignment) {
    return Bytes(3, 0, 1).key("general.alignment", kTypeU32).u32(alignment);
  };
  for (const std::uint32_t bad : {0U, 3U, 48U, 0x80000000U, 0x200000U})
    expect_refused(aligned(bad), {"\"general.alignment\"", fmt::format("the u32 {}", bad), "power of two"});
  expect_refused(Bytes(3, 0, 1).key("general.alignment", kTypeF32).raw(32.0F), {"the f32 32", "power of two"});
  EXPECT_EQ(parse_gguf_header(as_bytes(aligned(4096).file()), "m.gguf").data_begin, 4096U);
}

TEST(GgufMalformed, Tensors) {
  const auto one = [](const std::vector<std::uint64_t>& ne, std::uint32_t type, std::uint64_t offset = 0) {
    return Bytes(3, 1, 0).tensor("x", ne, type, offset).pad();
  };
  expect_refused(one({1, 1, 1, 1, 1}, kF32), {"tensor \"x\": found 5 dimensions, expected at most 4"});
  expect_refused(one({std::uint64_t{1} << 63}, kF32), {"tensor \"x\": found the dimension 9223372036854775808"});
  expect_refused(one({std::uint64_t{1} << 62}, kF32), {"overflows", "[4611686018427387904] of F32"});
  expect_refused(one({kHuge, 1, 64}, kF32), {"overflows"});
  expect_refused(one({0, kHuge, kHuge}, kF32), {"overflows"});
  expect_refused(one({33}, kQ40), {"rows of 33 elements", "a multiple of 32 for Q4_0"});
  expect_refused(one({128, 2}, kQ6K), {"rows of 128 elements", "a multiple of 256 for Q6_K"});
  expect_refused(one({}, kQ40), {"rows of 1 elements"});
  expect_refused(one({1}, 99), {"tensor \"x\": unknown type 99"});
  expect_refused(one({1}, 4), {"tensor \"x\": unknown type 4"});
  expect_refused(one({256}, 16), {"tensor \"x\": type 16 (IQ2_XXS)"}, ErrorKind::kUnsupported);
  expect_refused(one({32}, 9), {"type 9 (Q8_1)"}, ErrorKind::kUnsupported);
  expect_refused(one({8}, kF32, 32).zeros(100), {"tensor \"x\": found offset 32, expected 0", "beginning of the data"});
  expect_refused(one({8}, kF32).zeros(31), {"truncated: tensor \"x\" takes 32 bytes", "only 31 bytes of data"});
  expect_refused(one({kHuge}, kF32).zeros(31), {"truncated: tensor \"x\""});
  expect_refused(Bytes(3, 1, 0).tensor("x", {0}, kF32, 0), {"truncated"});  // not even padding
  expect_refused(Bytes(3, 1, 0).string("x").u32(2).u64(1).zeros(16),
                 {"tensor \"x\": an offset of 8 bytes", "only 4 bytes follow"});
}

TEST(GgufMalformed, TensorsThatDoNotFollowEachOther) {
  const auto two = [](std::uint64_t first, std::uint64_t second, std::string_view name = "b") {
    return Bytes(3, 2, 0).tensor("a", {9}, kF32, first).tensor(name, {9}, kF32, second).pad().zeros(200);
  };
  EXPECT_NO_THROW(parse_gguf_header(as_bytes(two(0, 64).file()), "m.gguf"));
  expect_refused(two(0, 32), {"tensor \"b\": found offset 32, expected 64, behind \"a\" at a multiple of 32"});
  expect_refused(two(0, 0), {"tensor \"b\": found offset 0, expected 64"});
  expect_refused(two(0, 36), {"tensor \"b\": found offset 36"});
  expect_refused(two(64, 0), {"tensor \"a\": found offset 64, expected 0"});
  expect_refused(two(0, 128), {"tensor \"b\": found offset 128"});
  expect_refused(two(0, ~std::uint64_t{31}), {"tensor \"b\": found offset 18446744073709551584"});
  expect_refused(two(0, 64, "a"), {"tensor \"a\" appears twice"});
}

TEST(GgufMalformed, SmallTensorsAreFine) {
  const Bytes bytes = Bytes(3, 3, 0)
                          .tensor("scalar", {}, kF32, 0)
                          .tensor("empty", {3, 0}, kF32, 32)
                          .tensor("row", {3, 1}, kF32, 32)
                          .pad()
                          .zeros(32 + 12);
  const GgufHeader header = parse_gguf_header(as_bytes(bytes.file()), "m.gguf");
  EXPECT_EQ(header.tensors[0].shape, Shape());
  EXPECT_EQ(header.tensors[1].shape, Shape({0, 3}));
  EXPECT_EQ(header.tensors[1].bytes, 0U);
  EXPECT_EQ(header.tensors[2].shape, Shape({1, 3}));
  EXPECT_EQ(header.tensors[2].offset, header.tensors[1].offset);
}

// Whatever a header says, what was accepted must be safe to read.
void check_accepted(const std::string& file) {
  const GgufHeader header = parse_gguf_header(as_bytes(file), "m.gguf");
  ASSERT_EQ(header.data_begin % header.alignment, 0U);
  std::size_t at = header.data_begin;
  for (const TensorEntry& entry : header.tensors) {
    ASSERT_EQ(entry.offset, at);
    ASSERT_EQ(static_cast<Index>(entry.bytes), dtype_bytes(entry.dtype, entry.shape.numel()));
    ASSERT_LE(at + entry.bytes, file.size());
    at = (at + entry.bytes + header.alignment - 1) / header.alignment * header.alignment;
  }
}

TEST(GgufMalformed, EveryTruncationIsRefused) {
  const std::string good = read_file(golden("gguf/whole.gguf"));
  const GgufHeader header = parse_gguf_header(as_bytes(good), "m.gguf");
  const TensorEntry& last = header.tensors.back();
  for (std::size_t size = 0; size < last.offset + last.bytes; ++size) {
    expect_error(
        ErrorKind::kBadInput, {"m.gguf"}, [&] { parse_gguf_header(as_bytes(good.substr(0, size)), "m.gguf"); },
        testing::Message() << " at size " << size);
  }
}

TEST(GgufMalformed, Mutants) {
  using namespace std::string_view_literals;
  static constexpr std::array kTokens = {"\0\0\0\0\0\0\0\0"sv,
                                         "\1\0\0\0\0\0\0\0"sv,
                                         "\xff\xff\xff\xff\xff\xff\xff\xff"sv,
                                         "\0\0\0\0\0\0\0\x10"sv,
                                         "\x08\0\0\0"sv,
                                         "\x09\0\0\0"sv,
                                         "\0\0\0\x80"sv,
                                         "\x20"sv,
                                         "\xff\xff\xff\x7f"sv,
                                         "\0\0\0\0\0\0\0\x80\x01\0"sv,
                                         "GGUF"sv,
                                         "general.alignment"sv};
  const std::string good = read_file(golden("gguf/whole.gguf"));
  const std::string header = good.substr(0, parse_gguf_header(as_bytes(good), "m.gguf").data_begin);
  for (const bool whole : {true, false}) {
    expect_sound_under_mutation(
        20000, "m.gguf",
        [&](std::uint32_t number) {
          if (whole) return mutant(good, number, kTokens);
          return mutant(header, number, kTokens) + good.substr(header.size());
        },
        check_accepted);
  }
}

}  // namespace
}  // namespace switchyard::formats
