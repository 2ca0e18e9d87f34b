#include "gguf_tokenizer.hpp"

#include <algorithm>

#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::model {
namespace {

using formats::GgufArray;
using formats::GgufMetadata;

constexpr const char* kTokenizerJson = "tokenizer.json";
// Those for other uses, such as tools: the list of their names, and a key of kChatTemplate.NAME for each.
constexpr const char* kChatTemplate = "tokenizer.chat_template";
constexpr const char* kMoreTemplates = "tokenizer.chat_templates";

std::string key(const char* name) { return std::string("tokenizer.ggml.") + name; }

std::optional<std::int32_t> read_id(const GgufMetadata& metadata, const char* name) {
  const auto id = metadata.find_integer(key(name));
  if (!id) return std::nullopt;
  // Some files say -1, as an unsigned number, for "none".
  constexpr Index kNone = 0xFFFFFFFF;
  if (*id == -1 || *id == kNone) return std::nullopt;
  if (*id < 0 || *id > std::numeric_limits<std::int32_t>::max()) metadata.refuse(key(name), "a token's id");
  return static_cast<std::int32_t>(*id);
}

text::NamedFiles whole_files(const GgufMetadata& metadata) {
  text::NamedFiles files;
  for (const GgufMetadata::Item& item : metadata.items()) {
    std::string name;
    if (item.key == kTokenizerJsonKey) {
      name = kTokenizerJson;
    } else if (item.key.starts_with(kFilePrefix)) {
      name = item.key.substr(kFilePrefix.size());
    } else {
      continue;
    }
    if (name.empty() || name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
      fail(ErrorKind::kBadInput, "{}: key {}: expected the plain name of a file", metadata.file(), item.key);
    if (const auto* text = std::get_if<std::string>(&item.value)) {
      files.emplace_back(std::move(name), *text);
      continue;
    }
    const auto* array = std::get_if<GgufArray>(&item.value);
    const auto* bytes = array == nullptr ? nullptr : std::get_if<std::vector<std::uint8_t>>(array);
    if (bytes == nullptr) metadata.refuse(item.key, "a string, or an array of u8");
    files.emplace_back(std::move(name), std::string(bytes->begin(), bytes->end()));
  }
  return files;
}

}  // namespace

text::GgufVocabulary read_gguf_vocabulary(const GgufMetadata& metadata) {
  text::GgufVocabulary v;
  const std::string* model = metadata.find_string(key("model"));
  v.model = model == nullptr ? "none" : *model;
  if (const auto* pre = metadata.find_string(key("pre"))) v.pre = *pre;
  if (const auto* tokens = metadata.find_strings(key("tokens"))) v.tokens = *tokens;
  if (const auto scores = metadata.find_numbers(key("scores"))) v.scores.assign(scores->begin(), scores->end());
  if (const auto types = metadata.find_integers(key("token_type"))) {
    for (const Index type : *types) {
      if (type < 0 || type > text::GgufVocabulary::kByte)
        fail(ErrorKind::kBadInput, "{}: key {}: found {}, expected 1 to 6", metadata.file(), key("token_type"), type);
      v.token_type.push_back(static_cast<std::int32_t>(type));
    }
  }
  if (const auto* merges = metadata.find_strings(key("merges"))) v.merges = *merges;
  v.bos = read_id(metadata, "bos_token_id");
  v.eos = read_id(metadata, "eos_token_id");
  v.eot = read_id(metadata, "eot_token_id");
  v.eom = read_id(metadata, "eom_token_id");
  v.unknown = read_id(metadata, "unknown_token_id");
  v.padding = read_id(metadata, "padding_token_id");
  v.add_bos = metadata.find_boolean(key("add_bos_token"));
  v.add_eos = metadata.find_boolean(key("add_eos_token"));
  v.add_space_prefix = metadata.find_boolean(key("add_space_prefix"));
  if (const auto* chat = metadata.find_string(kChatTemplate)) v.chat_template = *chat;
  if (const auto* names = metadata.find_strings(kMoreTemplates)) {
    for (const std::string& name : *names) {
      const auto* more = metadata.find_string(fmt::format("{}.{}", kChatTemplate, name));
      if (more != nullptr) v.more_templates.emplace_back(name, *more);
    }
  }
  return v;
}

void add_gguf_vocabulary(const text::GgufVocabulary& v, GgufMetadata& metadata) {
  metadata.set(key("model"), v.model);
  if (!v.pre.empty()) metadata.set(key("pre"), v.pre);
  if (!v.tokens.empty()) metadata.set(key("tokens"), GgufArray(v.tokens));
  if (!v.scores.empty()) metadata.set(key("scores"), GgufArray(v.scores));
  if (!v.token_type.empty()) metadata.set(key("token_type"), GgufArray(v.token_type));
  // Readers ask for the list also where it is empty.
  if (v.model == "gpt2") metadata.set(key("merges"), GgufArray(v.merges));
  const auto id = [&](const char* name, const std::optional<std::int32_t>& value) {
    if (value) metadata.set(key(name), static_cast<std::uint32_t>(*value));
  };
  id("bos_token_id", v.bos);
  id("eos_token_id", v.eos);
  id("eot_token_id", v.eot);
  id("eom_token_id", v.eom);
  id("unknown_token_id", v.unknown);
  id("padding_token_id", v.padding);
  if (v.add_bos) metadata.set(key("add_bos_token"), *v.add_bos);
  if (v.add_eos) metadata.set(key("add_eos_token"), *v.add_eos);
  if (v.add_space_prefix) metadata.set(key("add_space_prefix"), *v.add_space_prefix);
  if (!v.chat_template.empty()) metadata.set(kChatTemplate, v.chat_template);
  if (v.more_templates.empty()) return;
  std::vector<std::string> names;
  for (const auto& [name, source] : v.more_templates) {
    names.push_back(name);
    metadata.set(fmt::format("{}.{}", kChatTemplate, name), source);
  }
  metadata.set(kMoreTemplates, GgufArray(std::move(names)));
}

void add_tokenizer_files(const text::NamedFiles& files, GgufMetadata& metadata) {
  for (const auto& [name, content] : files) {
    if (name == kTokenizerJson) {
      metadata.set(kTokenizerJsonKey, content);
    } else if (!text::find_invalid_utf8(content)) {
      metadata.set(std::string(kFilePrefix) + name, content);
    } else {
      metadata.set(std::string(kFilePrefix) + name,
                   GgufArray(std::vector<std::uint8_t>(content.begin(), content.end())));
    }
  }
}

text::NamedFiles gguf_tokenizer_files(const GgufMetadata& metadata, const std::string& config) {
  const text::GgufVocabulary vocabulary = read_gguf_vocabulary(metadata);
  text::NamedFiles files = whole_files(metadata);
  if (!files.empty()) {
    text::NamedFiles with_config = files;
    with_config.emplace_back("config.json", config);
    try {
      // Of model "none" there is nothing to compare.
      const auto size = static_cast<Index>(vocabulary.tokens.size());
      constexpr Index kMost = Index{1} << 31;
      const auto said = text::gguf_vocabulary(with_config, metadata.file(), size == 0 ? kMost : size, vocabulary.pre);
      if (said.vocabulary == vocabulary) return files;
    } catch (const Error&) {
      // Not ours, or from a later version: the keys are what every program reads.
    }
  }
  return text::hugging_face_files(vocabulary, metadata.file());
}

}  // namespace switchyard::model
