#pragma once
// A conversation with a model.

#include <atomic>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/runtime/engine.hpp"

namespace switchyard::runtime {

struct ChatMessage {
  std::string role, content;
  std::string reasoning;  // of an answer, where the model marks it off by channels
  bool operator==(const ChatMessage&) const = default;
};

struct ChatConfig {
  Index context = 0, batch = 0;  // as Session's
  Index max_tokens = 0;          // of an answer; 0 = as many as the context holds
  SamplingConfig sampling;
  Index draft = 0;        // as GenerateOptions'
  std::string variables;  // JSON: an object of what the template sees besides; empty = none
  std::string tools;      // JSON: a list of objects; empty = none
  std::optional<std::tm> now;
  bool allow_non_causal = false;
};

struct ChatAnswer {
  enum class End { kModel, kMaxTokens, kContext, kStopped };
  std::string text, reasoning;
  std::vector<std::int32_t> ids;  // of the answer
  End end = End::kModel;
  Index prompt_tokens = 0, reused_tokens = 0;  // of the whole prompt; of those, how many were in the cache
  Index forgotten_messages = 0;                // the oldest ones, which no longer fitted
  double prefill_seconds = 0.0, decode_seconds = 0.0;
  Drafts drafts;
};

// Keeps the messages, renders all of them for every answer, and computes only what differs from what the cache holds:
// an answer is the one that a new session would give. Use from one thread at a time.
class Chat {
 public:
  // Model and tokenizer must outlive it. kUnsupported where the model is not causal, unless the config insists.
  Chat(model::Transformer& transformer, const text::Tokenizer& tokenizer, text::ChatTemplate chat_template,
       ChatConfig config);

  struct Listener {
    // A piece of the answer, whole characters; may be empty. False stops the answer.
    std::function<bool(std::string_view piece, bool reasoning)> on_text;
    const std::atomic<bool>* stop = nullptr;   // looked at also while the prompt is read
    moe::RoutingObserver* observer = nullptr;  // of the answer's tokens; those of the prompt are not shown
  };
  // Adds the message and the answer to it. Where no answer came about (the template refuses the conversation, it does
  // not fit the context, it was stopped before the first token), the messages are as before; errors are kBadInput.
  ChatAnswer ask(const std::string& content, const Listener& listener);
  // Answers the last message of the user once more, in place of the last answer. kUsage where there is none.
  ChatAnswer answer_again(const Listener& listener);

  // Takes back the last message of the user with its answer. False where there is none.
  bool undo();
  void reset();                                 // back to the system text
  void set_system(const std::string& content);  // empty: none; the messages go
  const std::vector<ChatMessage>& messages() const { return messages_; }

  // JSON: {"messages": [{"role", "content", ...}, ...]}.
  std::string save() const;
  // `name` stands for the text in messages. Throws kBadInput and leaves all as it was.
  void load(std::string_view json, const std::string& name);

  // The prompt for the next answer as the model gets it.
  std::vector<std::int32_t> prompt_ids() const;
  // All tokens that end an answer: the model's, and what the template writes behind one.
  const std::vector<std::int32_t>& end_ids() const { return ends_; }

 private:
  ChatAnswer answer(const Listener& listener);
  // Leaves the messages as `before` where no answer came about.
  ChatAnswer answer_or_restore(std::vector<ChatMessage> before, const Listener& listener);
  text::RenderedChat render(std::size_t first, bool open) const;
  std::vector<std::int32_t> ids_from(std::size_t first) const;
  void find_ends();

  const text::Tokenizer* tokenizer_;
  text::ChatTemplate template_;
  ChatConfig config_;
  Session session_;
  Sampler sampler_;
  std::vector<std::int32_t> ends_;
  std::vector<ChatMessage> messages_;
  std::size_t forgotten_ = 0;  // messages behind the system text that no longer fit
};

}  // namespace switchyard::runtime
