// The byte and the character tokenizer.

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "hugging_face.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/tokenizer.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kFormatVersion = 1;

void save_ours(const std::filesystem::path& folder, Json fields) {
  Json json = {{"format", "switchyard-tokenizer"}, {"version", kFormatVersion}};
  json.update(fields);
  write_file_atomically(folder / "switchyard_tokenizer.json", json.dump(2) + "\n");
}

class ByteTokenizer final : public Tokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> ids(text.size());
    std::transform(text.begin(), text.end(), ids.begin(),
                   [](char c) { return static_cast<std::int32_t>(static_cast<unsigned char>(c)); });
    return ids;
  }
  std::string token_bytes(std::int32_t id) const override {
    check_id(id);
    return std::string(1, static_cast<char>(static_cast<unsigned char>(id)));
  }
  Index vocab_size() const override { return 256; }
  std::string kind() const override { return "byte"; }
  void save(const std::filesystem::path& folder) const override {
    save_ours(folder, {{"kind", kind()}});
    write_hugging_face_byte_tokenizer(folder);
  }
};

class CharTokenizer final : public Tokenizer {
 public:
  // `characters` ascend strictly.
  explicit CharTokenizer(std::vector<char32_t> characters) : characters_(std::move(characters)) {
    ascii_.fill(-1);
    for (std::size_t i = 0; i < characters_.size(); ++i) {
      const auto id = static_cast<std::int32_t>(i);
      if (characters_[i] < ascii_.size()) {
        ascii_[characters_[i]] = id;
      } else {
        others_.emplace(characters_[i], id);
      }
    }
  }

  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> ids;
    ids.reserve(text.size());
    for (std::size_t position = 0; position < text.size();) {
      const Utf8Step step = read_utf8(text.substr(position));
      if (step.status != Utf8Status::kValid) fail_utf8("the text", position);
      const std::int32_t id = find(step.code_point);
      if (id < 0) {
        // A control character would garble the message.
        const bool printable = step.code_point > 0x20 && (step.code_point < 0x7F || step.code_point > 0x9F);
        fail(ErrorKind::kBadInput, "character {}U+{:04X} at byte {} is not in the tokenizer's vocabulary of {}",
             printable ? fmt::format("'{}' ", text.substr(position, step.length)) : std::string(),
             static_cast<std::uint32_t>(step.code_point), position, characters_.size());
      }
      ids.push_back(id);
      position += step.length;
    }
    return ids;
  }
  std::string token_bytes(std::int32_t id) const override {
    check_id(id);
    std::string text;
    append_utf8(text, characters_[static_cast<std::size_t>(id)]);
    return text;
  }
  Index vocab_size() const override { return static_cast<Index>(characters_.size()); }
  std::string kind() const override { return "char"; }
  void save(const std::filesystem::path& folder) const override {
    std::string all;
    for (const char32_t c : characters_) append_utf8(all, c);
    save_ours(folder, {{"kind", kind()}, {"characters", all}});
    write_hugging_face_char_tokenizer(folder, characters_);
  }

  [[noreturn]] static void fail_utf8(std::string_view what, std::size_t position) {
    fail(ErrorKind::kBadInput, "{} is not valid UTF-8: invalid byte sequence at byte {}", what, position);
  }

 private:
  std::int32_t find(char32_t c) const {
    if (c < ascii_.size()) return ascii_[c];
    const auto found = others_.find(c);
    return found == others_.end() ? -1 : found->second;
  }

  std::vector<char32_t> characters_;
  std::array<std::int32_t, 128> ascii_;
  std::unordered_map<char32_t, std::int32_t> others_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

std::unique_ptr<Tokenizer> make_char_tokenizer(std::string_view training_text) {
  if (training_text.empty()) {
    fail(ErrorKind::kBadInput, "a character tokenizer needs a text to take its characters from; found an empty one");
  }
  std::vector<bool> seen(0x110000);
  for (std::size_t position = 0; position < training_text.size();) {
    const Utf8Step step = read_utf8(training_text.substr(position));
    if (step.status != Utf8Status::kValid) CharTokenizer::fail_utf8("the training text", position);
    seen[step.code_point] = true;
    position += step.length;
  }
  std::vector<char32_t> characters;
  for (char32_t c = 0; c < seen.size(); ++c) {
    if (seen[c]) characters.push_back(c);
  }
  return std::make_unique<CharTokenizer>(std::move(characters));
}

std::unique_ptr<Tokenizer> parse_switchyard_tokenizer(std::string_view text, const std::string& name) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.is_object()) fail(ErrorKind::kBadInput, "{}: is not a JSON object", name);
  const auto string_of = [&](const char* key) -> const std::string& {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_string()) {
      fail(ErrorKind::kBadInput, "{}: key '{}' is missing or not a string", name, key);
    }
    return found->template get_ref<const std::string&>();
  };
  if (string_of("format") != "switchyard-tokenizer") {
    fail(ErrorKind::kBadInput, "{}: key 'format' is '{}', expected 'switchyard-tokenizer'", name, string_of("format"));
  }
  const auto version = json.find("version");
  if (version == json.end() || !version->is_number_integer()) {
    fail(ErrorKind::kBadInput, "{}: key 'version' is missing or not an integer", name);
  }
  if (*version != kFormatVersion) {
    fail(ErrorKind::kUnsupported, "{}: key 'version' is {}, this build reads {}", name, version->dump(),
         kFormatVersion);
  }
  const std::string& kind = string_of("kind");
  if (kind == "byte") return make_byte_tokenizer();
  if (kind != "char") fail(ErrorKind::kBadInput, "{}: key 'kind' is '{}', expected 'byte' or 'char'", name, kind);

  const std::string& all = string_of("characters");
  std::vector<char32_t> characters;
  for (std::size_t position = 0; position < all.size();) {
    const Utf8Step step = read_utf8(std::string_view(all).substr(position));
    if (step.status != Utf8Status::kValid) CharTokenizer::fail_utf8(name + ": key 'characters'", position);
    if (!characters.empty() && step.code_point <= characters.back()) {
      fail(ErrorKind::kBadInput, "{}: key 'characters': U+{:04X} after U+{:04X}, expected ascending characters", name,
           static_cast<std::uint32_t>(step.code_point), static_cast<std::uint32_t>(characters.back()));
    }
    characters.push_back(step.code_point);
    position += step.length;
  }
  if (characters.empty()) fail(ErrorKind::kBadInput, "{}: key 'characters' is empty", name);
  return std::make_unique<CharTokenizer>(std::move(characters));
}

}  // namespace switchyard::text
