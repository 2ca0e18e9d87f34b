#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <bit>
#include <cstring>
#include <limits>
#include <unordered_map>

#include "switchyard/base/atomic_file.hpp"
#include "switchyard/text/tokenizer.hpp"
#include "text/text_samples.hpp"

namespace switchyard::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Ids = std::vector<std::int32_t>;

std::unique_ptr<Tokenizer> train(const std::string& text, const SentencePieceTraining& training) {
  const std::string_view view = text;
  const std::string name = "the sample";
  return train_sentencepiece({&view, 1}, {&name, 1}, training);
}

class SentencePiece : public InFolder {
 protected:
  std::string model_of(const Tokenizer& tokenizer) const {
    tokenizer.save(folder_);
    return read_file(folder_ / "tokenizer.model");
  }
};

TEST_F(SentencePiece, LearnsWordsNewlinesAndIndentation) {
  const std::string text = prose(400);
  const auto tokenizer = train(text, {.vocab_size = 420});
  EXPECT_EQ(tokenizer->vocab_size(), 420);
  EXPECT_EQ(tokenizer->bos_id(), 1);
  EXPECT_EQ(tokenizer->eos_id(), 2);
  EXPECT_EQ(tokenizer->token_bytes(1), "");
  for (const std::string piece : {" expert", " balance", "!\n\n", "   "}) {
    EXPECT_EQ(tokenizer->encode(piece).size(), 1U) << piece;
  }
  EXPECT_EQ(tokenizer->encode("365").size(), 3U);
  EXPECT_LT(tokenizer->encode(text).size() * 3, text.size());
  // What the text does not hold is spelt in bytes.
  EXPECT_EQ(tokenizer->encode("\u2581").size(), 3U);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("\u2581")), "\u2581");
}

TEST_F(SentencePiece, TrainingRepeats) {
  const std::string text = prose(200);
  EXPECT_EQ(model_of(*train(text, {.vocab_size = 380})), model_of(*train(text, {.vocab_size = 380})));
  // Also where only a share of the text is learnt from.
  const SentencePieceTraining part{.vocab_size = 340, .max_training_bytes = 20000};
  const std::string longer = prose(3000);
  EXPECT_EQ(model_of(*train(longer, part)), model_of(*train(longer, part)));
}

TEST_F(SentencePiece, TextWithoutASpaceStillKeepsSpaces) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "abcabdabe";
  const auto tokenizer = train(text, {.vocab_size = 266});
  for (const std::string& hard : hard_texts()) EXPECT_EQ(tokenizer->decode(tokenizer->encode(hard)), hard);
  EXPECT_THAT(tokenizer->encode(" "), ElementsAre(3 + ' '));
}

TEST_F(SentencePiece, ReservedCharactersDoNotDropTheText) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += "router\u2585 balances\u2581 load" + std::string("\0", 1) + " of experts ";
  const auto tokenizer = train(text, {.vocab_size = 300});
  EXPECT_EQ(tokenizer->encode(" balances").size(), 1U);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
}

// encode() cuts the text before it calls the library; the library must give the same for the whole.
TEST_F(SentencePiece, CuttingChangesNoId) {
  const auto tokenizer = train(prose(400), {.vocab_size = 420});
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.LoadFromSerializedProto(model_of(*tokenizer)).ok());
  for (std::string text : hard_texts()) {
    for (std::size_t at; (at = text.find("\u2581")) != std::string::npos;) text.erase(at, 3);
    std::vector<int> expected;
    ASSERT_TRUE(library.Encode(text, &expected).ok());
    EXPECT_EQ(tokenizer->encode(text), expected) << text;
  }
}

TEST_F(SentencePiece, RefusesInvalidUtf8WithItsOffset) {
  const auto tokenizer = train(prose(50), {.vocab_size = 300});
  expect_error(ErrorKind::kBadInput, {"UTF-8", "byte 10"}, [&] { tokenizer->encode("0123456789\xC3("); });
  expect_error(ErrorKind::kBadInput, {"UTF-8", "byte 0"}, [&] { tokenizer->encode("\xED\xA0\x80"); });
}

TEST_F(SentencePiece, TrainsFromFilesAndNamesTheBadOne) {
  put("a.txt", prose(100, 1));
  put("b.txt", prose(100, 2));
  const std::vector<std::filesystem::path> files = {folder_ / "a.txt", folder_ / "b.txt"};
  const auto from_files = train_sentencepiece(files, {.vocab_size = 350});
  const std::string a = prose(100, 1), b = prose(100, 2);
  const std::vector<std::string_view> texts = {a, b};
  const std::vector<std::string> names = {"a", "b"};
  EXPECT_EQ(model_of(*from_files), model_of(*train_sentencepiece(texts, names, {.vocab_size = 350})));

  put("b.txt", "good text \xFF bad text");
  expect_error(ErrorKind::kBadInput, {"b.txt", "UTF-8", "byte 10"},
               [&] { train_sentencepiece(files, {.vocab_size = 350}); });
  const std::vector<std::filesystem::path> missing = {folder_ / "none.txt"};
  expect_error(ErrorKind::kNotFound, {"none.txt"}, [&] { train_sentencepiece(missing, {}); });
}

TEST_F(SentencePiece, TellsWhatVocabularyWouldDo) {
  const auto number_after = [](const std::string& message, const std::string& words) {
    const std::size_t at = message.find(words);
    return at == std::string::npos ? Index{0} : static_cast<Index>(std::stoll(message.substr(at + words.size())));
  };
  const std::string text = prose(30);
  for (const auto& [wanted, words] :
       std::vector<std::pair<Index, std::string>>{{5000, "the largest it gives is "}, {262, "need at least "}}) {
    Index would_do = 0;
    try {
      train(text, {.vocab_size = wanted});
      ADD_FAILURE() << "no error for " << wanted;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadInput);
      EXPECT_THAT(error.what(), HasSubstr(std::to_string(wanted)));
      EXPECT_THAT(error.what(), Not(HasSubstr(".cc")));
      would_do = number_after(error.what(), words);
    }
    ASSERT_GT(would_do, 259);
    EXPECT_EQ(train(text, {.vocab_size = would_do})->vocab_size(), would_do);
  }
  expect_error(ErrorKind::kBadInput, {"no text"}, [] { train("", {}); });
  for (const Index size : {Index{-1}, Index{0}, Index{259}, Index{1} << 40}) {
    expect_error(ErrorKind::kBadInput, {std::to_string(size)}, [&] { train(text, {.vocab_size = size}); });
  }
  for (const double coverage : {0.0, -1.0, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    expect_error(ErrorKind::kBadInput, {"coverage"},
                 [&] { train(text, {.vocab_size = 300, .character_coverage = coverage}); });
  }
  expect_error(ErrorKind::kBadInput, {"0 bytes"}, [&] { train(text, {.vocab_size = 300, .max_training_bytes = 0}); });
}

// A published kind of model: normalises and adds a space in front. We must do as the library does.
std::string normalising_model(const std::string& type) {
  class Lines final : public sentencepiece::SentenceIterator {
   public:
    bool done() const override { return line_ == 300; }
    void Next() override { value_ = prose(1, ++line_); }
    const std::string& value() const override { return value_; }
    sentencepiece::util::Status status() const override { return {}; }

   private:
    std::uint64_t line_ = 0;
    std::string value_ = prose(1, 0);
  } lines;
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      std::unordered_map<std::string, std::string>{{"model_type", type},
                                                   {"vocab_size", "120"},
                                                   {"normalization_rule_name", "nmt_nfkc"},
                                                   {"hard_vocab_limit", "false"},
                                                   {"minloglevel", "4"}},
      &lines, &model);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return model;
}

TEST_F(SentencePiece, FollowsANormalisingModel) {
  for (const std::string type : {"bpe", "unigram", "char"}) {
    const std::string model = normalising_model(type);
    const auto tokenizer = parse_sentencepiece(model, "normalising");
    sentencepiece::SentencePieceProcessor library;
    ASSERT_TRUE(library.LoadFromSerializedProto(model).ok());
    for (const std::string& text : hard_texts()) {
      std::vector<int> ids;
      std::string decoded;
      ASSERT_TRUE(library.Encode(text, &ids).ok());
      ASSERT_TRUE(library.Decode(ids, &decoded).ok());
      EXPECT_EQ(tokenizer->encode(text), ids) << type;
      EXPECT_EQ(tokenizer->decode(ids), decoded) << type;
    }
    // Full width letters are normalised.
    EXPECT_EQ(tokenizer->decode(tokenizer->encode("\uFF54\uFF48\uFF45 load")), "the load");
  }
}

TEST_F(SentencePiece, KeepsHuggingFaceFilesThatCameWithAModel) {
  put("tokenizer.model", normalising_model("bpe"));
  put("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer", "legacy": false})");
  const auto loaded = load_tokenizer(folder_);
  const auto other = folder_ / "other";
  std::filesystem::create_directory(other);
  loaded->save(other);
  EXPECT_EQ(read_file(other / "tokenizer.model"), read_file(folder_ / "tokenizer.model"));
  EXPECT_EQ(read_file(other / "tokenizer_config.json"), read_file(folder_ / "tokenizer_config.json"));
  EXPECT_FALSE(std::filesystem::exists(other / "tokenizer.json"));
}

// --- malformed models ---

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(static_cast<unsigned char>(value | 0x80)));
  bytes.push_back(static_cast<char>(static_cast<unsigned char>(value)));
  return bytes;
}
std::string number(int field, std::uint64_t value) {
  return varint(static_cast<std::uint64_t>(field) << 3) + varint(value);
}
std::string block(int field, const std::string& content) {
  return varint(static_cast<std::uint64_t>(field) << 3 | 2) + varint(content.size()) + content;
}
std::string piece(const std::string& text, int type = 1, float score = 0.0F) {
  std::string bits(4, '\0');
  std::memcpy(bits.data(), &score, 4);
  return block(1, block(1, text) + varint(2 << 3 | 5) + bits + number(3, static_cast<std::uint64_t>(type)));
}
const std::string kUnknown = piece("<unk>", 2);
const std::string kBpe = block(2, number(3, 2));

TEST(SentencePieceModel, SmallestModelLoads) {
  const auto tokenizer = parse_sentencepiece(kUnknown + piece("\u2581a") + piece("a") + kBpe, "small");
  EXPECT_EQ(tokenizer->vocab_size(), 3);
  EXPECT_EQ(tokenizer->bos_id(), std::nullopt);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a")), "a");
}

TEST(SentencePieceModel, RefusesWhatIsWrong) {
  const std::string table_of_zeros = std::string("\0\4\0\0", 4) + std::string(1024, '\0');
  // A trie whose root leads 2^21 units on.
  std::string leads_outside = table_of_zeros + std::string("a\0", 2);
  leads_outside.replace(4, 4, std::string("\0\0\0\x7F", 4));
  // A trie whose root has a value behind the strings.
  std::string value_outside = table_of_zeros + std::string("a\0", 2);
  value_outside.replace(4, 4, std::string("\0\x05\0\0", 4));
  value_outside.replace(8, 4, std::string("\x50\0\0\x80", 4));
  const auto with_table = [](const std::string& table) {
    return kUnknown + piece("a") + kBpe + block(3, block(2, table));
  };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "no pieces"},
      {"this is not a model", ""},
      {kUnknown + std::string("\x0A\xFF", 2), "truncated"},
      {kUnknown + std::string("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11), "truncated"},
      {kUnknown + std::string(12, '\xFF'), "more than ten bytes"},
      {kUnknown + std::string("\x00\x00", 2), "field number"},
      {kUnknown + std::string("\x0B", 1), "wire type 3 instead"},
      {kUnknown + std::string("\x7B", 1), "unknown wire type"},
      {kUnknown + number(1, 5), "instead of bytes"},
      {piece("a") + kBpe, "0 unknown pieces"},
      {kUnknown + piece("<other>", 2), "2 unknown pieces"},
      {kUnknown + piece("a") + piece("a"), "there twice"},
      {kUnknown + piece(""), "piece 1 is empty"},
      {kUnknown + piece(std::string("a\0b", 3)), "zero byte"},
      {kUnknown + piece("\xFF"), "UTF-8"},
      {kUnknown + piece("a", 7), "piece type 7"},
      {kUnknown + piece("a", 1, std::numeric_limits<float>::quiet_NaN()), "finite"},
      {kUnknown + piece("a", 1, std::numeric_limits<float>::infinity()), "finite"},
      {kUnknown + piece("a") + block(2, number(3, 9)), "model type 9"},
      {kUnknown + kBpe, "no piece for any text"},
      {kUnknown + piece("a") + piece("<0x1G>", 6) + kBpe, "<0x1G>"},
      {kUnknown + piece("a") + piece("<0x1F>", 6) + kBpe, "1 byte pieces"},
      {kUnknown + piece("a") + piece("<0x1F>", 6) + block(2, number(3, 2) + number(35, 1)), "1 byte pieces"},
      {with_table("abc"), "truncated"},
      {with_table(std::string("\xFF\xFF\xFF\xFF", 4) + std::string(2000, 'a')), "a trie of"},
      {with_table(table_of_zeros), "a trie of"},
      {with_table(table_of_zeros + "a"), "zero byte"},
      {with_table(table_of_zeros + std::string("\xFF\0", 2)), "UTF-8"},
      {with_table(leads_outside), "leads outside"},
      {with_table(value_outside), "value outside"},
  };
  for (const auto& [model, part] : cases) {
    expect_error(ErrorKind::kBadInput, {"some.model", part},
                 [&bytes = model] { parse_sentencepiece(bytes, "some.model"); });
  }
}

// Whatever a damaged file holds, it is refused or works.
void use_or_refuse(const std::string& model) {
  try {
    const auto tokenizer = parse_sentencepiece(model, "damaged");
    for (const char* text : {"the router sends 12 tokens\n", "\uFF54\uFF48\uFF45 \u2460 caf\u00E9 \U0001F600"}) {
      const Ids ids = tokenizer->encode(text);
      for (const std::int32_t id : ids) ASSERT_LT(id, tokenizer->vocab_size());
      tokenizer->decode(ids);
    }
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kBadInput) << error.what();
  }
}

TEST_F(SentencePiece, SurvivesTruncationAndMutation) {
  const RandomStream random(3, RandomPurpose::kTest);
  std::uint64_t draw = 0;
  for (const std::string& model :
       {model_of(*train(prose(30), {.vocab_size = 300})), normalising_model("bpe"), normalising_model("unigram")}) {
    for (std::size_t length = 0; length < model.size(); length += 1 + length / 40) {
      use_or_refuse(model.substr(0, length));
    }
    for (int round = 0; round < 150; ++round) {
      std::string mutant = model;
      for (std::uint64_t flips = 1 + random.below(draw++, 4); flips > 0; --flips) {
        const std::uint64_t at = random.below(draw++, mutant.size());
        mutant[at] = static_cast<char>(static_cast<unsigned char>(random.bits(draw++)));
      }
      use_or_refuse(mutant);
    }
  }
}

}  // namespace
}  // namespace switchyard::text
