#include "switchyard/runtime/engine.hpp"

#include <algorithm>

#include "switchyard/base/error.hpp"
#include "switchyard/base/stopwatch.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/model/model_folder.hpp"
#include "switchyard/moe/select.hpp"

namespace switchyard::runtime {

std::shared_ptr<Engine> Engine::load(const std::filesystem::path& path, bool mapped, bool prediction) {
  const auto folder = model::find_model_folder(path);
  model::LoadedModel loaded = model::load_model(folder, {.stored = true, .mapped = mapped, .prediction = prediction});
  std::shared_ptr<Engine> engine(new Engine(std::move(loaded.transformer)));
  engine->tokenizer_ = std::move(loaded.tokenizer);
  engine->folder_ = folder;
  engine->family_ = loaded.family;
  return engine;
}

const text::Tokenizer& Engine::tokenizer() const { return model::require_tokenizer(tokenizer_, folder_); }

std::optional<text::ChatTemplate> Engine::chat_template() const {
  auto found = model::load_model_chat_template(folder_);
  if (found && tokenizer_ != nullptr) add_special_texts(*found, *tokenizer_);
  return found;
}

void add_special_texts(text::ChatTemplate& chat_template, const text::Tokenizer& tokenizer) {
  if (const auto id = tokenizer.bos_id()) chat_template.add_special("bos_token", tokenizer.token_text(*id));
  if (const auto id = tokenizer.eos_id()) chat_template.add_special("eos_token", tokenizer.token_text(*id));
}

Session::Session(model::Transformer& transformer, Index capacity, Index chunk)
    : transformer_(&transformer),
      cache_(transformer.config(), capacity == 0 ? transformer.config().max_positions : capacity),
      chunk_(chunk == 0 ? model::kPrefillChunk : chunk) {}

std::span<const float> Session::append(std::span<const std::int32_t> ids) {
  require(!ids.empty(), "no tokens to append");
  model::check_ids(ids, transformer_->config().vocab);
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  const auto count = static_cast<Index>(ids.size());
  const Index past = cache_.length();
  if (past + count <= cache_.capacity()) {
    // Where the text grows beyond what its keys were rotated for, they are made anew.
    const bool longer = model::reads_long_text(config(), past + count) && !model::reads_long_text(config(), past);
    if (longer && past > 0) {
      cache_.truncate(0);
      run(std::span(tokens_).last(static_cast<std::size_t>(past + count)));
    } else {
      run(ids);
    }
  } else {
    // Keys are rotated to their positions, so what is kept must be computed anew from position 0.
    const Index kept = std::max<Index>(1, std::min(static_cast<Index>(tokens_.size()), cache_.capacity() / 2));
    cache_.truncate(0);
    run(std::span(tokens_).last(static_cast<std::size_t>(kept)));
  }
  return logits();
}

Index Session::rewind(Index count) {
  const auto length = static_cast<Index>(tokens_.size());
  if (count >= length) return length;
  const bool whole = cache_.length() == length;
  const bool same_keys = model::reads_long_text(config(), length) == model::reads_long_text(config(), count);
  const Index kept = whole && same_keys ? std::max<Index>(0, count) : 0;
  cache_.truncate(kept);
  tokens_.resize(static_cast<std::size_t>(kept));
  logits_rows_ = 0;
  if (drafter_) drafter_->truncate(kept);
  return kept;
}

std::span<const float> Session::logits(Index before) const {
  require(before >= 0 && before < logits_rows_,
          "a session with logits of {} tokens was asked for those {} before the last", logits_rows_, before);
  const auto vocab = static_cast<std::size_t>(config().vocab);
  return logits_.f32().subspan(static_cast<std::size_t>(logits_rows_ - 1 - before) * vocab, vocab);
}

void Session::start_drafting() {
  if (drafter_) return;
  require(tokens_.empty(), "drafts were asked for in the middle of a text");
  drafter_.emplace(*transformer_, cache_.capacity(), chunk_);
}

Index Session::room_for_guesses(Index wanted) const {
  const auto is_long = [&](Index length) { return model::reads_long_text(config(), length); };
  const Index past = cache_.length();
  Index room = std::min(wanted, cache_.capacity() - past - 1);
  if (is_long(past) != is_long(past + 1)) return 0;
  while (room > 0 && is_long(past + 1 + room) != is_long(past)) --room;
  return std::max<Index>(0, room);
}

std::vector<std::int32_t> Session::draft(std::int32_t next, Index count, const ChooseGuess& choose) {
  require(drafter_.has_value(), "drafts of a session that was not told to make any");
  return drafter_->draft(*transformer_, next, count, choose);
}

void Session::append_each(std::span<const std::int32_t> ids) {
  const auto guesses = static_cast<Index>(ids.size()) - 1;
  require(guesses >= 0 && guesses == room_for_guesses(guesses), "no room for {} guesses", guesses);
  model::check_ids(ids, config().vocab);
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  logits_ = transformer_->logits(pass(ids, cache_.length() + guesses + 1, true).matrix());
  logits_rows_ = guesses + 1;
}

void Session::take_back(Index count) {
  require(count >= 0 && (count == 0 || count < logits_rows_), "{} tokens to take back, after {}", count, logits_rows_);
  if (count == 0) return;
  cache_.truncate(cache_.length() - count);
  tokens_.resize(tokens_.size() - static_cast<std::size_t>(count));
  logits_rows_ -= count;
  if (drafter_) drafter_->truncate(cache_.length());
}

void Session::catch_up() {
  if (drafter_) drafter_->catch_up(*transformer_);
}

// The hidden states of the tokens, which the cache then holds.
Tensor Session::pass(std::span<const std::int32_t> ids, Index text_length, bool one_by_one) {
  model::ForwardCall call;
  call.sequence = static_cast<Index>(ids.size());
  call.cache = &cache_;
  call.text_length = text_length;
  call.one_by_one = one_by_one;
  call.observer = observer_;
  const Index position = cache_.length();
  autograd::Value hidden_TD = transformer_->forward(ids, call).hidden_TD;
  if (drafter_) drafter_->follow(position, ids, hidden_TD.matrix(), text_length);
  return std::move(hidden_TD.mutable_tensor());
}

void Session::run(std::span<const std::int32_t> ids) {
  const auto count = static_cast<Index>(ids.size());
  cache_.reserve(count);
  const Index length = cache_.length() + count;
  for (Index begin = 0; begin < count; begin += chunk_) {
    const Index size = std::min(chunk_, count - begin);
    const Tensor hidden_TD =
        pass(ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(size)), length, false);
    if (begin + size == count) {
      logits_ = transformer_->logits(hidden_TD.matrix().slice_rows(size - 1, 1));
      logits_rows_ = 1;
    }
  }
}

namespace {

// The first layer whose rule looks ahead, and the rule; null where there is none.
std::pair<std::size_t, const moe::SelectionRule*> rule_that_looks_ahead(const model::ModelConfig& config) {
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    if (!config.layers[i].moe) continue;
    const moe::SelectionRule& rule = moe::find_selection_rule(config.layers[i].moe->router.select);
    if (!rule.causal) return {i, &rule};
  }
  return {0, nullptr};
}

}  // namespace

void require_causal(const model::ModelConfig& config) {
  const auto [layer, rule] = rule_that_looks_ahead(config);
  if (rule == nullptr) return;
  fail(ErrorKind::kUnsupported,
       "layer {}: router.select \"{}\" is not causal: which experts a token gets depends on later tokens, so the "
       "model cannot be asked for one token after another as it was trained; train with a causal rule such as "
       "\"top-k\", measure this model with perplexity, or insist with --allow-non-causal",
       layer, rule->name);
}

namespace {

void require_drafts_without_effect(const model::ModelConfig& config) {
  const auto [layer, rule] = rule_that_looks_ahead(config);
  if (rule == nullptr) return;
  fail(ErrorKind::kUnsupported,
       "layer {}: router.select \"{}\" is not causal: wrong guesses would change which experts the tokens before them "
       "get, and with them the text; leave --draft out",
       layer, rule->name);
}

// The token `id` to follow the session's, with guesses behind it, goes to the session. Returns the guesses.
std::vector<std::int32_t> append_with_guesses(Session& session, std::int32_t id, Index wanted, Sampler& sampler,
                                              const GenerateOptions& options, Drafts& drafts) {
  const Index count = session.room_for_guesses(wanted);
  ++drafts.passes;
  if (count <= 0) {
    session.append(std::span(&id, 1));
    return {};
  }
  std::vector<std::int32_t> history = session.tokens();
  history.push_back(id);
  const std::size_t known = history.size();
  const auto choose = [&](std::span<const float> logits, std::span<const std::int32_t> guesses) {
    history.resize(known);
    history.insert(history.end(), guesses.begin(), guesses.end());
    const auto drawn = options.vocab > 0 ? logits.first(static_cast<std::size_t>(options.vocab)) : logits;
    return sampler.foresee(drawn, history, guesses.size());
  };
  std::vector<std::int32_t> guesses = session.draft(id, count, choose);
  std::vector<std::int32_t> ids = {id};
  ids.insert(ids.end(), guesses.begin(), guesses.end());
  session.append_each(ids);
  drafts.guessed += count;
  return guesses;
}

}  // namespace

Generation generate(Session& session, std::span<const std::int32_t> prompt, Sampler& sampler,
                    const GenerateOptions& options) {
  if (!options.allow_non_causal) require_causal(session.config());
  if (options.draft > 0) {
    require_drafts_without_effect(session.config());
    session.start_drafting();
  }
  std::vector<std::int32_t> start(prompt.begin(), prompt.end());
  if (start.empty() && session.tokens().empty()) {
    if (!options.begin) fail(ErrorKind::kUsage, "the prompt is empty and the model has no begin token");
    start.push_back(*options.begin);
  }
  Generation result;
  result.prompt_tokens = static_cast<Index>(start.size());
  if (options.max_tokens <= 0) return result;
  const Stopwatch reading;
  if (!start.empty()) session.append(start);
  session.catch_up();
  result.prefill_seconds = reading.seconds();
  const Stopwatch writing;
  std::vector<std::int32_t> guesses;  // at the end of the session's tokens
  std::size_t right = 0;              // so many of them have been drawn
  while (static_cast<Index>(result.ids.size()) < options.max_tokens) {
    const std::size_t unseen = guesses.size() - right;
    const std::span<const float> logits = session.logits(static_cast<Index>(unseen));
    const auto drawn = options.vocab > 0 ? logits.first(static_cast<std::size_t>(options.vocab)) : logits;
    const std::int32_t id = sampler.sample(drawn, std::span(session.tokens()).first(session.tokens().size() - unseen));
    const bool foreseen = unseen > 0 && id == guesses[right];
    if (foreseen) ++result.drafts.accepted;
    if (std::find(options.ends.begin(), options.ends.end(), id) != options.ends.end()) {
      result.ended = true;
      break;
    }
    result.ids.push_back(id);
    if (options.on_token && !options.on_token(id)) break;
    const Index left = options.max_tokens - static_cast<Index>(result.ids.size());
    if (left == 0) break;
    if (foreseen) {
      ++right;
      continue;
    }
    session.take_back(static_cast<Index>(unseen));
    guesses = append_with_guesses(session, id, std::min(options.draft, left - 1), sampler, options, result.drafts);
    right = 0;
  }
  session.take_back(static_cast<Index>(guesses.size() - right));
  result.decode_seconds = writing.seconds();
  return result;
}

}  // namespace switchyard::runtime
