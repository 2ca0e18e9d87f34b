#include "switchyard/train/data.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "support.hpp"
#include "switchyard/base/atomic_file.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Data : public ::testing::Test {
 protected:
  DataConfig config(const std::string& tokenizer = "char", double validation = 0.25) const {
    DataConfig result;
    result.paths = {(folder_ / "text").string()};
    result.tokenizer = tokenizer;
    result.validation = validation;
    return result;
  }
  fs::path text(const std::string& name) const { return folder_ / "text" / name; }
  TokenData prepare(const DataConfig& how) const { return TokenData::prepare(how, folder_ / "tokens", nullptr); }
  std::string refusal(ErrorKind kind, const DataConfig& how) const {
    const std::string message = error_of(kind, [&] { prepare(how); });
    EXPECT_FALSE(fs::exists(folder_ / "tokens"));
    EXPECT_FALSE(fs::exists(folder_ / "tokens.tmp"));
    return message;
  }
  static std::string decoded(const TokenData& data, const TokenSplit& split, std::size_t domain) {
    const Domain& d = split.domains.at(domain);
    return data.tokenizer().decode(
        split.tokens.subspan(static_cast<std::size_t>(d.begin), static_cast<std::size_t>(d.end - d.begin)));
  }
  static std::vector<std::string> names(const TokenSplit& split) {
    std::vector<std::string> result;
    for (const Domain& domain : split.domains) result.push_back(domain.name);
    return result;
  }

  TemporaryFolder folder_;
};

TEST_F(Data, SubFoldersAreDomainsAndHiddenAndEmptyFilesArePassedOver) {
  put(text("poems/z.txt"), "zzzz");
  put(text("poems/deep/a.txt"), "aaaa");
  put(text("code/main.c"), "cccccccc");
  put(text("loose.txt"), "llll");
  put(text("code/.swp"), "\xff hidden");
  put(text(".git/config"), "hidden");
  put(text("code/empty"), "");
  const TokenData data = prepare(config());
  EXPECT_THAT(names(data.train()), ElementsAre("code", "poems", "text"));
  EXPECT_THAT(names(data.validation()), ElementsAre("code", "poems", "text"));
  EXPECT_EQ(decoded(data, data.train(), 0), "cccccc");
  EXPECT_EQ(decoded(data, data.validation(), 0), "cc");
  EXPECT_EQ(decoded(data, data.train(), 1), "aaazzz");  // files by path
  EXPECT_EQ(decoded(data, data.train(), 2), "lll");
  EXPECT_EQ(data.tokenizer().vocab_size(), 4);
}

TEST_F(Data, SingleFilesAreDomainsByTheirName) {
  put(text("one.txt"), "11111111");
  put(text("two.md"), "2222");
  DataConfig how = config();
  how.paths = {text("two.md").string(), text("one.txt").string()};
  EXPECT_THAT(names(prepare(how).train()), ElementsAre("one", "two"));
  how.paths = {(folder_ / "text").string() + "/"};
  EXPECT_THAT(names(TokenData::prepare(how, folder_ / "again", nullptr).train()), ElementsAre("text"));
}

TEST_F(Data, ATextIsCutBetweenCharacters) {
  // 13 bytes, of which 0.5 would be 6: in the middle of the third character.
  put(text("a"), "a\u20ac\u20ac\u20ac\u20ac");
  const TokenData data = prepare(config("char", 0.5));
  EXPECT_EQ(decoded(data, data.train(), 0), "a\u20ac\u20ac");
  EXPECT_EQ(decoded(data, data.validation(), 0), "\u20ac\u20ac");
  EXPECT_EQ(data.train().domains[0].bytes, 7);
  EXPECT_EQ(data.validation().domains[0].bytes, 6);
  EXPECT_EQ(data.train().bytes(), 7);
}

TEST_F(Data, BytesOfDomainsAddUpWithEveryTokenizer) {
  put(text("a/1"), simple_text(3001, 1));
  put(text("a/2"), simple_text(999, 2) + "\u00e9\u00e8");
  put(text("b/1"), simple_text(2000, 3));
  for (const char* tokenizer : {"byte", "char", "sentencepiece"}) {
    DataConfig how = config(tokenizer, 0.1);
    how.vocab = 320;
    const TokenData data = TokenData::prepare(how, folder_ / tokenizer, nullptr);
    EXPECT_EQ(data.train().bytes() + data.validation().bytes(), 3001 + 999 + 4 + 2000) << tokenizer;
    for (std::size_t x = 0; x < 2; ++x) {
      const std::string train = decoded(data, data.train(), x), held_out = decoded(data, data.validation(), x);
      EXPECT_EQ(static_cast<Index>(train.size()), data.train().domains[x].bytes) << tokenizer;
      EXPECT_EQ(static_cast<Index>(held_out.size()), data.validation().domains[x].bytes) << tokenizer;
    }
    EXPECT_EQ(data.train().domains.back().end, static_cast<Index>(data.train().tokens.size()));
  }
}

TEST_F(Data, ProgressCountsBytes) {
  put(text("a"), "aaaa");
  put(text("b"), "bbbbbb");
  std::vector<std::uint64_t> seen;
  TokenData::prepare(config(), folder_ / "tokens", [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_EQ(total, 10U);
    seen.push_back(done);
  });
  EXPECT_THAT(seen, ElementsAre(0, 4, 10));
}

TEST_F(Data, BadTextNamesFileAndOffset) {
  DataConfig how = config();
  EXPECT_THAT(refusal(ErrorKind::kNotFound, how), AllOf(HasSubstr("text"), HasSubstr("no such file or folder")));
  fs::create_directories(text("sub"));
  EXPECT_THAT(refusal(ErrorKind::kBadInput, how), HasSubstr("no text in this folder"));
  put(text("empty"), "");
  EXPECT_THAT(refusal(ErrorKind::kBadInput, how), HasSubstr("no text in this folder"));
  how.paths = {text("empty").string()};
  EXPECT_THAT(refusal(ErrorKind::kBadInput, how), HasSubstr("empty"));

  how = config();
  put(text("binary"), std::string("abc\0def", 7));
  for (const char* tokenizer : {"char", "sentencepiece"}) {
    how.tokenizer = tokenizer;
    EXPECT_THAT(refusal(ErrorKind::kBadInput, how),
                AllOf(HasSubstr(text("binary").string()), HasSubstr("zero byte at offset 3"), HasSubstr("byte")));
  }
  put(text("binary"), "ab\xff");
  EXPECT_THAT(refusal(ErrorKind::kBadInput, how),
              AllOf(HasSubstr(text("binary").string()), HasSubstr("invalid UTF-8 at byte 2")));
  put(text("binary"), "abc\xe2\x82");  // a character that the file's end cuts short
  EXPECT_THAT(refusal(ErrorKind::kBadInput, how), HasSubstr("invalid UTF-8 at byte 3"));
  put(text("binary"), "ab");
  EXPECT_THAT(refusal(ErrorKind::kBadInput, how), HasSubstr("data.vocab = 2048: "));  // too little for SentencePiece
}

TEST_F(Data, TheByteTokenizerTakesAnyBytes) {
  put(text("binary"), std::string("\0\xff\x80\xfe", 4));
  const TokenData data = prepare(config("byte", 0.5));
  EXPECT_THAT(std::vector<std::int32_t>(data.train().tokens.begin(), data.train().tokens.end()),
              ::testing::Contains(0));
  EXPECT_EQ(data.train().bytes() + data.validation().bytes(), 4);
}

TEST_F(Data, NamesThatAreNotUtf8DoNoHarm) {
  put(text("caf\xe9/a.txt"), "text");
  const TokenData data = prepare(config());
  EXPECT_THAT(names(data.train()), ElementsAre("caf\uFFFD"));
  EXPECT_EQ(data.source(), data_source(config()));
}

// An iterator over a folder stops at the first error; the rest of the text must not be missing silently.
TEST_F(Data, AFolderThatCannotBeReadIsAnError) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read every folder";
  put(text("a.txt"), "text");
  put(text("closed/b.txt"), "text");
  fs::permissions(text("closed"), fs::perms::none);
  EXPECT_THAT(refusal(ErrorKind::kResource, config()), AllOf(HasSubstr("closed"), HasSubstr("cannot list")));
  fs::permissions(text("closed"), fs::perms::owner_all);
}

TEST_F(Data, LinksAreFollowedButNotInCircles) {
  put(text("a/one.txt"), "aaaaaaaa");
  put(folder_ / "elsewhere/two.txt", "bbbb");
  fs::create_directory_symlink(folder_ / "elsewhere", text("b"));
  fs::create_directory_symlink(folder_ / "text", text("a/circle"));
  fs::create_directory_symlink(folder_ / "text", text("a/other_circle"));
  fs::create_directory_symlink(folder_ / "text/a", folder_ / "elsewhere/round_the_corner");
  const TokenData data = prepare(config());
  EXPECT_THAT(names(data.train()), ElementsAre("a", "b"));
  EXPECT_EQ(data.train().domains[0].bytes, 6);
  EXPECT_EQ(data.train().domains[1].bytes, 3 + 6);  // what the link round the corner adds, once
}

TEST_F(Data, ALinkThatLeadsNowhereIsPassedOver) {
  put(text("a.txt"), "text");
  fs::create_symlink("nowhere", text("b.txt"));
  EXPECT_EQ(prepare(config()).train().bytes(), 3);
}

TEST_F(Data, OpenGivesWhatPrepareMade) {
  put(text("a/x"), simple_text(500, 1));
  put(text("b/x"), simple_text(300, 2));
  EXPECT_FALSE(TokenData::exists(folder_ / "tokens"));
  const TokenData made = prepare(config()), opened = TokenData::open(folder_ / "tokens");
  EXPECT_TRUE(TokenData::exists(folder_ / "tokens"));
  EXPECT_TRUE(std::ranges::equal(made.train().tokens, opened.train().tokens));
  EXPECT_TRUE(std::ranges::equal(made.validation().tokens, opened.validation().tokens));
  EXPECT_EQ(names(made.train()), names(opened.train()));
  EXPECT_EQ(opened.train().domains[1].bytes, made.train().domains[1].bytes);
  EXPECT_EQ(made.tokenizer().kind(), opened.tokenizer().kind());
  EXPECT_EQ(opened.source(), data_source(config()));
}

TEST_F(Data, TheSourceChangesWithTheTextAndTheSettings) {
  put(text("a"), simple_text(500));
  const std::string before = data_source(config());
  EXPECT_EQ(data_source(config()), before);
  EXPECT_NE(data_source(config("byte")), before);
  EXPECT_NE(data_source(config("char", 0.3)), before);
  put(text("a"), simple_text(501));
  EXPECT_NE(data_source(config()), before);
}

TEST_F(Data, DamagedTokensAreRefused) {
  put(text("a"), simple_text(500));
  const fs::path tokens = folder_ / "tokens";
  prepare(config());
  const std::string meta = read_file(tokens / "tokens.json"), train = read_file(tokens / "train.bin");
  const auto refused = [&](const char* what) {
    const std::string message = error_of(ErrorKind::kBadInput, [&] { TokenData::open(tokens); });
    EXPECT_THAT(message, HasSubstr(tokens.string())) << what;
    put(tokens / "tokens.json", meta);
    put(tokens / "train.bin", train);
    EXPECT_NO_THROW(TokenData::open(tokens));
    return message;
  };
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = meta;
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    put(tokens / "tokens.json", text.replace(at, from.size(), to));
  };
  put(tokens / "train.bin", train.substr(0, train.size() - 1));
  EXPECT_THAT(refused("cut"), HasSubstr("train.bin"));
  put(tokens / "train.bin", train + train);
  EXPECT_THAT(refused("doubled"), HasSubstr("train.bin"));
  std::string high = train;
  high[7] = '\x7f';
  put(tokens / "train.bin", high);
  EXPECT_THAT(refused("id"), HasSubstr("token 1 has id"));
  high[7] = '\xff';
  put(tokens / "train.bin", high);
  EXPECT_THAT(refused("negative id"), HasSubstr("token 1 has id -"));
  replaced("\"version\": 1", "\"version\": 2");
  EXPECT_THAT(refused("version"), HasSubstr("version 2, expected 1"));
  replaced("\"tokens\"", "\"token\"");
  refused("key");
  replaced("\"ends\": [\n   375", "\"ends\": [\n   374");
  EXPECT_THAT(refused("ends"), HasSubstr("domains end at 374, expected 375"));
  replaced("\"ends\": [\n   375", "\"ends\": [\n   376");
  EXPECT_THAT(refused("ends"), HasSubstr("do not cover"));
  replaced("\"bytes\": [\n   375", "\"bytes\": [\n   -1");
  EXPECT_THAT(refused("bytes"), HasSubstr("do not cover"));
  put(tokens / "tokens.json", meta.substr(0, meta.size() / 2));
  refused("half");
  fs::remove(tokens / "train.bin");
  EXPECT_THAT(error_of(ErrorKind::kNotFound, [&] { TokenData::open(tokens); }), HasSubstr("train.bin"));
}

TEST_F(Data, AFolderThatCannotBeWrittenIsAnError) {
  put(text("a"), simple_text(500));
  EXPECT_THAT(error_of(ErrorKind::kResource, [&] { TokenData::prepare(config(), folder_ / "no/tokens", nullptr); }),
              HasSubstr("no/tokens"));
}

// Token i is i: a window can be told from its first token.
class Windows : public ::testing::Test {
 protected:
  Windows() : ids_(1000) {
    std::iota(ids_.begin(), ids_.end(), 0);
    split_.tokens = ids_;
  }
  Batch sample(Index batch, Index sequence, std::uint64_t seed, std::uint32_t step, std::uint32_t micro) const {
    Batch result;
    result.input = {1, 2, 3};  // what was there before must not matter
    sample_batch(split_, batch, sequence, seed, step, micro, result);
    return result;
  }
  std::vector<std::int32_t> ids_;
  TokenSplit split_;
};

TEST_F(Windows, TargetsAreTheNextTokens) {
  const Batch batch = sample(5, 7, 1, 2, 3);
  ASSERT_EQ(batch.input.size(), 35U);
  ASSERT_EQ(batch.target.size(), 35U);
  for (std::size_t i = 0; i < 35; ++i) {
    EXPECT_EQ(batch.target[i], batch.input[i] + 1);
    if (i % 7 != 0) {
      EXPECT_EQ(batch.input[i], batch.input[i - 1] + 1);
    }
  }
}

TEST_F(Windows, DependOnlyOnSeedStepAndMicroBatchSameBits) {
  const Batch one = sample(4, 9, 1, 2, 3);
  EXPECT_EQ(sample(4, 9, 1, 2, 3).input, one.input);
  EXPECT_NE(sample(4, 9, 2, 2, 3).input, one.input);
  EXPECT_NE(sample(4, 9, 1, 3, 3).input, one.input);
  EXPECT_NE(sample(4, 9, 1, 2, 4).input, one.input);
}

TEST_F(Windows, MicroBatchesAreTheRowsOfAStep) {
  const Batch whole = sample(6, 5, 7, 8, 0), first = sample(3, 5, 7, 8, 0), second = sample(3, 5, 7, 8, 1);
  std::vector<std::int32_t> rows = first.input;
  rows.insert(rows.end(), second.input.begin(), second.input.end());
  EXPECT_EQ(rows, whole.input);
}

TEST_F(Windows, ReachEveryTokenAndNoFurther) {
  // 1000 tokens have two windows of 998 and their target.
  std::array<int, 2> starts{};
  for (std::uint32_t step = 0; step < 64; ++step)
    ++starts.at(static_cast<std::size_t>(sample(1, 998, 1, step, 0).input[0]));
  EXPECT_GT(starts[0], 10);
  EXPECT_GT(starts[1], 10);
  EXPECT_EQ(sample(1, 999, 1, 0, 0).target.back(), 999);
  error_of(ErrorKind::kInternal, [&] { sample(1, 1000, 1, 0, 0); });
}

}  // namespace
}  // namespace switchyard::train
