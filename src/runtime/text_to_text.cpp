#include "switchyard/runtime/text_to_text.hpp"

#include <algorithm>
#include <cmath>

#include "switchyard/base/error.hpp"
#include "switchyard/base/stopwatch.hpp"
#include "switchyard/model/model_folder.hpp"

namespace switchyard::runtime {
namespace {

using model::DecoderState;
using model::EncoderDecoder;

std::shared_ptr<const model::CrossMemory> read_source(const EncoderDecoder& model, std::span<const std::int32_t> source,
                                                      moe::RoutingObserver* observer) {
  if (source.empty()) fail(ErrorKind::kUsage, "the encoder was given no tokens");
  const Tensor encoded = model.encode(source, observer);
  return model.remember(encoded.matrix());
}

bool is_end(const std::vector<std::int32_t>& ends, std::int32_t id) {
  return std::find(ends.begin(), ends.end(), id) != ends.end();
}

// A score that nothing reaches, as the reference has it: in place of minus infinity, so that it can be divided.
constexpr double kHopeless = -1.0e9;

struct Candidate {
  double score = kHopeless;  // log p of the whole text
  Index beam = 0;
  std::int32_t id = 0;
};

struct Finished {
  double score = kHopeless;
  std::vector<std::int32_t> ids;
};

// log p of every token, from one row of logits.
void log_probabilities(std::span<const float> logits, std::vector<double>& out) {
  double largest = -std::numeric_limits<double>::infinity();
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if (std::isnan(logits[id])) fail(ErrorKind::kBadInput, "the model's logit of token {} is NaN", id);
    largest = std::max(largest, static_cast<double>(logits[id]));
  }
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  const double log_sum = largest + std::log(sum);
  out.resize(logits.size());
  for (std::size_t id = 0; id < logits.size(); ++id) out[id] = static_cast<double>(logits[id]) - log_sum;
}

class BeamSearch {
 public:
  BeamSearch(const EncoderDecoder& model, const BeamOptions& options, std::shared_ptr<const model::CrossMemory> source,
             moe::RoutingObserver* observer)
      : model_(model), options_(options), observer_(observer) {
    DecoderState first(model.config(), std::move(source));
    for (Index b = 0; b < options.beams; ++b) states_.push_back(first.copy());
    texts_.resize(states_.size());
    // All beams begin alike: only the first counts, or every beam would choose the same.
    scores_.assign(states_.size(), kHopeless);
    scores_[0] = 0.0;
  }

  Finished run() {
    std::vector<std::int32_t> next(states_.size(), model_.config().start_id);
    for (Index length = 1;; ++length) {
      const std::vector<Candidate> best = look(next);
      const auto stops = [&](const Candidate& c) {
        return length >= options_.max_tokens || is_end(options_.ends, c.id);
      };
      finish(best, stops, length);
      next = go_on(best, stops);
      const bool all_stop = std::all_of(best.begin(), best.end(), stops);
      const bool full = static_cast<Index>(finished_.size()) == options_.beams;
      const bool hopeless = full && scores_[0] / length_factor(length) <= finished_.back().score;
      if (all_stop || hopeless || (full && options_.early_stopping)) break;
    }
    require(!finished_.empty(), "a beam search ended without a text");
    return std::move(finished_.front());
  }

 private:
  double length_factor(Index length) const {
    return std::pow(static_cast<double>(length), static_cast<double>(options_.length_penalty));
  }

  // The best continuations of all beams, the best first.
  std::vector<Candidate> look(const std::vector<std::int32_t>& next) {
    std::vector<DecoderState*> states;
    for (DecoderState& state : states_) states.push_back(&state);
    const Tensor hidden = model_.decode(next, states, observer_);
    const Tensor logits = model_.logits(hidden.matrix());
    const Index vocab = options_.vocab > 0 ? std::min(options_.vocab, logits.shape()[1]) : logits.shape()[1];
    std::vector<Candidate> all;
    std::vector<double> log_p;
    for (Index b = 0; b < options_.beams; ++b) {
      const std::span<const float> row = logits.matrix().row_span(b);
      log_probabilities(row, log_p);
      for (Index id = 0; id < vocab; ++id)
        all.push_back({scores_[static_cast<std::size_t>(b)] + log_p[static_cast<std::size_t>(id)], b,
                       static_cast<std::int32_t>(id)});
    }
    const auto ends = static_cast<Index>(options_.ends.size());
    const auto kept = std::min(all.size(), static_cast<std::size_t>(std::max<Index>(2, 1 + ends) * options_.beams));
    std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(kept), all.end(),
                      [](const Candidate& a, const Candidate& b) {
                        if (a.score != b.score) return a.score > b.score;
                        return a.beam != b.beam ? a.beam < b.beam : a.id < b.id;
                      });
    all.resize(kept);
    return all;
  }

  template <class Stops>
  void finish(const std::vector<Candidate>& best, const Stops& stops, Index length) {
    const std::size_t considered = std::min(best.size(), static_cast<std::size_t>(options_.beams));
    for (std::size_t i = 0; i < considered; ++i) {
      if (!stops(best[i])) continue;
      Finished text{best[i].score / length_factor(length), texts_[static_cast<std::size_t>(best[i].beam)]};
      text.ids.push_back(best[i].id);
      const auto at = std::find_if(finished_.begin(), finished_.end(),
                                   [&](const Finished& other) { return other.score < text.score; });
      finished_.insert(at, std::move(text));
      if (static_cast<Index>(finished_.size()) > options_.beams) finished_.pop_back();
    }
  }

  // The beams of the next step and their last tokens. Where too few candidates go on, ended ones fill the places
  // without hope, as in the reference.
  template <class Stops>
  std::vector<std::int32_t> go_on(const std::vector<Candidate>& best, const Stops& stops) {
    std::vector<Candidate> chosen;
    for (const Candidate& c : best)
      if (!stops(c) && static_cast<Index>(chosen.size()) < options_.beams) chosen.push_back(c);
    for (std::size_t i = 0; static_cast<Index>(chosen.size()) < options_.beams; ++i) {
      if (i < best.size() && !stops(best[i])) continue;
      Candidate filler = best[std::min(i, best.size() - 1)];
      filler.score += kHopeless;
      chosen.push_back(filler);
    }
    std::vector<Index> children(states_.size());
    for (const Candidate& c : chosen) ++children[static_cast<std::size_t>(c.beam)];
    std::vector<DecoderState> states;
    std::vector<std::vector<std::int32_t>> texts;
    std::vector<std::int32_t> next;
    scores_.clear();
    for (const Candidate& c : chosen) {
      const auto from = static_cast<std::size_t>(c.beam);
      // The last child takes its parent's memory over.
      states.push_back(--children[from] == 0 ? std::move(states_[from]) : states_[from].copy());
      texts.push_back(texts_[from]);
      texts.back().push_back(c.id);
      next.push_back(c.id);
      scores_.push_back(c.score);
    }
    states_ = std::move(states);
    texts_ = std::move(texts);
    return next;
  }

  const EncoderDecoder& model_;
  const BeamOptions& options_;
  moe::RoutingObserver* observer_;
  std::vector<DecoderState> states_;  // of the beams, the likeliest first
  std::vector<std::vector<std::int32_t>> texts_;
  std::vector<double> scores_;
  std::vector<Finished> finished_;  // the best first, at most as many as beams
};

}  // namespace

std::shared_ptr<TextToText> TextToText::load(const std::filesystem::path& path, bool mapped) {
  const auto folder = model::find_model_folder(path);
  model::LoadedEncoderDecoder loaded = model::load_encoder_decoder(folder, {.stored = true, .mapped = mapped});
  std::shared_ptr<TextToText> engine(new TextToText(std::move(loaded.model)));
  engine->tokenizer_ = std::move(loaded.tokenizer);
  engine->folder_ = folder;
  engine->family_ = loaded.family;
  return engine;
}

const text::Tokenizer& TextToText::tokenizer() const { return model::require_tokenizer(tokenizer_, folder_); }

Generation answer(const EncoderDecoder& model, std::span<const std::int32_t> source, Sampler& sampler,
                  const GenerateOptions& options, const RoutingObservers& observers) {
  Generation result;
  result.prompt_tokens = static_cast<Index>(source.size());
  const Stopwatch reading;
  DecoderState state(model.config(), read_source(model, source, observers.encoder));
  result.prefill_seconds = reading.seconds();
  const Stopwatch writing;
  DecoderState* const states[] = {&state};
  std::vector<std::int32_t> text = {model.config().start_id};
  while (static_cast<Index>(result.ids.size()) < options.max_tokens) {
    const Tensor hidden = model.decode(std::span(&text.back(), 1), states, observers.decoder);
    const Tensor logits = model.logits(hidden.matrix());
    const std::span<const float> row = logits.f32();
    const std::int32_t id =
        sampler.sample(options.vocab > 0 ? row.first(static_cast<std::size_t>(options.vocab)) : row, text);
    if (is_end(options.ends, id)) {
      result.ended = true;
      break;
    }
    result.ids.push_back(id);
    text.push_back(id);
    if (options.on_token && !options.on_token(id)) break;
  }
  result.decode_seconds = writing.seconds();
  return result;
}

void BeamOptions::validate() const {
  constexpr Index kMostBeams = 4096;
  if (beams < 1 || beams > kMostBeams) fail(ErrorKind::kUsage, "beams: {}, expected 1 to {}", beams, kMostBeams);
  if (!std::isfinite(length_penalty)) fail(ErrorKind::kUsage, "length penalty: {}, expected a number", length_penalty);
}

Generation beam_search(const EncoderDecoder& model, std::span<const std::int32_t> source, const BeamOptions& options,
                       const RoutingObservers& observers) {
  options.validate();
  Generation result;
  result.prompt_tokens = static_cast<Index>(source.size());
  const Stopwatch reading;
  auto memory = read_source(model, source, observers.encoder);
  result.prefill_seconds = reading.seconds();
  if (options.max_tokens <= 0) return result;
  const Stopwatch writing;
  Finished best = BeamSearch(model, options, std::move(memory), observers.decoder).run();
  result.decode_seconds = writing.seconds();
  result.ids = std::move(best.ids);
  result.score = best.score;
  if (is_end(options.ends, result.ids.back())) {
    result.ended = true;
    result.ids.pop_back();
  }
  return result;
}

}  // namespace switchyard::runtime
