// Tokenizers through GGUF metadata: the ids stay the same where only the metadata is left.

#include "switchyard/text/gguf_vocabulary.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "support/error_of.hpp"
#include "support/temporary_folder.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/text/chat_template.hpp"
#include "text/text_samples.hpp"

namespace switchyard::text {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;
using Json = nlohmann::json;
using Folder = switchyard::TemporaryFolder;

fs::path golden() { return fs::path(SWITCHYARD_TEST_DIR) / "golden" / "tokenizers"; }

std::vector<std::string> golden_texts() {
  std::vector<std::string> texts;
  for (const Json& text : Json::parse(read_file(golden() / "texts.json"))) texts.push_back(text.get<std::string>());
  texts.push_back(prose(40));
  return texts;
}

GgufVocabulary vocabulary_of(const fs::path& folder, Index size) {
  return gguf_vocabulary(tokenizer_files(folder), folder.string(), size, "").vocabulary;
}

// The golden tokenizers' added tokens that take the white space beside them or stand only as whole words, which GGUF
// cannot say.
bool spells_a_flag(const std::string& text) {
  for (const char* token : {"<|user|>", "<mask>", "think"}) {
    if (text.find(token) != std::string::npos) return true;
  }
  return false;
}

// Metaspace puts a space in front of the whole text alone, and only where it does not begin with one; GGUF's readers
// put it behind special tokens too, and always.
void expect_same_ids(const Tokenizer& before, const Tokenizer& after, bool metaspace = false) {
  for (const std::string& text : golden_texts()) {
    if (spells_a_flag(text)) continue;
    if (metaspace && (text.starts_with(' ') || before.encode(text) != before.encode_plain(text))) continue;
    const auto ids = before.encode(text);
    ASSERT_EQ(after.encode(text), ids) << text;
    EXPECT_EQ(after.decode(ids), before.decode(ids)) << text;
  }
}

struct Known {
  const char* folder;
  const char* model;
  const char* pre;
};
constexpr Known kKnown[] = {
    {"bailing", "gpt2", "bailingmoe"},
    {"deepseek-llm", "gpt2", "deepseek-llm"},
    {"deepseek-v3", "gpt2", "deepseek-v3"},
    {"fallback", "gpt2", "default"},
    {"gpt2", "gpt2", "gpt-2"},
    {"kimi-classes", "gpt2", "kimi-k2"},
    {"llama3", "gpt2", "llama-bpe"},
    {"o200k", "gpt2", "gpt-4o"},
    {"qwen2", "gpt2", "qwen2"},
    {"qwen35", "gpt2", "qwen35"},
    {"refact", "gpt2", "refact"},
    {"llama2", "llama", "default"},
    {"metaspace-first", "llama", "default"},
};
void PrintTo(const Known& known, std::ostream* out) { *out << known.folder; }

class GgufVocabularyTest : public ::testing::TestWithParam<Known> {};

TEST_P(GgufVocabularyTest, GivesTheSameIdsFromTheMetadataAlone) {
  const fs::path folder = golden() / GetParam().folder;
  const auto before = load_tokenizer(folder);
  constexpr Index kMore = 13;  // rows of the embedding without a token
  const GgufVocabulary v = vocabulary_of(folder, before->vocab_size() + kMore);
  EXPECT_EQ(v.model, GetParam().model);
  EXPECT_EQ(v.pre, GetParam().pre);
  ASSERT_EQ(v.tokens.size(), static_cast<std::size_t>(before->vocab_size() + kMore));
  ASSERT_EQ(v.token_type.size(), v.tokens.size());
  EXPECT_EQ(v.token_type.back(), GgufVocabulary::kUnused);
  const NamedFiles files = hugging_face_files(v, "x.gguf");
  const auto after = load_tokenizer(files, "x.gguf");
  ASSERT_NE(after, nullptr);
  EXPECT_EQ(after->vocab_size(), before->vocab_size());
  EXPECT_EQ(after->bos_id(), before->bos_id());
  EXPECT_EQ(after->add_bos(), before->add_bos());
  expect_same_ids(*before, *after, std::string(GetParam().folder) == "metaspace-first");
  // The files that were made say the same again.
  EXPECT_EQ(gguf_vocabulary(files, "again", before->vocab_size() + kMore, "").vocabulary.tokens, v.tokens);
  EXPECT_EQ(gguf_vocabulary(files, "again", before->vocab_size() + kMore, "").vocabulary.merges, v.merges);
}

INSTANTIATE_TEST_SUITE_P(Golden, GgufVocabularyTest, ::testing::ValuesIn(kKnown), [](const auto& test) {
  std::string name = test.param.folder;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(GgufVocabulary, TiktokenBecomesMerges) {
  const fs::path folder = golden() / "tiktoken";
  const auto before = load_tokenizer(folder);
  const GgufVocabulary v = vocabulary_of(folder, before->vocab_size());
  EXPECT_EQ(v.model, "gpt2");
  EXPECT_FALSE(v.merges.empty());
  const auto after = load_tokenizer(hugging_face_files(v, "x.gguf"), "x.gguf");
  expect_same_ids(*before, *after);
}

TEST(GgufVocabulary, BytesNeedNoMerges) {
  const Folder folder;
  const auto before = make_byte_tokenizer();
  before->save(folder.path());
  const GgufVocabulary v = vocabulary_of(folder.path(), 256);
  EXPECT_EQ(v.model, "gpt2");
  const auto after = load_tokenizer(hugging_face_files(v, "x.gguf"), "x.gguf");
  expect_same_ids(*before, *after);
}

TEST(GgufVocabulary, SentencePieceTrainedHere) {
  const Folder folder;
  const std::string text = prose(600);
  const std::string_view view = text;
  const std::string name = "the sample";
  const auto before = train_sentencepiece({&view, 1}, {&name, 1}, {.vocab_size = 500});
  before->save(folder.path());
  const GgufVocabulary v = vocabulary_of(folder.path(), 512);
  EXPECT_EQ(v.model, "llama");
  EXPECT_EQ(v.add_space_prefix, false);
  EXPECT_EQ(v.bos, 1);
  EXPECT_EQ(v.eos, 2);
  EXPECT_EQ(v.scores.size(), 512U);
  const auto after = load_tokenizer(hugging_face_files(v, "x.gguf"), "x.gguf");
  for (const std::string& sample : golden_texts()) {
    // What the piece stands for is a space here and a character there; a control token is one in GGUF.
    if (sample.find("\u2581") != std::string::npos || sample.find("<s>") != std::string::npos ||
        sample.find("</s>") != std::string::npos || sample.find("<unk>") != std::string::npos ||
        find_invalid_utf8(sample)) {
      continue;
    }
    EXPECT_EQ(after->encode(sample), before->encode(sample)) << sample;
  }
}

// Published tokenizers are not part of the project. Where they lie beside it, they are checked.
TEST(GgufVocabulary, PublishedOnesKeepTheirIds) {
  const fs::path root = fs::path(SWITCHYARD_SOURCE_DIR) / ".." / "shared" / "tokenizers";
  std::string missing;
  for (const char* name : {"qwen3", "deepseek_v3", "grok-1"}) {
    if (!has_tokenizer(root / name)) {
      missing += fmt::format(" {}", (root / name).string());
      continue;
    }
    SCOPED_TRACE(name);
    const auto before = load_tokenizer(root / name);
    const auto [v, note] = gguf_vocabulary(tokenizer_files(root / name), name, before->vocab_size(), "");
    if (v.model == "none") {
      EXPECT_THAT(note, HasSubstr(before->kind()));
      continue;
    }
    const auto after = load_tokenizer(hugging_face_files(v, "x.gguf"), "x.gguf");
    ASSERT_NE(after, nullptr);
    EXPECT_EQ(after->end_ids(), before->end_ids());
    EXPECT_EQ(after->add_bos(), before->add_bos());
    if (before->kind() != "sentencepiece") {
      expect_same_ids(*before, *after);
      continue;
    }
    // Grok-1 has user-defined pieces, which GGUF's readers find before the text gets its space in front.
    std::size_t compared = 0;
    for (const std::string& text : golden_texts()) {
      if (text.find_first_of("\n\t0123456789") != std::string::npos || text.find("  ") != std::string::npos) continue;
      ++compared;
      EXPECT_EQ(after->encode(text), before->encode(text)) << text;
    }
    EXPECT_GT(compared, 5U);
  }
  if (!missing.empty()) GTEST_SKIP() << "not there, so not checked:" << missing;
}

TEST(GgufVocabulary, CarriesTheChatTemplateAndAllEnds) {
  const Folder folder(golden() / "qwen2");
  std::ofstream(folder.path() / "tokenizer_config.json")
      << R"({"chat_template": "{% for m in messages %}x{% endfor %}", "eos_token": "<|end|>", "add_bos_token": false})";
  std::ofstream(folder.path() / "generation_config.json") << R"({"eos_token_id": [420, 421]})";
  const auto before = load_tokenizer(folder.path());
  const GgufVocabulary v = vocabulary_of(folder.path(), before->vocab_size());
  EXPECT_EQ(v.chat_template, "{% for m in messages %}x{% endfor %}");
  EXPECT_EQ(v.eos, 420);
  EXPECT_EQ(v.eot, 421);
  const NamedFiles files = hugging_face_files(v, "x.gguf");
  EXPECT_EQ(load_tokenizer(files, "x.gguf")->end_ids(), before->end_ids());
  const auto config =
      std::find_if(files.begin(), files.end(), [](const auto& f) { return f.first == "tokenizer_config.json"; });
  ASSERT_NE(config, files.end());
  EXPECT_EQ(Json::parse(config->second)["chat_template"], v.chat_template);
  // Several by name.
  std::ofstream(folder.path() / "tokenizer_config.json")
      << R"({"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]})";
  const GgufVocabulary several = vocabulary_of(folder.path(), before->vocab_size());
  EXPECT_EQ(several.chat_template, "d");
  const NamedFiles back = hugging_face_files(several, "x.gguf");
  const auto templates = ChatTemplate::load(back, "x.gguf");
  ASSERT_TRUE(templates);
  ChatInput input;
  EXPECT_EQ(templates->render(input).text, "d");
  input.tools = "[{}]";
  EXPECT_EQ(templates->render(input).text, "t");
  // A file of its own goes before the key.
  std::ofstream(folder.path() / "chat_template.jinja") << "own";
  EXPECT_EQ(vocabulary_of(folder.path(), before->vocab_size()).chat_template, "own");
}

TEST(GgufVocabulary, NamesWhatGgufHasNoNameFor) {
  for (const char* name : {"words", "gpt2-prefix-space", "split-isolated"}) {
    const fs::path folder = golden() / name;
    const auto size = load_tokenizer(folder)->vocab_size();
    const std::string message = error_of(ErrorKind::kUnsupported, [&] { vocabulary_of(folder, size); });
    EXPECT_THAT(message, HasSubstr("--pre"));
    EXPECT_THAT(message, HasSubstr("deepseek-v3"));
    EXPECT_EQ(gguf_vocabulary(tokenizer_files(folder), name, size, "qwen2").vocabulary.pre, "qwen2");
  }
  EXPECT_THAT(error_of(ErrorKind::kUnsupported,
                       [] {
                         vocabulary_of(golden() / "split-isolated",
                                       load_tokenizer(golden() / "split-isolated")->vocab_size());
                       }),
              HasSubstr("[aeiou]"));
  // Kinds that it does not have at all are said in a note.
  for (const char* name : {"unigram", "word-suffix", "metaspace-unknown"}) {
    const auto made = gguf_vocabulary(tokenizer_files(golden() / name), name, 1000, "");
    EXPECT_EQ(made.vocabulary.model, "none");
    EXPECT_THAT(made.note, HasSubstr("no form"));
    EXPECT_TRUE(hugging_face_files(made.vocabulary, "x.gguf").empty());
  }
}

TEST(GgufVocabulary, RefusesListsThatDoNotFit) {
  const fs::path folder = golden() / "qwen2";
  const GgufVocabulary sound = vocabulary_of(folder, load_tokenizer(folder)->vocab_size());
  const auto message = [&](ErrorKind kind, auto change) {
    GgufVocabulary v = sound;
    change(v);
    return error_of(kind, [&] { load_tokenizer(hugging_face_files(v, "x.gguf"), "x.gguf"); });
  };
  using V = GgufVocabulary;
  EXPECT_THAT(message(ErrorKind::kUnsupported, [](V& v) { v.model = "bert"; }), HasSubstr("bert"));
  EXPECT_THAT(message(ErrorKind::kUnsupported, [](V& v) { v.pre = "nobody"; }), HasSubstr("nobody"));
  EXPECT_THAT(message(ErrorKind::kBadInput, [](V& v) { v.tokens.clear(); }), HasSubstr("tokenizer.ggml.tokens"));
  EXPECT_THAT(message(ErrorKind::kBadInput, [](V& v) { v.tokens[7] = "\xFF"; }), HasSubstr("token 7"));
  EXPECT_THAT(message(ErrorKind::kBadInput, [](V& v) { v.token_type.pop_back(); }), HasSubstr("token_type"));
  EXPECT_THAT(message(ErrorKind::kBadInput, [](V& v) { v.eos = 100000; }), HasSubstr("eos_token_id"));
  EXPECT_THAT(message(ErrorKind::kBadInput, [](V& v) { v.merges[3] = "ab"; }), HasSubstr("entry 3"));
  EXPECT_THAT(message(ErrorKind::kBadInput, [](V& v) { v.merges[3] = "a nobody"; }), HasSubstr("nobody"));
  EXPECT_THAT(message(ErrorKind::kBadInput,
                      [](V& v) {
                        v.model = "llama";
                        v.scores.clear();
                      }),
              HasSubstr("scores"));
}

TEST(GgufVocabulary, TokensThatAreThereTwiceDoNotMoveOthers) {
  const fs::path folder = golden() / "qwen2";
  const auto before = load_tokenizer(folder);
  GgufVocabulary v = vocabulary_of(folder, before->vocab_size());
  const auto at = static_cast<std::size_t>(before->vocab_size()) - 3;
  const std::string kept = v.tokens[at + 1];
  v.tokens[at] = v.tokens[0];
  const auto after = load_tokenizer(hugging_face_files(v, "x.gguf"), "x.gguf");
  EXPECT_EQ(after->vocab_size(), before->vocab_size());
  EXPECT_EQ(after->token_text(static_cast<std::int32_t>(at) + 1), kept);
}

}  // namespace
}  // namespace switchyard::text
