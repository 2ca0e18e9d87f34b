// Ids and texts that the reference libraries gave (tools/golden/make_tokenizers.py).

#include <map>
#include <nlohmann/json.hpp>

#include "switchyard/base/atomic_file.hpp"
#include "switchyard/text/tokenizer.hpp"
#include "text/text_samples.hpp"

namespace switchyard::text {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

fs::path golden() { return fs::path(SWITCHYARD_TEST_DIR) / "golden" / "tokenizers"; }

Json read_json(const fs::path& path) { return Json::parse(read_file(path)); }

void expect_as_reference(const Tokenizer& tokenizer, const Json& expected) {
  const Json texts = read_json(golden() / "texts.json");
  ASSERT_EQ(texts.size(), expected["ids"].size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    const auto ids = expected["ids"][i].get<Ids>();
    EXPECT_EQ(tokenizer.encode(text), ids) << text;
    EXPECT_EQ(tokenizer.decode(ids), expected["decoded"][i].get<std::string>());
    const std::string key = std::to_string(i);
    const Ids plain = expected["plain"].contains(key) ? expected["plain"][key].get<Ids>() : ids;
    EXPECT_EQ(tokenizer.encode_plain(text), plain) << text;

    StreamDecoder stream(tokenizer);
    std::string streamed, joined;
    for (const std::int32_t id : ids) {
      const std::string part = stream.push(id);
      ASSERT_EQ(find_invalid_utf8(part), std::nullopt) << text;
      streamed += part;
      joined += tokenizer.token_bytes(id);
    }
    streamed += stream.finish();
    EXPECT_EQ(streamed, replace_invalid_utf8(joined));
  }
}

class GoldenTokenizer : public ::testing::TestWithParam<std::string> {};

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(golden())) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, GoldenTokenizer, ::testing::ValuesIn(golden_names()), [](const auto& instance) {
  std::string name = instance.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST_P(GoldenTokenizer, AgreesWithTheReference) {
  const fs::path folder = golden() / GetParam();
  const auto tokenizer = load_tokenizer(folder);
  expect_as_reference(*tokenizer, read_json(folder / "expected.json"));
}

TEST(GoldenTokenizers, CoverEveryKind) {
  std::map<std::string, int> kinds;
  for (const std::string& name : golden_names()) ++kinds[load_tokenizer(golden() / name)->kind()];
  for (const char* kind : {"byte-level bpe", "bpe", "unigram", "tiktoken"}) EXPECT_GT(kinds[kind], 0) << kind;
}

// Published tokenizers are not part of the project. Where they lie beside it, they are checked.
TEST(GoldenTokenizers, PublishedOnesAgreeWithTheReference) {
  const Json expected = read_json(golden() / "real.json");
  const fs::path folder = fs::path(SWITCHYARD_SOURCE_DIR) / ".." / "shared" / "tokenizers";
  std::string missing;
  for (const auto& [name, values] : expected.items()) {
    if (!has_tokenizer(folder / name)) {
      missing += fmt::format(" {}", (folder / name).string());
      continue;
    }
    SCOPED_TRACE(name);
    expect_as_reference(*load_tokenizer(folder / name), values);
  }
  if (!missing.empty()) GTEST_SKIP() << "not there, so not checked:" << missing;
}

}  // namespace
}  // namespace switchyard::text
