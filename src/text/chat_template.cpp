#include "switchyard/text/chat_template.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "builtin_templates.hpp"
#include "jinja/json.hpp"
#include "jinja/machine.hpp"
#include "json_node.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::text {
namespace {

namespace fs = std::filesystem;
using jinja::Origin;
using jinja::Value;

constexpr std::size_t kLargestTemplate = std::size_t{4} << 20;

[[noreturn]] void fail_in(const std::string& name, const jinja::Failure& failure) {
  if (failure.line() > 0) fail(ErrorKind::kBadInput, "{}: line {}: {}", name, failure.line(), failure.what());
  fail(ErrorKind::kBadInput, "{}: {}", name, failure.what());
}

Value make_text(std::string text, Origin origin) {
  return Value(std::make_shared<const jinja::String>(jinja::MarkedText(std::move(text), origin), false, nullptr));
}

// Templates ask for the model's reasoning under different names; older names of it count as the newest one.
Value with_reasoning(const Value& message) {
  const Value* reasoning = nullptr;
  for (const std::string_view name : {"reasoning_content", "thinking", "reasoning"}) {
    const Value* found = message.dict().find(name);
    if (reasoning == nullptr && found != nullptr && !found->is_none()) reasoning = found;
  }
  if (reasoning == nullptr) return message;
  const auto result = std::make_shared<jinja::Dict>(nullptr);
  result->set(make_text("thinking", Origin::kTemplate), *reasoning);
  for (const auto& [key, value] : message.dict().items) result->set(key, value);
  result->set(make_text("reasoning_content", Origin::kTemplate), *reasoning);
  return Value(std::shared_ptr<const jinja::Dict>(result));
}

Value read_messages(const std::string& json) {
  const Value messages = jinja::from_json(json, "the messages", Origin::kUser);
  if (!messages.is_list()) throw jinja::Failure("the messages are no list");
  std::vector<Value> result;
  for (const Value& message : messages.list().items) {
    if (!message.is_dict()) throw jinja::Failure("a message is no object");
    result.push_back(with_reasoning(message));
  }
  return Value(std::make_shared<jinja::List>(std::move(result), jinja::List::Kind::kList, nullptr));
}

// None where the text is empty.
Value read_objects(const std::string& json, const std::string& what) {
  if (json.empty()) return Value(jinja::None{});
  Value value = jinja::from_json(json, what, Origin::kUser);
  if (value.is_none()) return value;
  const bool fits = value.is_list() && std::all_of(value.list().items.begin(), value.list().items.end(),
                                                   [](const Value& item) { return item.is_dict(); });
  if (!fits) throw jinja::Failure(fmt::format("{} are no list of objects", what));
  return value;
}

const std::string* find_file(const NamedFiles& files, std::string_view name) {
  const auto found = std::find_if(files.begin(), files.end(), [name](const auto& file) { return file.first == name; });
  return found == files.end() ? nullptr : &found->second;
}

// Null where the file is not there. `file` is its name for messages.
nlohmann::json read_json(const NamedFiles& files, std::string_view name, const std::string& file) {
  const std::string* content = find_file(files, name);
  if (content == nullptr) return nullptr;
  constexpr int kDeepest = 64;
  bool too_deep = false;
  const auto depth_check = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    too_deep = too_deep || depth > kDeepest;
    return !too_deep;
  };
  nlohmann::json json = nlohmann::json::parse(*content, depth_check, false);
  if (too_deep || json.is_discarded() || !json.is_object())
    fail(ErrorKind::kBadInput, "{}: is not a JSON object", file);
  return json;
}

void read_special(const nlohmann::json& json, const std::string& file, SpecialTexts& special) {
  if (json.is_null()) return;
  const JsonNode node(json, file);
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const JsonNode token = node.get(name);
    const bool known =
        std::any_of(special.begin(), special.end(), [name](const auto& one) { return one.first == name; });
    if (known || token.is_null() || token.value().is_boolean()) continue;
    special.emplace_back(name, token.is_object() ? token.get("content").text() : token.text());
  }
}

constexpr const char* kJinjaFile = "chat_template.jinja";
constexpr const char* kConfigFile = "tokenizer_config.json";
constexpr const char* kLegacyFile = "chat_template.json";
constexpr const char* kSpecialFile = "special_tokens_map.json";
constexpr const char* kMoreFolder = "additional_chat_templates/";

}  // namespace

struct ChatTemplate::Parsed {
  std::string source, origin;
  jinja::Syntax syntax;
};

void ChatTemplate::add_named(const std::string& name, const std::string& source, const std::string& origin) {
  if (source.size() > kLargestTemplate) {
    fail(ErrorKind::kBadInput, "{}: {} bytes, expected at most {}", origin, source.size(), kLargestTemplate);
  }
  auto parsed = std::make_shared<Parsed>();
  parsed->source = replace_invalid_utf8(source);
  parsed->origin = origin;
  try {
    parsed->syntax = jinja::parse(parsed->source);
  } catch (const jinja::Failure& failure) {
    fail_in(origin, failure);
  }
  templates_.emplace_back(name, std::move(parsed));
}

ChatTemplate ChatTemplate::parse(std::string source, std::string name, SpecialTexts special) {
  ChatTemplate result;
  result.add_named("default", source, name);
  result.name_ = std::move(name);
  result.special_ = std::move(special);
  return result;
}

std::optional<ChatTemplate> ChatTemplate::load(const fs::path& folder) {
  constexpr std::size_t kLargest = std::size_t{64} << 20;
  NamedFiles files;
  for (const char* name : {kJinjaFile, kConfigFile, kLegacyFile, kSpecialFile}) {
    if (fs::exists(folder / name)) files.emplace_back(name, read_file(folder / name, kLargest));
  }
  if (fs::is_directory(folder / kMoreFolder)) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder / kMoreFolder)) {
      if (entry.path().extension() == ".jinja")
        names.push_back(fmt::format("{}{}", kMoreFolder, entry.path().filename().string()));
    }
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) files.emplace_back(name, read_file(folder / name, kLargest));
  }
  return load(files, folder.string());
}

std::optional<ChatTemplate> ChatTemplate::load(const NamedFiles& files, const std::string& name) {
  ChatTemplate result;
  const auto full_name = [&](const std::string& file) { return (fs::path(name) / file).string(); };
  if (const std::string* source = find_file(files, kJinjaFile)) {
    result.add_named("default", *source, full_name(kJinjaFile));
    for (const auto& [file, more] : files) {
      if (file.rfind(kMoreFolder, 0) == 0) result.add_named(fs::path(file).stem().string(), more, full_name(file));
    }
  }
  for (const char* json_name : {kConfigFile, kLegacyFile}) {
    if (!result.templates_.empty()) break;
    const std::string file = full_name(json_name);
    const nlohmann::json json = read_json(files, json_name, file);
    if (json.is_null()) continue;
    const JsonNode node = JsonNode(json, file).get("chat_template");
    if (node.is_null()) continue;
    if (!node.is_array()) {
      result.add_named("default", node.text(), node.where());
      continue;
    }
    for (std::size_t i = 0; i < node.size(); ++i) {
      const JsonNode one = node.at(i);
      result.add_named(one.get("name").text(), one.get("template").text(), one.get("template").where());
    }
  }
  if (result.templates_.empty()) return std::nullopt;
  const auto chosen = std::find_if(result.templates_.begin(), result.templates_.end(),
                                   [](const auto& one) { return one.first == "default"; });
  if (chosen == result.templates_.end()) {
    fail(ErrorKind::kBadInput, "{}: has chat templates, but none with the name \"default\"", name);
  }
  result.name_ = chosen->second->origin;
  for (const char* json_name : {kConfigFile, kSpecialFile}) {
    const std::string file = full_name(json_name);
    read_special(read_json(files, json_name, file), file, result.special_);
  }
  return result;
}

ChatTemplate ChatTemplate::builtin(std::string_view name, SpecialTexts special) {
  const std::string_view source = builtin_template(name);
  if (source.empty()) {
    fail(ErrorKind::kNotFound, "no template '{}'; there are {}", name, fmt::join(builtin_names(), ", "));
  }
  return parse(std::string(source), fmt::format("template {}", name), std::move(special));
}

std::vector<std::string> ChatTemplate::builtin_names() { return builtin_template_names(); }

const std::string& ChatTemplate::source() const {
  for (const auto& [name, parsed] : templates_) {
    if (name == "default") return parsed->source;
  }
  return templates_.front().second->source;
}

void ChatTemplate::add_special(const std::string& name, const std::string& text) {
  const bool known = std::any_of(special_.begin(), special_.end(), [&](const auto& one) { return one.first == name; });
  if (!known) special_.emplace_back(name, text);
}

RenderedChat ChatTemplate::render(const ChatInput& input) const {
  const Parsed* chosen = templates_.front().second.get();
  std::string origin = name_;
  try {
    const Value tools = read_objects(input.tools, "the tools");
    for (const auto& [name, parsed] : templates_) {
      if (name == "default") chosen = parsed.get();
    }
    for (const auto& [name, parsed] : templates_) {
      if (name == "tool_use" && !tools.is_none()) chosen = parsed.get();
    }
    origin = chosen->origin;
    std::vector<std::pair<std::string, Value>> inputs;
    for (const auto& [name, text] : special_) {
      inputs.emplace_back(name, make_text(replace_invalid_utf8(text), Origin::kTemplate));
    }
    if (!input.variables.empty()) {
      const Value variables = jinja::from_json(input.variables, "the variables", Origin::kUser);
      if (!variables.is_dict()) throw jinja::Failure("the variables are no object");
      for (const auto& [key, value] : variables.dict().items) inputs.emplace_back(key.text().bytes(), value);
    }
    inputs.emplace_back("messages", read_messages(input.messages));
    inputs.emplace_back("tools", tools);
    inputs.emplace_back("documents", read_objects(input.documents, "the documents"));
    inputs.emplace_back("add_generation_prompt", Value(input.add_generation_prompt));

    std::tm now{};
    if (input.now) {
      now = *input.now;
    } else {
      const std::time_t seconds = std::time(nullptr);
      ::localtime_r(&seconds, &now);
    }
    jinja::Machine machine(chosen->syntax, jinja::Limits{}, now);
    const jinja::MarkedText text = machine.run(inputs);
    RenderedChat result;
    result.text = text.bytes();
    for (const auto& span : text.spans()) {
      result.foreign.push_back({span.begin, span.end, span.origin == Origin::kGenerated});
    }
    return result;
  } catch (const jinja::Failure& failure) {
    fail_in(origin, failure);
  }
}

}  // namespace switchyard::text
