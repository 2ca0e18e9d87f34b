#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/parallel.hpp"
#include "switchyard/text/tokenizer.hpp"
#include "text/text_samples.hpp"

namespace switchyard::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

const char* const kSmall = R"({
  "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
  "decoder": null,
  "model": {"type": "BPE", "unk_token": null, "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4, " ": 5},
            "merges": ["a b", "ab c"]}})";

// The small file with some of its values replaced: path and JSON.
std::string changed(const std::vector<std::pair<std::string, std::string>>& changes) {
  Json json = Json::parse(kSmall);
  for (const auto& [path, value] : changes) json[Json::json_pointer(path)] = Json::parse(value);
  return json.dump();
}

std::string added_token(const std::string& content, const std::string& flags, int id = 6) {
  return fmt::format(R"({{"id": {}, "content": "{}", {}}})", id, content, flags);
}

std::string list(const std::vector<std::string>& items) { return fmt::format("[{}]", fmt::join(items, ",")); }

TEST(TokenizerJson, MergesByRank) {
  const auto tokenizer = parse_tokenizer_json(kSmall, "small");
  EXPECT_EQ(tokenizer->kind(), "bpe");
  EXPECT_EQ(tokenizer->vocab_size(), 6);
  EXPECT_THAT(tokenizer->encode("abcab a"), ElementsAre(4, 3, 5, 0));
  // Merges may be pairs, and what has no token is left out where there is no unknown token.
  const auto pairs = parse_tokenizer_json(changed({{"/model/merges", R"([["a", "b"], ["ab", "c"]])"}}), "small");
  EXPECT_THAT(pairs->encode("abcxab"), ElementsAre(4, 3));
  // The reference joins tokens with a space where no decoder says otherwise.
  EXPECT_EQ(tokenizer->decode(Ids{4, 3}), "abc ab");
}

TEST(TokenizerJson, LongPiecesMergeAsShortOnes) {
  // Both ways to find the next merge, and pieces above and below the length where they change.
  Json json = Json::parse(kSmall);
  json["model"]["vocab"] = {{"a", 0}, {"aa", 1}, {"aaaa", 2}, {"b", 3}, {"ab", 4}, {"aab", 5}};
  json["model"]["merges"] = {"a a", "a b", "aa aa", "aa b"};
  const auto tokenizer = parse_tokenizer_json(json.dump(), "small");
  const RandomStream random(3, RandomPurpose::kTest);
  for (std::uint64_t length = 1; length < 130; ++length) {
    std::string text;
    for (std::uint64_t i = 0; i < length; ++i) text += random.below(length * 200 + i, 4) == 0 ? 'b' : 'a';
    // Merge rule by rule, each from left to right: what byte-pair encoding was first described as.
    std::vector<std::string> parts;
    for (const char c : text) parts.emplace_back(1, c);
    while (true) {
      const std::vector<std::pair<std::string, std::string>> rules = {
          {"a", "a"}, {"a", "b"}, {"aa", "aa"}, {"aa", "b"}};
      std::size_t at = parts.size();
      for (const auto& [left, right] : rules) {
        for (std::size_t i = 0; i + 1 < parts.size() && at == parts.size(); ++i) {
          if (parts[i] == left && parts[i + 1] == right) at = i;
        }
      }
      if (at == parts.size()) break;
      parts[at] += parts[at + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    Ids expected;
    for (const std::string& part : parts) expected.push_back(json["model"]["vocab"][part].get<std::int32_t>());
    EXPECT_EQ(tokenizer->encode(text), expected) << text;
  }
}

TEST(TokenizerJson, AddedTokensTakeTheirSpace) {
  const auto with = [](const std::string& flags) {
    return parse_tokenizer_json(changed({{"/added_tokens", list({added_token("<x>", flags)})}}), "small");
  };
  EXPECT_THAT(with(R"("special": true)")->encode("a <x> b"), ElementsAre(0, 5, 6, 5, 1));
  EXPECT_THAT(with(R"("special": true, "lstrip": true)")->encode("a <x> b"), ElementsAre(0, 6, 5, 1));
  EXPECT_THAT(with(R"("special": true, "rstrip": true)")->encode("a <x> \n b"), ElementsAre(0, 5, 6, 1));
  EXPECT_THAT(with(R"("special": true, "single_word": true)")->encode("a<x>b <x>"), ElementsAre(3, 5, 6));
  const auto special = with(R"("special": true)"), ordinary = with(R"("special": false)");
  EXPECT_THAT(special->encode_plain("a<x>b"), ElementsAre(3));
  EXPECT_THAT(ordinary->encode_plain("a<x>b"), ElementsAre(0, 6, 1));
  EXPECT_EQ(special->token_bytes(6), "");
  EXPECT_EQ(special->token_text(6), "<x>");
  EXPECT_EQ(ordinary->token_bytes(6), "<x>");
  EXPECT_EQ(special->vocab_size(), 7);
}

TEST(TokenizerJson, LongestAddedTokenAtTheLeftmostPlace) {
  const auto tokenizer = parse_tokenizer_json(
      changed({{"/added_tokens", list({added_token("<x", R"("special": false, "normalized": false)", 6),
                                       added_token("<x>", R"("special": true)", 7),
                                       added_token("x>>", R"("special": false, "normalized": false)", 8)})}}),
      "small");
  EXPECT_THAT(tokenizer->encode("<x>> <x x>>"), ElementsAre(7, 5, 6, 5, 8));
  // A special token that is not looked for still hides what lies within it.
  EXPECT_THAT(tokenizer->encode_plain("<x>a"), ElementsAre(0));
}

TEST(TokenizerJson, IdsOfAddedTokensAreAsTheLibraryGivesThem) {
  // Whatever the file says: that of the model's token, or the next one.
  const auto tokenizer = parse_tokenizer_json(
      changed({{"/added_tokens",
                list({added_token("abc", R"("special": true)", 99), added_token("<y>", R"("special": true)", 77)})}}),
      "small");
  EXPECT_THAT(tokenizer->encode("abc<y>"), ElementsAre(4, 6));
}

TEST(TokenizerJson, InvalidBytesAreReplacementCharacters) {
  const auto tokenizer = parse_tokenizer_json(
      changed({{"/pre_tokenizer", R"({"type": "Split", "pattern": {"String": "x"}, "behavior": "Isolated"})"},
               {"/model/vocab/\uFFFD", "6"}}),
      "small");
  EXPECT_THAT(tokenizer->encode("a\xFF\xE2\x82"
                                "b"),
              ElementsAre(0, 6, 6, 1));
}

TEST(TokenizerJson, StreamsByteFallback) {
  Json json = Json::parse(kSmall);
  json["model"]["byte_fallback"] = true;
  for (int byte = 0; byte < 256; ++byte) json["model"]["vocab"][fmt::format("<0x{:02X}>", byte)] = 6 + byte;
  json["decoder"] = Json::parse(R"({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]})");
  const auto tokenizer = parse_tokenizer_json(json.dump(), "small");
  const Ids ids = tokenizer->encode("ab€");
  EXPECT_THAT(ids, ElementsAre(3, 6 + 0xE2, 6 + 0x82, 6 + 0xAC));
  EXPECT_EQ(tokenizer->decode(ids), "ab€");
  StreamDecoder stream(*tokenizer);
  EXPECT_EQ(stream.push(ids[0]), "ab");
  EXPECT_EQ(stream.push(ids[1]), "");
  EXPECT_EQ(stream.push(ids[2]), "");
  EXPECT_EQ(stream.push(ids[3]), "€");
  // The reference: bytes that are no character, each for itself.
  EXPECT_EQ(tokenizer->decode(Ids{6 + 0xE2, 6 + 0x82}), "\uFFFD\uFFFD");
}

TEST(TokenizerJson, RefusesWhatIsWrong) {
  const std::string deep(100000, '[');
  const auto split = [](const std::string& regex) {
    return changed({{"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": )" + Json(regex).dump() +
                                           R"(}, "behavior": "Isolated"})"}});
  };
  struct Case {
    std::string json;
    ErrorKind kind;
    std::string part;
  };
  const ErrorKind bad = ErrorKind::kBadInput, unsupported = ErrorKind::kUnsupported;
  const std::vector<Case> cases = {
      {"", bad, "JSON"},
      {"[]", bad, "JSON"},
      {"{", bad, "JSON"},
      {"\xFF", bad, "JSON"},
      {R"({"model": {"vocab": {"\ud800": 1}}})", bad, "JSON"},
      {deep, bad, "64 deep"},
      {R"({"model": )" + deep, bad, "64 deep"},
      {"{}", bad, "'model'"},
      {R"({"model": 3})", bad, "'model'"},
      {changed({{"/model/type", R"("WordPiece")"}}), unsupported, "WordPiece"},
      {changed({{"/model/vocab", "[]"}}), bad, "'model.vocab'"},
      {changed({{"/model/vocab", "{}"}, {"/model/merges", "[]"}}), bad, "no tokens"},
      {changed({{"/model/vocab/a", "-1"}}), bad, "'a' has a negative number"},
      {changed({{"/model/vocab/a", "4194304"}}), bad, "has id 4194304"},
      {changed({{"/model/vocab/a", "99999999999999999999"}}), bad, "'a' has a number"},
      {changed({{"/model/vocab/a", "1.5"}}), bad, "'a' has a number"},
      {changed({{"/model/vocab/a", R"("x")"}}), bad, "'a' has a string"},
      {changed({{"/model/vocab/a", "{}"}}), bad, "'a' has an object"},
      {changed({{"/model/vocab/a", "1"}}), bad, "id 1 belongs to"},
      {R"({"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}})", bad, "'a' is there twice"},
      {R"({"model": {"vocab": {"a": 0}, "vocab": {"b": 1}, "merges": []}})", bad, "'model.vocab' is there twice"},
      {changed({{"/model/merges", "3"}}), bad, "'model.merges'"},
      {changed({{"/model/merges", "[3]"}}), bad, "entry 0 has a number"},
      {changed({{"/model/merges", R"(["ab"])"}}), bad, "entry 0 is 'ab'"},
      {changed({{"/model/merges", R"(["a b c"])"}}), bad, "entry 0 is 'a b c'"},
      {changed({{"/model/merges", R"([["a"]])"}}), bad, "entry 1"},
      {changed({{"/model/merges", R"([["a", "b", "c"]])"}}), bad, "a string"},
      {changed({{"/model/merges", R"(["a x"])"}}), bad, "needs the token 'x'"},
      {changed({{"/model/merges", R"(["a c"])"}}), bad, "needs the token 'ac'"},
      {changed({{"/model/dropout", "0.1"}}), unsupported, "'model.dropout'"},
      {changed({{"/model/fuse_unk", "3"}}), bad, "'model.fuse_unk': found 3, expected true or false"},
      {changed({{"/model", R"({"type": "Unigram", "vocab": [["a", 0], ["a", 1]]})"}}), bad, "twice"},
      {changed({{"/model", R"({"type": "Unigram", "vocab": [["a"]]})"}}), bad, "another length"},
      {changed({{"/model", R"({"type": "Unigram", "vocab": [["a", "b"]]})"}}), bad, "a string"},
      {changed({{"/model", R"({"type": "Unigram", "vocab": [["a", 0]], "unk_id": 1})"}}), bad, "'model.unk_id'"},
      {changed({{"/added_tokens", "3"}}), bad, "'added_tokens'"},
      {changed({{"/added_tokens", "[3]"}}), bad, "'added_tokens[0]'"},
      {changed({{"/added_tokens", R"([{"id": 1}])"}}), bad, "'added_tokens[0].content'"},
      {changed({{"/added_tokens", R"([{"id": -1, "content": "x"}])"}}), bad, "'added_tokens[0].id'"},
      {changed({{"/added_tokens", R"([{"id": 4294967296, "content": "x"}])"}}), bad, "'added_tokens[0].id'"},
      {changed({{"/added_tokens", list({added_token(std::string(5000, 'x'), R"("special": true)")})}}), bad,
       "5000 bytes"},
      {changed(
           {{"/model/vocab/c", "7"},
            {"/added_tokens", list({added_token("x", R"("special": true)"), added_token("y", R"("special": true)")})}}),
       bad, "would get the id 7"},
      {changed({{"/normalizer", R"({"type": "BertNormalizer"})"}}), unsupported, "BertNormalizer"},
      {changed({{"/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "!"})"}}), bad, "base64"},
      {changed({{"/normalizer", R"({"type": "Precompiled", "precompiled_charsmap": "AAAA"})"}}), bad, "table"},
      {changed({{"/normalizer", R"({"type": "Replace", "pattern": "x", "content": "y"})"}}), bad,
       "'normalizer.pattern'"},
      {changed({{"/pre_tokenizer", R"({"type": "UnicodeScripts"})"}}), unsupported, "UnicodeScripts"},
      {changed({{"/pre_tokenizer",
                 R"({"type": "Sequence", "pretokenizers": [{"type": "Metaspace", "replacement": ""}]})"}}),
       bad, "'pre_tokenizer.pretokenizers[0].replacement'"},
      {changed({{"/pre_tokenizer", R"({"type": "Punctuation", "behavior": "Other"})"}}), unsupported, "Other"},
      {changed({{"/decoder", R"({"type": "CTC"})"}}), unsupported, "CTC"},
      {changed({{"/decoder", R"({"type": "Strip", "content": "ab", "start": 0, "stop": 0})"}}), bad, "one character"},
      {split("(a"), unsupported, "'pre_tokenizer.pattern.Regex'"},
      {split("a)"), unsupported, "unmatched"},
      {split("[a"), unsupported, "does not end"},
      {split("[]"), unsupported, "class"},
      {split("*a"), unsupported, "nothing to repeat"},
      {split("a{2,1}"), unsupported, "from more to less"},
      {split("a{1000000}"), unsupported, "too many repeats"},
      {split("((((a{900}){900}){900}){900})"), unsupported, "regular expression"},
      {split("[b-a]"), unsupported, "range"},
      {split("\\p{Nonsense}"), unsupported, "Nonsense"},
      {split("\\p{"), unsupported, "unexpected end"},
      {split("(a)\\1"), unsupported, "escape"},
      {split("a\\"), unsupported, "backslash"},
      {split("(?x) a"), unsupported, "option 'x'"},
      {split(std::string(1000, '(') + "a" + std::string(1000, ')')), unsupported, "too deeply"},
      {split(std::string(1000, '[') + "a" + std::string(1000, ']')), unsupported, "too deeply"},
  };
  for (const Case& one : cases) {
    expect_error(one.kind, {"some.json", one.part}, [&] { parse_tokenizer_json(one.json, "some.json"); });
  }
}

TEST(TokenizerJson, ARegexThatNeverEndsIsAnError) {
  const auto tokenizer = parse_tokenizer_json(
      changed(
          {{"/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "(a|aa)+[cd]"}, "behavior": "Isolated"})"}}),
      "some.json");
  expect_error(ErrorKind::kBadInput, {"some.json", "(a|aa)+[cd]", "gave up"},
               [&] { tokenizer->encode(std::string(5000, 'a')); });
}

TEST(TokenizerJson, LongRunsDoNotExhaustTheStack) {
  const std::filesystem::path folder =
      std::filesystem::path(SWITCHYARD_TEST_DIR) / "golden" / "tokenizers" / "kimi-classes";
  const auto tokenizer = load_tokenizer(folder);
  for (const std::string unit : {"A", "a", " ", "\n", "1", "!", "\u4E2D", "\u0301", "a "}) {
    std::string text;
    while (text.size() < 300000) text += unit;
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
}

TEST(TokenizerJson, ManyThreadsMayEncode) {
  const auto tokenizer = load_tokenizer(std::filesystem::path(SWITCHYARD_TEST_DIR) / "golden" / "tokenizers" / "qwen2");
  const std::string text = prose(30, 4);
  const Ids expected = tokenizer->encode(text);
  std::vector<Ids> found(40);
  ThreadArena(4).run([&] {
    parallel_for(40, 1, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) found[static_cast<std::size_t>(i)] = tokenizer->encode(text);
    });
  });
  EXPECT_THAT(found, ::testing::Each(expected));
}

class PublishedFolder : public InFolder {
 protected:
  void SetUp() override {
    InFolder::SetUp();
    put("tokenizer.json", changed({{"/added_tokens", list({added_token("<s>", R"("special": true)", 6),
                                                           added_token("<e>", R"("special": true)", 7)})}}));
  }
};

TEST_F(PublishedFolder, TellsBeginAndEnd) {
  EXPECT_EQ(load_tokenizer(folder_)->bos_id(), std::nullopt);
  EXPECT_THAT(load_tokenizer(folder_)->end_ids(), ElementsAre());
  put("config.json", R"({"model_type": "x", "bos_token_id": 6, "eos_token_id": 3})");
  EXPECT_EQ(load_tokenizer(folder_)->bos_id(), 6);
  EXPECT_EQ(load_tokenizer(folder_)->eos_id(), 3);
  EXPECT_FALSE(load_tokenizer(folder_)->add_bos());
  put("generation_config.json", R"({"eos_token_id": [7, 2, 1000]})");
  EXPECT_THAT(load_tokenizer(folder_)->end_ids(), ElementsAre(7, 2));
  put("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": {"content": "a"}, "add_bos_token": true})");
  const auto tokenizer = load_tokenizer(folder_);
  EXPECT_EQ(tokenizer->bos_id(), 6);
  EXPECT_EQ(tokenizer->eos_id(), 0);
  EXPECT_THAT(tokenizer->end_ids(), ElementsAre(7, 2));
  EXPECT_TRUE(tokenizer->add_bos());
  put("tokenizer_config.json", R"({"bos_token": "<s>", "tokenizer_class": "LlamaTokenizerFast"})");
  EXPECT_TRUE(load_tokenizer(folder_)->add_bos());
  put("tokenizer_config.json", R"({"bos_token": null, "split_special_tokens": true})");
  EXPECT_THAT(load_tokenizer(folder_)->encode("a<s>"), ElementsAre(0));
  for (const char* wrong : {"{", "[]", R"({"bos_token": 3})", R"({"add_bos_token": "yes"})"}) {
    put("tokenizer_config.json", wrong);
    expect_error(ErrorKind::kBadInput, {"tokenizer_config.json"}, [&] { load_tokenizer(folder_); });
  }
}

TEST_F(PublishedFolder, TemplateTellsTheBeginToken) {
  Json json = Json::parse(read_file(folder_ / "tokenizer.json"));
  json["post_processor"] = Json::parse(R"({"type": "Sequence", "processors": [{"type": "ByteLevel"},
    {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
     {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {}}]})");
  put("tokenizer.json", json.dump());
  EXPECT_EQ(load_tokenizer(folder_)->bos_id(), 6);
  EXPECT_TRUE(load_tokenizer(folder_)->add_bos());
  EXPECT_THAT(load_tokenizer(folder_)->encode("a"), ElementsAre(0));
  put("tokenizer_config.json", R"({"add_bos_token": false})");
  EXPECT_FALSE(load_tokenizer(folder_)->add_bos());
}

TEST_F(PublishedFolder, SavesWhatItFound) {
  put("tokenizer_config.json", R"({"bos_token": "<s>"})");
  put("special_tokens_map.json", "{}");
  const auto other = folder_ / "other";
  std::filesystem::create_directory(other);
  load_tokenizer(folder_)->save(other);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}) {
    EXPECT_EQ(read_file(other / name), read_file(folder_ / name)) << name;
  }
}

TEST_F(PublishedFolder, TokenizerModelBesideIt) {
  const std::string text = prose(100);
  const std::string_view view = text;
  const std::string name = "prose";
  const auto ours = train_sentencepiece({&view, 1}, {&name, 1}, {.vocab_size = 340});
  // A model that loses nothing goes first, a tokenizer.json that cannot be used does not count.
  ours->save(folder_);
  EXPECT_EQ(load_tokenizer(folder_)->kind(), "sentencepiece");
  std::filesystem::remove(folder_ / "tokenizer.model");
  const auto from_json = load_tokenizer(folder_);
  EXPECT_EQ(from_json->kind(), "bpe");
  for (const std::string& hard : hard_texts()) EXPECT_EQ(from_json->encode(hard), ours->encode(hard)) << hard;

  put("tokenizer.model", "QQ== 0\n");
  EXPECT_EQ(load_tokenizer(folder_)->kind(), "bpe");
  put("tokenizer.json", changed({{"/model/type", R"("WordPiece")"}}));
  expect_error(ErrorKind::kBadInput, {"tokenizer.model", "no token for the byte 0"}, [&] { load_tokenizer(folder_); });
}

class Tiktoken : public InFolder {
 protected:
  static std::string ranks(const std::string& more) {
    const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string lines;
    for (std::size_t byte = 0; byte < 256; ++byte) {
      lines += fmt::format("{}{}== {}\n", digits[byte >> 2], digits[(byte & 3) << 4], byte);
    }
    return lines + more;
  }
};

TEST_F(Tiktoken, MergesByIdAndTakesWholePieces) {
  // "th" 256, "he" 257, "the" 258: "the" is whole; in "thex", "th" goes first.
  const auto tokenizer = parse_tiktoken(ranks("dGg= 256\naGU= 257\ndGhl 258\n"), "some.tiktoken", R"(\w+|\s+)");
  EXPECT_EQ(tokenizer->kind(), "tiktoken");
  EXPECT_THAT(tokenizer->encode("the the"), ElementsAre(258, 32, 258));
  EXPECT_THAT(tokenizer->encode("xhe"), ElementsAre('x', 257));
  EXPECT_EQ(tokenizer->decode(Ids{258, 0xE2, 0x82}), "the\uFFFD");
  EXPECT_EQ(tokenizer->token_bytes(0xE2), "\xE2");
}

TEST_F(Tiktoken, RefusesWhatIsWrong) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"x\n", "line 257"},       {"dGg=256\n", "line 257"},      {"d 256\n", "line 257"},
      {"dGg= -1\n", "line 257"}, {"dGg= 9999999\n", "line 257"}, {" 256\n", "line 257"},
      {"= 256\n", "line 257"},   {"dGg= 3\n", "repeats rank 3"}, {"AA== 256\n", "repeats a token"},
  };
  for (const auto& [more, part] : cases) {
    expect_error(ErrorKind::kBadInput, {"some.tiktoken", part},
                 [&lines = more] { parse_tiktoken(ranks(lines), "some.tiktoken", "x"); });
  }
  expect_error(ErrorKind::kBadInput, {"no tokens"}, [] { parse_tiktoken("", "some.tiktoken", "x"); });
  expect_error(ErrorKind::kUnsupported, {"pat_str", "256"}, [] { parse_tiktoken(ranks(""), "some.tiktoken", ""); });
  expect_error(ErrorKind::kUnsupported, {"some.tiktoken", "a**b(", "group"},
               [] { parse_tiktoken(ranks(""), "some.tiktoken", "a**b("); });
}

TEST_F(Tiktoken, LoadsWithTheConfigBesideIt) {
  put("small.tiktoken", ranks(""));
  put("tokenizer_config.json",
      R"({"pat_str": "\\S+|\\s+", "eos_token": "<|end|>", "added_tokens_decoder": {"300": {"content": "<|end|>",
          "special": true}}})");
  const auto tokenizer = load_tokenizer(folder_);
  EXPECT_EQ(tokenizer->vocab_size(), 301);
  EXPECT_THAT(tokenizer->encode("a<|end|>"), ElementsAre('a', 300));
  EXPECT_EQ(tokenizer->eos_id(), 300);
  EXPECT_EQ(tokenizer->token_bytes(280), "");
  const auto other = folder_ / "other";
  std::filesystem::create_directory(other);
  tokenizer->save(other);
  EXPECT_EQ(load_tokenizer(other)->encode("a<|end|>"), tokenizer->encode("a<|end|>"));
  put("tokenizer_config.json", R"({"added_tokens_decoder": {"-3": {"content": "x"}}})");
  expect_error(ErrorKind::kBadInput, {"added_tokens_decoder.-3"}, [&] { load_tokenizer(folder_); });
  put("tokenizer_config.json", R"({"pat_str": "x", "added_tokens_decoder": {"3": {"content": "x"}}})");
  expect_error(ErrorKind::kBadInput, {"'x' of tokenizer_config.json has the id 3"}, [&] { load_tokenizer(folder_); });
}

}  // namespace
}  // namespace switchyard::text
