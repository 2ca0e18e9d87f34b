#include "companions.hpp"

#include <algorithm>

#include "json_node.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "vocabulary.hpp"

namespace switchyard::text {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::size_t kLargestConfig = std::size_t{64} << 20;
constexpr std::size_t kLongestContent = 4096;

// Null where the file is not there.
Json read_json(const FileSource& folder, const char* name) {
  if (!folder.has(name)) return nullptr;
  // Nesting is bounded so that nothing that walks the value can run out of stack.
  constexpr int kDeepest = 64;
  bool too_deep = false;
  const auto depth_check = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kDeepest;
    return !too_deep;
  };
  Json json = Json::parse(folder.read(name, kLargestConfig), depth_check, false);
  if (too_deep || json.is_discarded() || !json.is_object()) {
    fail(ErrorKind::kBadInput, "{}: is not a JSON object", folder.path(name));
  }
  return json;
}

// A token is named by its text or by an object that has it as "content".
std::string token_name(const JsonNode& node) {
  if (node.is_null()) return {};
  return node.is_object() ? node.get("content").text() : node.text();
}

void read_ids(const JsonNode& node, FolderSettings& settings) {
  const JsonNode begin = node.get("bos_token_id"), end = node.get("eos_token_id");
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  // Some files say -1 for "none".
  const auto add_end = [&](const JsonNode& id) {
    if (id.value().is_number_integer() && id.value() < 0) return;
    settings.end_ids.push_back(id.count(kMost));
  };
  if (!settings.begin_id && begin.value().is_number_unsigned()) settings.begin_id = begin.count(kMost);
  if (!settings.end_ids.empty() || end.is_null()) return;
  if (!end.is_array()) {
    add_end(end);
  } else {
    for (std::size_t i = 0; i < end.size(); ++i) add_end(end.at(i));
  }
}

}  // namespace

bool FileSource::has(std::string_view name) const {
  if (files_ == nullptr) return fs::exists(folder_ / name);
  return std::any_of(files_->begin(), files_->end(), [&](const auto& file) { return file.first == name; });
}

std::string FileSource::read(std::string_view name, std::size_t limit) const {
  if (files_ == nullptr) return read_file(folder_ / name, limit);
  const auto found = std::find_if(files_->begin(), files_->end(), [&](const auto& file) { return file.first == name; });
  require(found != files_->end(), "{} has no file {}", folder_.string(), name);
  if (found->second.size() > limit)
    fail(ErrorKind::kBadInput, "{}: has {} bytes, expected at most {}", path(name), found->second.size(), limit);
  return found->second;
}

std::string FileSource::path(std::string_view name) const {
  return files_ == nullptr ? (folder_ / name).string() : fmt::format("{}: {}", folder_.string(), name);
}

std::vector<std::string> FileSource::names() const {
  std::vector<std::string> names;
  if (files_ != nullptr) {
    for (const auto& file : *files_) names.push_back(file.first);
  } else {
    for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename().string());
  }
  return names;
}

NamedFiles read_companions(const FileSource& folder) {
  NamedFiles files;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                           "chat_template.jinja", "chat_template.json", "vocab.json", "merges.txt"}) {
    if (folder.has(name)) files.emplace_back(name, folder.read(name));
  }
  return files;
}

FolderSettings read_folder_settings(const FileSource& folder) {
  FolderSettings settings;
  const std::string tokenizer_name = folder.path("tokenizer_config.json");
  if (const Json json = read_json(folder, "tokenizer_config.json"); !json.is_null()) {
    const JsonNode node(json, tokenizer_name);
    settings.begin_token = token_name(node.get("bos_token"));
    settings.end_token = token_name(node.get("eos_token"));
    if (!node.get("add_bos_token").is_null()) settings.add_begin = node.get("add_bos_token").boolean();
    settings.split_special = node.get("split_special_tokens").boolean_or(false);
    settings.tokenizer_class = node.get("tokenizer_class").text_or("");
    settings.pattern = node.get("pat_str").text_or("");
    if (!node.get("extra_ids").is_null()) settings.extra_ids = node.get("extra_ids").count(kLargestId);
    const JsonNode added = node.get("added_tokens_decoder");
    if (!added.is_null() && !added.is_object()) added.wrong_type("an object");
    for (const auto& [key, value] : added.value().items()) {
      const JsonNode token(value, tokenizer_name, "added_tokens_decoder." + key);
      std::int64_t id = 0;
      for (const char c : key) {
        if (c < '0' || c > '9' || id > kLargestId) token.wrong_type("an id as its key");
        id = id * 10 + (c - '0');
      }
      if (key.empty() || id > kLargestId) token.wrong_type("an id as its key");
      const JsonNode content = token.get("content");
      if (content.text().empty() || content.text().size() > kLongestContent) {
        content.wrong_type(fmt::format("1 to {} bytes", kLongestContent));
      }
      settings.added.push_back({id, content.text(), token.get("special").boolean_or(false),
                                token.get("single_word").boolean_or(false), token.get("lstrip").boolean_or(false),
                                token.get("rstrip").boolean_or(false), token.get("normalized").boolean_or(false)});
    }
    std::sort(settings.added.begin(), settings.added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  }
  const std::string generation_name = folder.path("generation_config.json");
  if (const Json json = read_json(folder, "generation_config.json"); !json.is_null())
    read_ids(JsonNode(json, generation_name), settings);
  const std::string config_name = folder.path("config.json");
  if (const Json json = read_json(folder, "config.json"); !json.is_null()) {
    const JsonNode node(json, config_name);
    read_ids(node, settings);
    if (node.get("model_type").is_string()) settings.model_type = node.get("model_type").text();
  }
  return settings;
}

SpecialTokens resolve_special_tokens(const FolderSettings& settings, std::int64_t id_limit,
                                     const std::function<std::int32_t(std::string_view)>& find,
                                     std::optional<std::int32_t> template_begin) {
  SpecialTokens special;
  const auto named = [&](const std::string& token) -> std::optional<std::int32_t> {
    const std::int32_t id = token.empty() ? -1 : find(token);
    return id < 0 ? std::nullopt : std::optional(id);
  };
  special.begin = named(settings.begin_token);
  special.end = named(settings.end_token);
  for (const std::int64_t id : settings.end_ids) {
    if (id < id_limit) special.ends.push_back(static_cast<std::int32_t>(id));
  }
  if (!special.begin && template_begin) special.begin = template_begin;
  if (!special.begin && settings.begin_id && *settings.begin_id < id_limit) {
    special.begin = static_cast<std::int32_t>(*settings.begin_id);
  }
  if (!special.end && !special.ends.empty()) special.end = special.ends[0];
  if (special.ends.empty() && special.end) special.ends.push_back(*special.end);

  // Llama's class of tokenizer puts the token in front unless told otherwise; others follow their post-processor.
  const bool llama = settings.tokenizer_class == "LlamaTokenizer" || settings.tokenizer_class == "LlamaTokenizerFast";
  special.add_begin = special.begin && settings.add_begin.value_or(template_begin || llama);
  return special;
}

}  // namespace switchyard::text
