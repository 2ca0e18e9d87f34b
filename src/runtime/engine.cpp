#include "switchyard/runtime/engine.hpp"

#include <algorithm>

#include "switchyard/base/error.hpp"
#include "switchyard/base/stopwatch.hpp"
#include "switchyard/model/checkpoint.hpp"
#include "switchyard/model/model_folder.hpp"
#include "switchyard/moe/select.hpp"

namespace switchyard::runtime {

std::shared_ptr<Engine> Engine::load(const std::filesystem::path& path, bool mapped) {
  const auto folder = model::find_model_folder(path);
  model::LoadedModel loaded = model::load_model(folder, {.stored = true, .mapped = mapped});
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
  logits_ = Tensor();
  return kept;
}

std::span<const float> Session::logits() const {
  require(logits_.defined(), "a session without tokens has no logits");
  return logits_.f32();
}

void Session::run(std::span<const std::int32_t> ids) {
  const auto count = static_cast<Index>(ids.size());
  cache_.reserve(count);
  const Index length = cache_.length() + count;
  for (Index begin = 0; begin < count; begin += chunk_) {
    model::ForwardCall call;
    call.sequence = std::min(chunk_, count - begin);
    call.cache = &cache_;
    call.text_length = length;
    call.observer = observer_;
    const auto result = transformer_->forward(
        ids.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(call.sequence)), call);
    if (begin + call.sequence == count) {
      logits_ = transformer_->logits(result.hidden_TD.matrix().slice_rows(call.sequence - 1, 1));
    }
  }
}

void require_causal(const model::ModelConfig& config) {
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    if (!config.layers[i].moe) continue;
    const moe::SelectionRule& rule = moe::find_selection_rule(config.layers[i].moe->router.select);
    if (!rule.causal) {
      fail(ErrorKind::kUnsupported,
           "layer {}: router.select \"{}\" is not causal: which experts a token gets depends on later tokens, so the "
           "model cannot be asked for one token after another as it was trained; train with a causal rule such as "
           "\"top-k\", measure this model with perplexity, or insist with --allow-non-causal",
           i, rule.name);
    }
  }
}

Generation generate(Session& session, std::span<const std::int32_t> prompt, Sampler& sampler,
                    const GenerateOptions& options) {
  if (!options.allow_non_causal) require_causal(session.config());
  std::vector<std::int32_t> start(prompt.begin(), prompt.end());
  if (start.empty() && session.tokens().empty()) {
    if (!options.begin) fail(ErrorKind::kUsage, "the prompt is empty and the model has no begin token");
    start.push_back(*options.begin);
  }
  Generation result;
  result.prompt_tokens = static_cast<Index>(start.size());
  if (options.max_tokens <= 0) return result;
  const Stopwatch reading;
  std::span<const float> logits = start.empty() ? session.logits() : session.append(start);
  result.prefill_seconds = reading.seconds();
  const Stopwatch writing;
  while (static_cast<Index>(result.ids.size()) < options.max_tokens) {
    const auto drawn = options.vocab > 0 ? logits.first(static_cast<std::size_t>(options.vocab)) : logits;
    const std::int32_t id = sampler.sample(drawn, session.tokens());
    if (std::find(options.ends.begin(), options.ends.end(), id) != options.ends.end()) {
      result.ended = true;
      break;
    }
    result.ids.push_back(id);
    if (options.on_token && !options.on_token(id)) break;
    if (static_cast<Index>(result.ids.size()) < options.max_tokens) logits = session.append(std::span(&id, 1));
  }
  result.decode_seconds = writing.seconds();
  return result;
}

}  // namespace switchyard::runtime
