#include "switchyard/text/utf8.hpp"

#include <gtest/gtest.h>

#include <string>

#include "switchyard/base/error.hpp"

namespace switchyard::text {
namespace {

TEST(Utf8, EveryCharacterSurvivesTheRoundTrip) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Step step = read_utf8(text + "x");
    ASSERT_EQ(step.status, Utf8Status::kValid) << std::hex << static_cast<std::uint32_t>(c);
    ASSERT_EQ(step.length, text.size());
    ASSERT_EQ(step.code_point, c);
    ASSERT_EQ(find_invalid_utf8(text), std::nullopt);
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      const Utf8Step part = read_utf8(text.substr(0, cut));
      ASSERT_EQ(part.status, Utf8Status::kIncomplete) << std::hex << static_cast<std::uint32_t>(c);
      ASSERT_EQ(part.length, cut);
    }
  }
  std::string text;
  EXPECT_THROW(append_utf8(text, 0xD800), Error);
  EXPECT_THROW(append_utf8(text, 0x110000), Error);
}

// Of all byte strings of a length, exactly as many are one character as there are characters of that length. Together
// with the round trip above this pins down the valid set.
TEST(Utf8, NothingElseIsValid) {
  const auto whole = [](const std::string& s) {
    const Utf8Step step = read_utf8(s);
    return step.status == Utf8Status::kValid && step.length == s.size();
  };
  const auto byte = [](int b) { return static_cast<char>(static_cast<unsigned char>(b)); };
  int one = 0, two = 0, three = 0, four = 0;
  for (int a = 0; a < 256; ++a) {
    one += whole({byte(a)}) ? 1 : 0;
    for (int b = 0; b < 256; ++b) {
      two += whole({byte(a), byte(b)}) ? 1 : 0;
      if (a < 0x80) continue;
      for (int c = 0; c < 256; ++c) three += whole({byte(a), byte(b), byte(c)}) ? 1 : 0;
      // Bytes three and four have one rule, so their ends are enough: 2 of these 4 values are continuations.
      for (const int c : {0x7F, 0x80, 0xBF, 0xC0}) {
        for (const int d : {0x7F, 0x80, 0xBF, 0xC0}) four += whole({byte(a), byte(b), byte(c), byte(d)}) ? 1 : 0;
      }
    }
  }
  EXPECT_EQ(one, 0x80);
  EXPECT_EQ(two, 0x800 - 0x80);
  EXPECT_EQ(three, 0x10000 - 0x800 - 0x800);
  EXPECT_EQ(four, 0x100000 / 4096 * 4);
}

TEST(Utf8, FindsTheFirstInvalidByte) {
  EXPECT_EQ(find_invalid_utf8(""), std::nullopt);
  for (const std::string bad : {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
                                "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82", "\xF0\x9F\x98"}) {
    for (std::size_t before = 0; before < 20; ++before) {
      const std::string text = std::string(before, 'a') + bad;
      EXPECT_EQ(find_invalid_utf8(text), before);
      EXPECT_EQ(find_invalid_utf8("\xC3\xA4" + text + " and more text"), before + 2);
    }
  }
}

TEST(Utf8, ReplacesMaximalSubparts) {
  // The Unicode standard's own example (table 3-8).
  EXPECT_EQ(replace_invalid_utf8("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
  EXPECT_EQ(replace_invalid_utf8("fine \U0001F600"), "fine \U0001F600");
  EXPECT_EQ(replace_invalid_utf8("cut \xF0\x9F\x98"), "cut \uFFFD");
  EXPECT_EQ(replace_invalid_utf8(""), "");
}

}  // namespace
}  // namespace switchyard::text
