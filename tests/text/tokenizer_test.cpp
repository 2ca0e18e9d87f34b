#include "switchyard/text/tokenizer.hpp"

#include <map>
#include <nlohmann/json.hpp>

#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/parallel.hpp"
#include "text/text_samples.hpp"

namespace switchyard::text {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;
using Ids = std::vector<std::int32_t>;

std::unique_ptr<Tokenizer> trained() {
  const std::string text = prose(400);
  const std::string_view view = text;
  const std::string name = "prose";
  return train_sentencepiece({&view, 1}, {&name, 1}, {.vocab_size = 420});
}

std::unique_ptr<Tokenizer> make(const std::string& kind) {
  if (kind == "byte") return make_byte_tokenizer();
  if (kind == "sentencepiece") return trained();
  std::string all;
  for (const std::string& text : hard_texts()) all += text;
  return make_char_tokenizer(all);
}

class EveryTokenizer : public InFolder, public ::testing::WithParamInterface<std::string> {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ = make(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Kinds, EveryTokenizer, ::testing::Values("byte", "char", "sentencepiece"),
                         [](const auto& instance) { return instance.param; });

TEST_P(EveryTokenizer, LosesNothing) {
  EXPECT_EQ(tokenizer_->kind(), GetParam());
  for (const std::string& text : hard_texts()) {
    const Ids ids = tokenizer_->encode(text);
    EXPECT_EQ(tokenizer_->decode(ids), text);
    std::string joined;
    for (const std::int32_t id : ids) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, tokenizer_->vocab_size());
      joined += tokenizer_->token_bytes(id);
    }
    EXPECT_EQ(joined, text);
  }
  EXPECT_TRUE(tokenizer_->encode("").empty());
  EXPECT_EQ(tokenizer_->decode({}), "");
}

TEST_P(EveryTokenizer, StreamsWholeCharactersOnly) {
  for (const std::string& text : hard_texts()) {
    StreamDecoder stream(*tokenizer_);
    std::string all;
    for (const std::int32_t id : tokenizer_->encode(text)) {
      const std::string part = stream.push(id);
      ASSERT_EQ(find_invalid_utf8(part), std::nullopt);
      all += part;
    }
    EXPECT_EQ(stream.finish(), "");
    EXPECT_EQ(all, text);
  }
}

TEST_P(EveryTokenizer, RefusesIdsOutOfRange) {
  const Index size = tokenizer_->vocab_size();
  for (const Index id : {Index{-1}, size, Index{1} << 30}) {
    const auto bad = static_cast<std::int32_t>(id);
    const std::vector<std::string> parts = {"token id " + std::to_string(id), std::to_string(size) + " tokens"};
    expect_error(ErrorKind::kBadInput, parts, [&] { tokenizer_->token_bytes(bad); });
    expect_error(ErrorKind::kBadInput, parts, [&] { tokenizer_->decode(Ids{0, bad}); });
    expect_error(ErrorKind::kBadInput, parts, [&] { StreamDecoder(*tokenizer_).push(bad); });
  }
}

TEST_P(EveryTokenizer, LoadsAsItWasSaved) {
  tokenizer_->save(folder_);
  const std::string own = GetParam() == "sentencepiece" ? "tokenizer.model" : "switchyard_tokenizer.json";
  EXPECT_THAT(names(), UnorderedElementsAre(own, "tokenizer.json", "tokenizer_config.json"));
  const auto loaded = load_tokenizer(folder_);
  EXPECT_EQ(loaded->kind(), tokenizer_->kind());
  EXPECT_EQ(loaded->vocab_size(), tokenizer_->vocab_size());
  EXPECT_EQ(loaded->bos_id(), tokenizer_->bos_id());
  EXPECT_EQ(loaded->eos_id(), tokenizer_->eos_id());
  for (const std::string& text : hard_texts()) EXPECT_EQ(loaded->encode(text), tokenizer_->encode(text));

  // Saving what was loaded gives the same files again.
  std::map<std::string, std::string> before;
  for (const std::string& name : names()) before[name] = read_file(folder_ / name);
  loaded->save(folder_);
  for (const auto& [name, content] : before) EXPECT_EQ(read_file(folder_ / name), content) << name;
}

// Encodes as the Hugging Face tokenizers library documents its byte-pair model: characters, unknown ones as bytes, then
// always the adjacent pair that comes first in the list, the leftmost first.
Ids encode_by_json(const nlohmann::json& json, const std::string& text) {
  const auto& vocab = json["model"]["vocab"];
  const bool byte_level = !json["pre_tokenizer"].is_null();
  std::map<std::pair<std::string, std::string>, std::size_t> rank;
  for (const auto& merge : json["model"]["merges"]) rank.emplace(std::pair(merge[0], merge[1]), rank.size());
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = byte_level ? 1 : read_utf8(std::string_view(text).substr(i)).length;
    const std::string character = text.substr(i, length);
    i += length;
    if (byte_level) {
      // The GPT-2 alphabet: printable Latin-1 stands for itself, the others follow from U+0100 in order.
      const auto printable = [](int b) { return (b > 32 && b < 127) || (b > 160 && b != 173); };
      const int byte = static_cast<unsigned char>(character[0]);
      int next = 256;
      for (int b = 0; b < byte; ++b) next += printable(b) ? 0 : 1;
      std::string spelt;
      append_utf8(spelt, static_cast<char32_t>(printable(byte) ? byte : next));
      parts.push_back(spelt);
    } else if (vocab.contains(character)) {
      parts.push_back(character);
    } else {
      for (const char c : character) parts.push_back(fmt::format("<0x{:02X}>", static_cast<unsigned char>(c)));
    }
  }
  while (true) {
    std::size_t best = parts.size(), best_rank = rank.size();
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = rank.find({parts[i], parts[i + 1]});
      if (found == rank.end() || found->second >= best_rank) continue;
      best = i;
      best_rank = found->second;
    }
    if (best == parts.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(vocab.at(part).get<std::int32_t>());
  return ids;
}

TEST_P(EveryTokenizer, HuggingFaceFileGivesTheSameIds) {
  tokenizer_->save(folder_);
  const auto json = nlohmann::json::parse(read_file(folder_ / "tokenizer.json"));
  EXPECT_EQ(static_cast<Index>(json["model"]["vocab"].size()), tokenizer_->vocab_size());
  for (const std::string& text : hard_texts()) {
    EXPECT_EQ(encode_by_json(json, text), tokenizer_->encode(text)) << text;
  }
  const auto config = nlohmann::json::parse(read_file(folder_ / "tokenizer_config.json"));
  EXPECT_EQ(config["tokenizer_class"], "PreTrainedTokenizerFast");
  EXPECT_EQ(config["clean_up_tokenization_spaces"], false);
}

TEST_P(EveryTokenizer, ManyThreadsMayEncode) {
  const std::string text = prose(30, 4);
  const Ids expected = tokenizer_->encode(text);
  std::vector<Ids> found(40);
  ThreadArena(4).run([&] {
    parallel_for(40, 1, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) found[static_cast<std::size_t>(i)] = tokenizer_->encode(text);
    });
  });
  EXPECT_THAT(found, ::testing::Each(expected));
}

TEST(ByteTokenizer, TakesAnyBytes) {
  const auto tokenizer = make_byte_tokenizer();
  std::string all;
  for (int b = 0; b < 256; ++b) all.push_back(static_cast<char>(static_cast<unsigned char>(b)));
  const Ids ids = tokenizer->encode(all);
  ASSERT_EQ(ids.size(), 256U);
  for (std::int32_t b = 0; b < 256; ++b) EXPECT_EQ(ids[static_cast<std::size_t>(b)], b);
  EXPECT_EQ(tokenizer->decode(ids), all);
  EXPECT_EQ(tokenizer->bos_id(), std::nullopt);
}

TEST(StreamDecoder, ReplacesWhatNeverBecomesACharacter) {
  const auto tokenizer = make_byte_tokenizer();
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.push(0xE2), "");
  EXPECT_EQ(stream.push(0x82), "");
  EXPECT_EQ(stream.push('x'), "\uFFFDx");
  EXPECT_EQ(stream.push(0xFF), "\uFFFD");
  EXPECT_EQ(stream.push(0xE2), "");
  EXPECT_EQ(stream.push(0x82), "");
  EXPECT_EQ(stream.push(0xAC), "€");
  EXPECT_EQ(stream.push(0xF0), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.finish(), "");
  EXPECT_EQ(stream.push('y'), "y");
}

TEST(CharTokenizer, OrdersItsCharactersByCodePoint) {
  const auto tokenizer = make_char_tokenizer("banana\U0001F600é\n");
  EXPECT_EQ(tokenizer->vocab_size(), 6);
  EXPECT_THAT(tokenizer->encode("\nabn\u00E9\U0001F600"), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(CharTokenizer, NamesWhatItCannotEncode) {
  const auto tokenizer = make_char_tokenizer("abc é");
  expect_error(ErrorKind::kBadInput, {"'ö'", "U+00F6", "byte 3"}, [&] { tokenizer->encode("é ö"); });
  expect_error(ErrorKind::kBadInput, {"character U+000A", "byte 1"}, [&] { tokenizer->encode("a\n"); });
  expect_error(ErrorKind::kBadInput, {"UTF-8", "byte 2"}, [&] { tokenizer->encode("ab\xFF"); });
  expect_error(ErrorKind::kBadInput, {"training text", "UTF-8", "byte 4"}, [] { make_char_tokenizer("abcd\xC3"); });
  expect_error(ErrorKind::kBadInput, {"empty"}, [] { make_char_tokenizer(""); });
}

class LoadTokenizer : public InFolder {};

TEST_F(LoadTokenizer, NamesWhatItLookedFor) {
  expect_error(ErrorKind::kNotFound,
               {folder_.string(), "switchyard_tokenizer.json", "tokenizer.json", "tokenizer.model", "tiktoken.model"},
               [&] { load_tokenizer(folder_); });
  EXPECT_FALSE(has_tokenizer(folder_));
  expect_error(ErrorKind::kNotFound, {"none"}, [&] { load_tokenizer(folder_ / "none"); });
  put("tokenizer.json", "{}");
  EXPECT_TRUE(has_tokenizer(folder_));
  expect_error(ErrorKind::kBadInput, {(folder_ / "tokenizer.json").string(), "'model'"},
               [&] { load_tokenizer(folder_); });
}

TEST_F(LoadTokenizer, RefusesMalformedJson) {
  const std::string start = R"({"format": "switchyard-tokenizer", "version": 1, )";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "JSON"},
      {"[]", "JSON"},
      {"{", "JSON"},
      {"\xFF", "JSON"},
      {std::string(100000, '['), "JSON"},
      {"{}", "'format'"},
      {R"({"format": 3})", "'format'"},
      {R"({"format": "other"})", "other"},
      {R"({"format": "switchyard-tokenizer"})", "'version'"},
      {R"({"format": "switchyard-tokenizer", "version": "1"})", "'version'"},
      {start + R"("x": 1})", "'kind'"},
      {start + R"("kind": "word"})", "word"},
      {start + R"("kind": "char"})", "'characters'"},
      {start + R"("kind": "char", "characters": ["a"]})", "'characters'"},
      {start + R"("kind": "char", "characters": ""})", "empty"},
      {start + R"("kind": "char", "characters": "ba"})", "U+0061 after U+0062"},
      {start + R"("kind": "char", "characters": "aa"})", "U+0061 after U+0061"},
  };
  for (const auto& [json, part] : cases) {
    put("switchyard_tokenizer.json", json);
    expect_error(ErrorKind::kBadInput, {"switchyard_tokenizer.json", part}, [&] { load_tokenizer(folder_); });
  }
  put("switchyard_tokenizer.json", R"({"format": "switchyard-tokenizer", "version": 2, "kind": "byte"})");
  expect_error(ErrorKind::kUnsupported, {"'version' is 2"}, [&] { load_tokenizer(folder_); });
}

}  // namespace
}  // namespace switchyard::text
