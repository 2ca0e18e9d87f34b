#pragma once
// Texts and helpers that the tests of tokenizers share.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/random.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {

// English-like text with repeated words, so that pieces can be learnt from it.
inline std::string prose(int sentences, std::uint64_t seed = 1) {
  static const std::vector<std::string> kWords = {
      "the",    "router", "sends",  "every", "token",  "to",      "its",     "experts", "and",  "some",
      "expert", "learns", "to",     "read",  "rivers", "while",   "another", "reads",   "code", "balance",
      "load",   "of",     "layers", "is",    "shared", "between", "12",      "365",     "café", "naïve"};
  const RandomStream random(seed, RandomPurpose::kTest);
  std::string text;
  std::uint64_t draw = 0;
  for (int i = 0; i < sentences; ++i) {
    const std::uint64_t length = 4 + random.below(draw++, 9);
    for (std::uint64_t w = 0; w < length; ++w) {
      if (w > 0) text += ' ';
      text += kWords[random.below(draw++, kWords.size())];
    }
    text += random.below(draw++, 3) == 0 ? "!\n\n" : ".\n";
    if (random.below(draw++, 5) == 0) text += "    indented = {1, 2};\n";
  }
  return text;
}

// Texts that tokenizers are known to lose something of.
inline std::vector<std::string> hard_texts() {
  std::vector<std::string> texts = {
      "",
      " ",
      "  ",
      "\n",
      "\n\n\n",
      "\t\ttabs\tand  two  spaces   ",
      " leading and trailing ",
      "CRLF\r\nline\r\n\r\nend\r",
      std::string("a zero \0 byte", 13),
      "control \x01\x02\x7F",
      "emoji \U0001F600\U0001F469\u200D\U0001F469\u200D\U0001F467 flags \U0001F1E9\U0001F1EA",
      "日本語のテキスト 中文 한국어 العربية",
      "combining e\u0301 and composed \u00E9, ligature \uFB01, full width \uFF21, circled \u2460",
      "literal \u2581 and \u2581\u2581under\u2581 and \u2585",
      "\uFEFFbyte order mark, no-break\u00A0space, ideographic\u3000space, line\u2028separator",
      "<s> </s> <unk> <0x0A> <pad> [INST]",
      "1234567890 3.14159 10,000",
      "aaaaaaaaaaaaaaaaaaa ------------- ........ hahahahahaha",
      prose(20, 9),
  };
  const RandomStream random(5, RandomPurpose::kTest);
  std::string mixed;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    // Half of it ASCII, the rest of any plane.
    char32_t c = static_cast<char32_t>(random.below(2 * i, i % 2 == 0 ? 0x80 : 0x110000));
    if (c >= 0xD800 && c <= 0xDFFF) c = ' ';
    append_utf8(mixed, c);
  }
  texts.push_back(mixed);
  return texts;
}

template <class F>
void expect_error(ErrorKind kind, const std::vector<std::string>& parts, F&& f) {
  try {
    f();
    ADD_FAILURE() << "no error; expected one with '" << parts.front() << "'";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    for (const std::string& part : parts) EXPECT_THAT(error.what(), ::testing::HasSubstr(part));
  }
}

class InFolder : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      result.push_back(entry.path().filename().string());
    }
    return result;
  }
  TemporaryFolder temporary_;
  const std::filesystem::path folder_ = temporary_.path();
};

}  // namespace switchyard::text
