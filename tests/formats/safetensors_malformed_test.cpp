#include "support.hpp"
#include "switchyard/formats/safetensors.hpp"

namespace switchyard::formats {
namespace {

// `header` followed by `data_bytes` zeros must be refused with a message that has all of `parts`.
void expect_refused(std::string_view header, std::size_t data_bytes, std::vector<std::string> parts,
                    ErrorKind kind = ErrorKind::kBadInput) {
  parts.push_back("w.safetensors: ");
  const std::string file = safetensors_of(header, data_bytes);
  expect_error(
      kind, parts, [&] { parse_safetensors_header(as_bytes(file), "w.safetensors"); },
      testing::Message() << "\n  header " << header.substr(0, 300));
}

// The same for an entry "x" alone.
void expect_entry_refused(std::string_view entry, std::size_t data_bytes, std::vector<std::string> parts,
                          ErrorKind kind = ErrorKind::kBadInput) {
  parts.push_back("tensor \"x\"");
  expect_refused(fmt::format(R"({{"x":{}}})", entry), data_bytes, std::move(parts), kind);
}

TEST(SafetensorsMalformed, TooShortForALength) {
  for (std::size_t size = 0; size < 8; ++size) {
    const std::string file(size, '\0');
    expect_error(ErrorKind::kBadInput, {"w.safetensors", "truncated", fmt::format("{} bytes", size)},
                 [&] { parse_safetensors_header(as_bytes(file), "w.safetensors"); });
  }
}

TEST(SafetensorsMalformed, HeaderLength) {
  const auto refuse = [](std::uint64_t length, std::size_t size, const std::vector<std::string>& parts) {
    std::string file(8 + size, ' ');
    std::memcpy(file.data(), &length, 8);
    expect_error(ErrorKind::kBadInput, parts, [&] { parse_safetensors_header(as_bytes(file), "w.safetensors"); });
  };
  refuse(100000001, 10, {"100000001", "at most 100000000"});
  refuse(~std::uint64_t{0}, 10, {"18446744073709551615"});
  refuse(100000000, 10, {"truncated", "100000000", "only 10 follow"});
  refuse(11, 10, {"truncated", "11 bytes", "only 10 follow"});
  refuse(0, 10, {"header: found nothing", "expected '{'"});
  refuse(10, 10, {"found \" \"", "expected '{'"});
}

TEST(SafetensorsMalformed, NotJson) {
  expect_refused("[]", 0, {"found \"[\"", "expected '{'"});
  expect_refused("{", 0, {"header: not valid JSON", "line 1, column 2"});
  expect_refused("{} x", 0, {"not valid JSON"});
  expect_refused("{}{}", 0, {"not valid JSON"});
  expect_refused(std::string_view("{}\0{}", 5), 0, {"not valid JSON", "NUL byte at offset 2"});
  expect_refused("{\"a\xff\":{}}", 0, {"not valid JSON", "UTF-8"});
  expect_refused("{\"\xc0\x80\":{}}", 0, {"not valid JSON", "UTF-8"});
  expect_refused(R"({"x":NaN})", 0, {"not valid JSON"});
  expect_refused(R"({/**/})", 0, {"not valid JSON"});
  expect_refused(R"({"x":1e999})", 0, {"not valid JSON"});
}

TEST(SafetensorsMalformed, MessagesCarryNoControlCharacters) {
  const std::string file = safetensors_of("{\"\\u001b[31m\\nred\":7}", 0);
  try {
    parse_safetensors_header(as_bytes(file), "w.safetensors");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(R"("\x1b[31m\x0ared")"));
    EXPECT_EQ(std::string_view(error.what()).find('\x1b'), std::string_view::npos);
  }
}

TEST(SafetensorsMalformed, DepthBomb) {
  expect_refused("{\"x\":" + std::string(1000000, '['), 0, {"tensor \"x\"", "found an array", "expected an object"});
  std::string objects = "{";
  for (int i = 0; i < 100000; ++i) objects += "\"x\":{";
  expect_refused(objects, 0, {"tensor \"x\"", "found key \"x\""});
  expect_refused(R"({"x":{"shape":)" + std::string(1000000, '['), 0, {"found an array", "expected an integer"});
}

TEST(SafetensorsMalformed, EntryShape) {
  expect_refused(R"({"x":7})", 0, {"tensor \"x\"", "found 7", "expected an object"});
  expect_refused(R"({"x":"y"})", 0, {"tensor \"x\"", "found \"y\"", "expected an object"});
  expect_refused(R"({"x":null})", 0, {"tensor \"x\"", "found null", "expected an object"});
  expect_entry_refused("{}", 0, {"dtype is missing"});
  expect_entry_refused(R"({"dtype":"U8","shape":[0]})", 0, {"data_offsets is missing"});
  expect_entry_refused(R"({"dtype":"U8","data_offsets":[0,0]})", 0, {"shape is missing"});
  expect_entry_refused(R"({"dtype":"U8","shape":[0],"data_offsets":[0,0],"strides":[1]})", 0,
                       {"found key \"strides\"", "expected dtype, shape and data_offsets"});
  expect_entry_refused(R"({"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]})", 0,
                       {"\"dtype\" appears twice"});
  expect_entry_refused(R"({"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]})", 0,
                       {"\"shape\" appears twice"});
  expect_entry_refused(R"({"dtype":"U8","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]})", 0,
                       {"\"data_offsets\" appears twice"});
}

TEST(SafetensorsMalformed, Dtype) {
  expect_entry_refused(R"({"dtype":"F31","shape":[0],"data_offsets":[0,0]})", 0, {"unknown dtype \"F31\""});
  expect_entry_refused(R"({"dtype":"f32","shape":[0],"data_offsets":[0,0]})", 0, {"unknown dtype \"f32\""});
  expect_entry_refused(R"({"dtype":"","shape":[0],"data_offsets":[0,0]})", 0, {"unknown dtype \"\""});
  expect_entry_refused(R"({"dtype":3})", 0, {"dtype: found 3", "expected a string"});
  expect_entry_refused(R"({"dtype":["F32"]})", 0, {"dtype: found an array", "expected a string"});
  for (const char* name : {"C64", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2"}) {
    expect_entry_refused(fmt::format(R"({{"dtype":"{}","shape":[8],"data_offsets":[0,8]}})", name), 8, {name},
                         ErrorKind::kUnsupported);
  }
  expect_entry_refused(R"({"dtype":"F4","shape":[3,5],"data_offsets":[0,7]})", 7,
                       {"found 15 elements of F4", "expected a multiple of 2"});
  expect_entry_refused(R"({"dtype":"F4","shape":[8],"data_offsets":[0,8]})", 8, {"expected 4 for shape [8] of F4"});
}

TEST(SafetensorsMalformed, Shape) {
  const auto with_shape = [](std::string_view shape) {
    return fmt::format(R"({{"dtype":"F32","shape":{},"data_offsets":[0,4]}})", shape);
  };
  expect_entry_refused(with_shape("1"), 4, {"shape: found 1", "expected an array"});
  expect_entry_refused(with_shape("[-1]"), 4, {"shape: found -1", "expected an integer from 0"});
  expect_entry_refused(with_shape("[1.0]"), 4, {"shape: found 1.0", "expected an integer"});
  expect_entry_refused(with_shape("[1e0]"), 4, {"shape: found 1e0", "expected an integer"});
  expect_entry_refused(with_shape("[true]"), 4, {"shape: found true", "expected an integer"});
  expect_entry_refused(with_shape("[\"1\"]"), 4, {"shape: found \"1\"", "expected an integer"});
  expect_entry_refused(with_shape("[null]"), 4, {"shape: found null", "expected an integer"});
  expect_entry_refused(with_shape("[[1]]"), 4, {"shape: found an array", "expected an integer"});
  expect_entry_refused(with_shape("[9223372036854775808]"), 4, {"found 9223372036854775808"});
  expect_entry_refused(with_shape("[1,1,1,1,1,1,1,1,1]"), 4, {"more than 8 numbers in shape"});
  expect_entry_refused(with_shape("[9223372036854775807]"), 4, {"overflows", "[9223372036854775807] of F32"});
  expect_entry_refused(with_shape("[4294967296,4294967296]"), 4, {"overflows"});
  expect_entry_refused(with_shape("[0,4294967296,4294967296]"), 4, {"overflows"});
}

TEST(SafetensorsMalformed, Offsets) {
  const auto with_offsets = [](std::string_view offsets) {
    return fmt::format(R"({{"dtype":"F32","shape":[2],"data_offsets":{}}})", offsets);
  };
  expect_entry_refused(with_offsets("[0]"), 8, {"found 1 data_offsets", "expected 2"});
  expect_entry_refused(with_offsets("[]"), 8, {"found 0 data_offsets", "expected 2"});
  expect_entry_refused(with_offsets("[0,8,8]"), 8, {"more than 2 numbers in data_offsets"});
  expect_entry_refused(with_offsets("[8,0]"), 8, {"[8, 0] run backwards"});
  expect_entry_refused(with_offsets("[0,-8]"), 8, {"data_offsets: found -8"});
  expect_entry_refused(with_offsets("[0,18446744073709551615]"), 8, {"data_offsets: found 18446744073709551615"});
  expect_entry_refused(with_offsets("[0,7]"), 8, {"are 7 bytes", "expected 8", "[2] of F32"});
  expect_entry_refused(with_offsets("[0,9]"), 9, {"are 9 bytes", "expected 8"});
  expect_entry_refused(with_offsets("[8,16]"), 15, {"truncated", "ends at byte 16", "only 15 bytes"});
  expect_entry_refused(with_offsets("[9223372036854775799,9223372036854775807]"), 8, {"truncated"});
}

std::string two_tensors(std::string_view a, std::string_view b) {
  return fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                     R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                     a, b);
}

TEST(SafetensorsMalformed, Coverage) {
  expect_refused(two_tensors("[0,4]", "[3,7]"), 7, {"\"a\" [0, 4]", "\"b\" [3, 7]", "overlaps"});
  expect_refused(two_tensors("[0,4]", "[0,4]"), 4, {"\"a\"", "\"b\"", "overlaps"});
  expect_refused(two_tensors("[4,8]", "[2,6]"), 8, {"2 bytes", "before tensor \"b\" [2, 6]", "first"});
  expect_refused(two_tensors("[0,4]", "[6,10]"), 10,
                 {"2 bytes of data before tensor \"b\" [6, 10]", "the one before is \"a\" [0, 4]"});
  expect_refused(two_tensors("[0,4]", "[4,8]"), 9, {"1 bytes at the end", "the last one is \"b\" [4, 8]"});
  expect_refused("{}", 3, {"3 bytes at the end", "there are no tensors"});
  // An empty tensor may lie on a border, but not inside another tensor.
  const auto with_empty = [](int at) {
    return fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},)"
                       R"("e":{{"dtype":"F32","shape":[0,3],"data_offsets":[{0},{0}]}}}})",
                       at);
  };
  expect_refused(with_empty(2), 4, {"\"a\" [0, 4]", "\"e\" [2, 2]", "overlaps"});
  for (const int at : {0, 4}) {
    EXPECT_EQ(parse_safetensors_header(as_bytes(safetensors_of(with_empty(at), 4)), "w").tensors.size(), 2U);
  }
}

TEST(SafetensorsMalformed, Duplicates) {
  constexpr std::string_view kEntry = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  expect_refused(fmt::format(R"({{"x":{0},"x":{0}}})", kEntry), 0, {"tensor \"x\" appears twice"});
  // The same name, once spelt with an escape.
  expect_refused(fmt::format(R"({{"x":{0},"\u0078":{0}}})", kEntry), 0, {"tensor \"x\" appears twice"});
  expect_refused(R"({"__metadata__":{},"__metadata__":{}})", 0, {"\"__metadata__\" appears twice"});
  expect_refused(R"({"__metadata__":{"k":"a","k":"b"}})", 0, {"__metadata__", "\"k\" appears twice"});
}

TEST(SafetensorsMalformed, Metadata) {
  expect_refused(R"({"__metadata__":7})", 0, {"__metadata__: found 7", "expected an object"});
  expect_refused(R"({"__metadata__":{"k":7}})", 0, {"__metadata__: \"k\": found 7", "expected a string"});
  expect_refused(R"({"__metadata__":{"k":null}})", 0, {"found null", "expected a string"});
  expect_refused(R"({"__metadata__":{"k":{}}})", 0, {"found an object", "expected a string"});
  expect_refused(R"({"__metadata__":{"k":[]}})", 0, {"found an array", "expected a string"});
}

TEST(SafetensorsMalformed, ALongNameIsCutInTheMessage) {
  const std::string file = safetensors_of("{\"" + std::string(100000, 'x') + "\":7}", 0);
  try {
    parse_safetensors_header(as_bytes(file), "w.safetensors");
    FAIL();
  } catch (const Error& error) {
    EXPECT_LT(std::string_view(error.what()).size(), 400U);
  }
}

TEST(SafetensorsMalformed, EveryTruncationOfAGoodFileIsRefused) {
  const std::string good = read_file(golden("safetensors/numpy.safetensors"));
  for (std::size_t size = 0; size < good.size(); ++size) {
    expect_error(
        ErrorKind::kBadInput, {"w.safetensors"},
        [&] { parse_safetensors_header(as_bytes(good.substr(0, size)), "w.safetensors"); },
        testing::Message() << " at size " << size);
  }
}

// Whatever a header says, what was accepted must be safe to read.
void check_accepted(const std::string& file) {
  const SafetensorsHeader header = parse_safetensors_header(as_bytes(file), "w.safetensors");
  std::size_t at = header.data_begin;
  for (const TensorEntry& entry : header.tensors) {
    ASSERT_EQ(entry.offset, at);
    ASSERT_EQ(static_cast<Index>(entry.bytes), dtype_bytes(entry.dtype, entry.shape.numel()));
    at += entry.bytes;
  }
  ASSERT_EQ(at, file.size());
}

TEST(SafetensorsMalformed, MutantsOfTheWholeFile) {
  const std::string good = read_file(golden("safetensors/numpy.safetensors"));
  expect_sound_under_mutation(
      10000, "w.safetensors", [&](std::uint32_t number) { return mutant(good, number, kJsonTokens); }, check_accepted);
}

TEST(SafetensorsMalformed, MutantsOfTheHeaderUnderACorrectLength) {
  const std::string good = read_file(golden("safetensors/numpy.safetensors"));
  std::uint64_t length = 0;
  std::memcpy(&length, good.data(), 8);
  const std::string header = good.substr(8, length);
  expect_sound_under_mutation(
      10000, "w.safetensors",
      [&](std::uint32_t number) {
        return safetensors_of(mutant(header, number, kJsonTokens), good.size() - 8 - length);
      },
      check_accepted);
}

}  // namespace
}  // namespace switchyard::formats
