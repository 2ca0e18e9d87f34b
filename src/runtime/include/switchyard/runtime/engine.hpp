#pragma once
// A loaded model and the timelines that run on it.

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "switchyard/model/transformer.hpp"
#include "switchyard/runtime/drafter.hpp"
#include "switchyard/runtime/sampler.hpp"
#include "switchyard/text/chat_template.hpp"
#include "switchyard/text/tokenizer.hpp"

namespace switchyard::runtime {

// Everything that many sessions share: weights, config, tokenizer.
class Engine {
 public:
  // A model folder, or a training run's folder (its last checkpoint). Throws as model::load_model. Weights keep the
  // type that their file has and, unless mapped is false, stay in the mapped file. prediction: with the layer for
  // multi-token prediction, which drafts need; kUnsupported where there is none.
  static std::shared_ptr<Engine> load(const std::filesystem::path& path, bool mapped = true, bool prediction = false);

  model::Transformer& transformer() { return transformer_; }
  const model::ModelConfig& config() const { return transformer_.config(); }
  // Throws kNotFound where the folder has no tokenizer.
  const text::Tokenizer& tokenizer() const;
  bool has_tokenizer() const { return tokenizer_ != nullptr; }
  // The model's own, with the texts of its begin and end tokens. Nothing where it has none.
  std::optional<text::ChatTemplate> chat_template() const;
  const std::filesystem::path& folder() const { return folder_; }
  const std::string& family() const { return family_; }

 private:
  explicit Engine(model::Transformer transformer) : transformer_(std::move(transformer)) {}
  model::Transformer transformer_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::filesystem::path folder_;
  std::string family_;
};

// Gives the template the tokenizer's begin and end tokens, where it has none of its own.
void add_special_texts(text::ChatTemplate& chat_template, const text::Tokenizer& tokenizer);

// One sequence with its KV cache. The transformer must outlive it. Use from one thread at a time; sessions of one
// transformer may run side by side.
class Session {
 public:
  // capacity: tokens the cache may hold; 0 = the model's max_positions. chunk: tokens a forward pass while a text is
  // read; 0 = model::kPrefillChunk.
  explicit Session(model::Transformer& transformer, Index capacity = 0, Index chunk = 0);

  // Runs the tokens and returns the logits of the last one, [V], valid until the next call. Where the cache is full,
  // the older half of the sequence is forgotten and the rest is computed again, so that generation can go on.
  // Throws kBadInput for ids out of range.
  std::span<const float> append(std::span<const std::int32_t> ids);
  // Forgets the tokens behind the first `count`, if there are so many, so that another text can follow them. Returns
  // how many are kept: fewer than asked for, or none, where what is cached does not hold for the shorter text (the
  // older half was forgotten, or its keys were rotated for a long text). There are no logits until the next append().
  Index rewind(Index count);
  // What the last append() returned, or after append_each() the logits of the token `before` the last. kInternal where
  // they are not known.
  std::span<const float> logits(Index before = 0) const;

  // Tokens may be appended as guesses of how the text goes on, and taken back. start_drafting() comes before the first
  // token and needs a transformer with a layer for multi-token prediction (kInternal otherwise).
  void start_drafting();
  bool drafting() const { return drafter_.has_value(); }
  // As many guesses, at most `wanted`, as can follow one more token without anything being computed anew.
  Index room_for_guesses(Index wanted) const;
  // `count` guesses of what follows `next`, the token that is about to be appended.
  std::vector<std::int32_t> draft(std::int32_t next, Index count, const ChooseGuess& choose);
  // append() of one token after the other in one pass, with the same bits. For a token and room_for_guesses() more.
  void append_each(std::span<const std::int32_t> ids);
  // Forgets the last tokens of an append_each(), but not the first one: as if they had never come.
  void take_back(Index count);
  // Prepares for draft() what can be prepared.
  void catch_up();

  const std::vector<std::int32_t>& tokens() const { return tokens_; }  // all that was ever appended
  const model::ModelConfig& config() const { return transformer_->config(); }
  void set_observer(moe::RoutingObserver* observer) { observer_ = observer; }

 private:
  void run(std::span<const std::int32_t> ids);
  Tensor pass(std::span<const std::int32_t> ids, Index text_length, bool one_by_one);
  model::Transformer* transformer_;
  model::KvCache cache_;
  Index chunk_;
  std::vector<std::int32_t> tokens_;
  Tensor logits_;          // of the last tokens, a row each
  Index logits_rows_ = 0;  // that are of tokens which were not taken back
  std::optional<Drafter> drafter_;
  moe::RoutingObserver* observer_ = nullptr;
};

// Guesses that were made, and those that were what was then drawn; the model's passes after the prompt's.
struct Drafts {
  Index guessed = 0, accepted = 0, passes = 0;
};

struct Generation {
  std::vector<std::int32_t> ids;  // the new tokens; the end token is not among them
  Index prompt_tokens = 0;
  double prefill_seconds = 0.0, decode_seconds = 0.0;
  bool ended = false;  // the model ended the text
  double score = 0.0;  // of a beam search
  Drafts drafts;
};

// kUnsupported, naming layer and rule, where some layer chooses experts by a rule that looks ahead
// (SelectionRule::causal): token by token the model would route otherwise than it was trained to.
void require_causal(const model::ModelConfig& config);

// Continues a session by at most max_tokens. The prompt may be empty only where the session has tokens already or
// `begin` says what to start from. Each of `ends` stops the text. on_token may stop it too, by returning false. Only
// ids below `vocab` are drawn, 0 = all: a model may have rows for which its tokenizer has no token.
//
// A model that require_causal() refuses is refused, unless allow_non_causal insists.
//
// draft: tokens that are guessed ahead with the layer for multi-token prediction and read together with the one before
// them; the session must be new, or drafting. Each is drawn as ever, and what comes behind the first wrong guess is
// taken back: text, draws and the session's state are those without drafts, to the bit. A guess is drawn with the
// number that its token will be drawn with, so that good guesses are right at any temperature. An observer sees wrong
// ones too. Leviathan et al. 2022, arXiv 2211.17192, for the idea.
struct GenerateOptions {
  Index max_tokens = 0;
  bool allow_non_causal = false;
  std::optional<std::int32_t> begin;
  std::vector<std::int32_t> ends;
  Index vocab = 0;
  Index draft = 0;
  std::function<bool(std::int32_t id)> on_token;
};
Generation generate(Session& session, std::span<const std::int32_t> prompt, Sampler& sampler,
                    const GenerateOptions& options);

}  // namespace switchyard::runtime
