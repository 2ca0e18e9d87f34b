#pragma once
// A conversation as the text that a chat model was trained to continue.

#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "switchyard/text/gguf_vocabulary.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::text {

struct ChatInput {
  // JSON: a list of objects such as {"role": "user", "content": "Hello"}. What else a message may hold is the
  // template's business: tool_calls, reasoning_content (also read where a template asks for "thinking"), lists as
  // content.
  std::string messages = "[]";
  std::string tools;      // JSON: a list of objects; empty = none
  std::string documents;  // the same
  std::string variables;  // JSON: an object of what the template sees besides, {"enable_thinking": false}; empty = none
  bool add_generation_prompt = true;
  std::optional<std::tm> now;  // for strftime_now(); the local time where not given
};

struct RenderedChat {
  std::string text;                  // valid UTF-8
  std::vector<ForeignText> foreign;  // what came from the inputs, but no usual role: see encode_mixed()
};

// Names such as "bos_token" with the text of the token.
using SpecialTexts = std::vector<std::pair<std::string, std::string>>;

// A model's Jinja2 template, run as `transformers` runs it: a sandbox, trim_blocks and lstrip_blocks, loop controls,
// generation blocks, tojson without HTML escapes, raise_exception and strftime_now. What real templates use of the
// language is there; docs/run.md lists it. Templates are not trusted: time, memory and depth of a run are bounded.
// Const functions are thread-safe.
class ChatTemplate {
 public:
  // What the folder holds, in this order: chat_template.jinja (with additional_chat_templates/*.jinja),
  // tokenizer_config.json, chat_template.json. Its special tokens come from tokenizer_config.json and
  // special_tokens_map.json. Nothing where there is no template. Throws kBadInput where a file is malformed or a
  // template cannot be parsed, with its name and line.
  static std::optional<ChatTemplate> load(const std::filesystem::path& folder);
  // The same of these files, by their names in the folder. `name` stands for it in messages.
  static std::optional<ChatTemplate> load(const NamedFiles& files, const std::string& name);

  // `name` stands for the template in messages.
  static ChatTemplate parse(std::string source, std::string name, SpecialTexts special = {});

  // Renderings written here, for models whose template is not at hand: "chatml", "mistral-v1" and so on.
  // kNotFound listing the names there are.
  static ChatTemplate builtin(std::string_view name, SpecialTexts special = {});
  static std::vector<std::string> builtin_names();

  // Throws kBadInput: "NAME: line 12: what is wrong"; also where the template itself refuses the conversation.
  RenderedChat render(const ChatInput& input) const;

  const std::string& name() const { return name_; }
  const std::string& source() const;
  // Gives a name a text unless it has one.
  void add_special(const std::string& name, const std::string& text);

 private:
  struct Parsed;
  ChatTemplate() = default;
  void add_named(const std::string& name, const std::string& source, const std::string& origin);
  std::string name_;
  SpecialTexts special_;
  // By their names in the folder; a single template is "default".
  std::vector<std::pair<std::string, std::shared_ptr<const Parsed>>> templates_;
};

}  // namespace switchyard::text
