#include "switchyard/runtime/chat.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "switchyard/base/error.hpp"
#include "switchyard/base/stopwatch.hpp"
#include "switchyard/text/utf8.hpp"

namespace switchyard::runtime {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const ChatMessage& message) {
  Json json = {{"role", text::replace_invalid_utf8(message.role)},
               {"content", text::replace_invalid_utf8(message.content)}};
  if (!message.reasoning.empty()) json["reasoning_content"] = text::replace_invalid_utf8(message.reasoning);
  return json;
}

// Tells apart what a model says in channels: <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final
// <|message|>... A model without such tokens speaks in one piece. Source: the harmony format of gpt-oss.
class Channels {
 public:
  explicit Channels(const text::Tokenizer& tokenizer) : tokenizer_(&tokenizer), decoder_(tokenizer) {}

  struct Piece {
    std::string text;
    bool reasoning = false;
  };
  Piece push(std::int32_t id) {
    const std::string name = tokenizer_->token_text(id);
    if (name == "<|channel|>" || name == "<|start|>") {
      in_header_ = true;
      header_.clear();
      return {decoder_.finish(), reasoning_};
    }
    if (in_header_ && name == "<|message|>") {
      in_header_ = false;
      reasoning_ = header_.substr(0, header_.find(' ')) == "analysis";
      return {};
    }
    std::string piece = decoder_.push(id);
    if (in_header_) {
      header_ += piece;
      return {};
    }
    return {std::move(piece), reasoning_};
  }
  Piece finish() { return in_header_ ? Piece{} : Piece{decoder_.finish(), reasoning_}; }

 private:
  const text::Tokenizer* tokenizer_;
  text::StreamDecoder decoder_;
  bool in_header_ = false, reasoning_ = false;
  std::string header_;
};

}  // namespace

Chat::Chat(model::Transformer& transformer, const text::Tokenizer& tokenizer, text::ChatTemplate chat_template,
           ChatConfig config)
    : tokenizer_(&tokenizer),
      template_(std::move(chat_template)),
      config_(std::move(config)),
      session_(transformer, config_.context, config_.batch),
      sampler_(config_.sampling) {
  if (!config_.allow_non_causal) require_causal(transformer.config());
  if (config_.draft > 0) session_.start_drafting();
  find_ends();
}

text::RenderedChat Chat::render(std::size_t first, bool open) const {
  const bool system = !messages_.empty() && messages_[0].role == "system";
  text::ChatInput input;
  Json messages = Json::array();
  if (system) messages.push_back(to_json(messages_[0]));
  for (std::size_t i = first + (system ? 1 : 0); i < messages_.size(); ++i) messages.push_back(to_json(messages_[i]));
  input.messages = messages.dump();
  input.tools = config_.tools;
  input.variables = config_.variables;
  input.now = config_.now;
  input.add_generation_prompt = open;
  return template_.render(input);
}

std::vector<std::int32_t> Chat::ids_from(std::size_t first) const {
  const text::RenderedChat chat = render(first, true);
  return tokenizer_->encode_mixed(chat.text, chat.foreign);
}

std::vector<std::int32_t> Chat::prompt_ids() const { return ids_from(forgotten_); }

void Chat::find_ends() {
  ends_ = tokenizer_->end_ids();
  const auto add = [this](std::int32_t id) {
    if (std::find(ends_.begin(), ends_.end(), id) == ends_.end()) ends_.push_back(id);
  };
  if (const auto id = tokenizer_->eos_id()) add(*id);
  // What the template writes behind an answer, if it is a control token, ends one.
  constexpr std::string_view kAnswer = "switchyard-answer";
  try {
    messages_ = {{"user", "question", {}}, {"assistant", std::string(kAnswer), {}}};
    const text::RenderedChat chat = render(0, false);
    const std::size_t found = chat.text.rfind(kAnswer);
    if (found != std::string::npos) {
      const auto behind = tokenizer_->encode_mixed(std::string_view(chat.text).substr(found + kAnswer.size()), {});
      if (!behind.empty() && tokenizer_->token_bytes(behind[0]).empty()) add(behind[0]);
    }
  } catch (const Error& error) {
    // A template that does not like this conversation tells nothing; the model's own end tokens remain.
    if (error.kind() != ErrorKind::kBadInput) throw;
  }
  messages_.clear();
}

ChatAnswer Chat::ask(const std::string& content, const Listener& listener) {
  std::vector<ChatMessage> before = messages_;
  messages_.push_back({"user", content, {}});
  return answer_or_restore(std::move(before), listener);
}

ChatAnswer Chat::answer_again(const Listener& listener) {
  std::vector<ChatMessage> before = messages_;
  while (!messages_.empty() && messages_.back().role == "assistant") messages_.pop_back();
  if (messages_.empty() || messages_.back().role != "user") {
    messages_ = std::move(before);
    fail(ErrorKind::kUsage, "there is no message to answer again");
  }
  return answer_or_restore(std::move(before), listener);
}

ChatAnswer Chat::answer_or_restore(std::vector<ChatMessage> before, const Listener& listener) {
  const std::size_t forgotten = forgotten_;
  try {
    ChatAnswer result = answer(listener);
    if (result.ids.empty() && result.end == ChatAnswer::End::kStopped) messages_ = std::move(before);
    return result;
  } catch (...) {
    messages_ = std::move(before);
    forgotten_ = forgotten;
    throw;
  }
}

ChatAnswer Chat::answer(const Listener& listener) {
  const Index capacity = config_.context > 0 ? config_.context : session_.config().max_positions;
  // Room for an answer; the oldest question and answer go first.
  constexpr Index kLeastAnswer = 256;
  const Index room = std::min(capacity / 4, config_.max_tokens > 0 ? config_.max_tokens : kLeastAnswer);
  const bool system = messages_[0].role == "system";
  const std::size_t all = messages_.size() - (system ? 1 : 0);
  ChatAnswer result;
  std::vector<std::int32_t> ids = ids_from(forgotten_);
  while (static_cast<Index>(ids.size()) > capacity - room && forgotten_ + 1 < all) {
    do {
      ++forgotten_;
      ++result.forgotten_messages;
    } while (forgotten_ + 1 < all && messages_[forgotten_ + (system ? 1 : 0)].role != "user");
    ids = ids_from(forgotten_);
  }
  if (static_cast<Index>(ids.size()) >= capacity) {
    fail(ErrorKind::kBadInput, "the message makes a prompt of {} tokens; the context holds {}", ids.size(), capacity);
  }
  if (ids.empty()) fail(ErrorKind::kBadInput, "{}: made an empty prompt", template_.name());

  const auto& known = session_.tokens();
  const auto [end, ignored] = std::mismatch(ids.begin(), ids.end() - 1, known.begin(), known.end());
  result.prompt_tokens = static_cast<Index>(ids.size());
  result.reused_tokens = session_.rewind(static_cast<Index>(end - ids.begin()));
  const auto stopped = [&] { return listener.stop != nullptr && listener.stop->load(); };
  const Stopwatch clock;
  // In pieces, so that it can be stopped.
  const std::size_t piece = config_.batch > 0 ? static_cast<std::size_t>(config_.batch) : 512;
  for (auto begin = static_cast<std::size_t>(result.reused_tokens); begin < ids.size(); begin += piece) {
    if (stopped()) {
      result.end = ChatAnswer::End::kStopped;
      return result;
    }
    session_.append(std::span(ids).subspan(begin, std::min(piece, ids.size() - begin)));
  }
  result.prefill_seconds = clock.seconds();

  Channels channels(*tokenizer_);
  bool heard = true;
  const auto say = [&](const Channels::Piece& said) {
    (said.reasoning ? result.reasoning : result.text) += said.text;
    if (listener.on_text && !listener.on_text(said.text, said.reasoning)) heard = false;
  };
  GenerateOptions how;
  const Index left = capacity - static_cast<Index>(ids.size());
  how.max_tokens = config_.max_tokens > 0 ? std::min(config_.max_tokens, left) : left;
  how.allow_non_causal = true;
  how.draft = config_.draft;
  how.ends = ends_;
  how.vocab = tokenizer_->vocab_size();
  how.on_token = [&](std::int32_t id) {
    say(channels.push(id));
    return heard && !stopped();
  };
  session_.set_observer(listener.observer);
  Generation generation;
  try {
    if (!stopped()) generation = generate(session_, {}, sampler_, how);
  } catch (...) {
    session_.set_observer(nullptr);
    throw;
  }
  session_.set_observer(nullptr);
  say(channels.finish());
  using End = ChatAnswer::End;
  const bool full = static_cast<Index>(generation.ids.size()) >= how.max_tokens;
  result.end = generation.ended                 ? End::kModel
               : !heard || stopped()            ? End::kStopped
               : full && how.max_tokens == left ? End::kContext
                                                : End::kMaxTokens;
  result.ids = std::move(generation.ids);
  result.decode_seconds = generation.decode_seconds;
  result.drafts = generation.drafts;
  if (!result.ids.empty() || result.end != End::kStopped) {
    messages_.push_back({"assistant", result.text, result.reasoning});
  }
  return result;
}

bool Chat::undo() {
  const auto last =
      std::find_if(messages_.rbegin(), messages_.rend(), [](const auto& one) { return one.role == "user"; });
  if (last == messages_.rend()) return false;
  messages_.erase(last.base() - 1, messages_.end());
  const std::size_t all = messages_.size() - (!messages_.empty() && messages_[0].role == "system" ? 1 : 0);
  forgotten_ = std::min(forgotten_, all);
  return true;
}

void Chat::reset() {
  const bool system = !messages_.empty() && messages_[0].role == "system";
  messages_.resize(system ? 1 : 0);
  forgotten_ = 0;
}

void Chat::set_system(const std::string& content) {
  messages_.clear();
  forgotten_ = 0;
  if (!content.empty()) messages_.push_back({"system", content, {}});
}

std::string Chat::save() const {
  Json messages = Json::array();
  for (const ChatMessage& message : messages_) messages.push_back(to_json(message));
  return Json{{"messages", messages}}.dump(2) + "\n";
}

void Chat::load(std::string_view text, const std::string& name) {
  constexpr int kDeepest = 16;
  bool too_deep = false;
  const auto depth_check = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kDeepest;
    return !too_deep;
  };
  const Json json = Json::parse(text, depth_check, false);
  const auto list = json.is_object() ? json.find("messages") : json.end();
  if (too_deep || json.is_discarded() || !json.is_object() || list == json.end() || !list->is_array()) {
    fail(ErrorKind::kBadInput, "{}: is not a conversation: expected an object with a list \"messages\"", name);
  }
  std::vector<ChatMessage> messages;
  for (const Json& one : *list) {
    const auto string = [&](const char* key, bool required) -> std::string {
      const auto found = one.is_object() ? one.find(key) : one.end();
      if (one.is_object() && found != one.end() && found->is_string()) return found->get<std::string>();
      if (required || (one.is_object() && found != one.end())) {
        fail(ErrorKind::kBadInput, "{}: message {}: key '{}' is not a string", name, messages.size(), key);
      }
      return {};
    };
    ChatMessage message{string("role", true), string("content", true), string("reasoning_content", false)};
    if (message.role == "system" && !messages.empty()) {
      fail(ErrorKind::kBadInput, "{}: message {}: a system text stands behind other messages", name, messages.size());
    }
    messages.push_back(std::move(message));
  }
  messages_ = std::move(messages);
  forgotten_ = 0;
}

}  // namespace switchyard::runtime
