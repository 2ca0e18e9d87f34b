#include "switchyard/train/trainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>

#include "run_folder.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/base/stopwatch.hpp"
#include "switchyard/kernels/elementwise.hpp"
#include "switchyard/moe/bias.hpp"
#include "switchyard/moe/losses.hpp"
#include "switchyard/train/freeze.hpp"
#include "switchyard/train/monitor.hpp"
#include "switchyard/train/revival.hpp"

namespace switchyard::train {
namespace {

// Loads of a layer are written at most about this often in a run: they are most of a metrics line.
constexpr Index kLoadLines = 200;

TokenData open_data(const Recipe& recipe, const RunFolder& run, TrainListener& listener) {
  const std::filesystem::path folder = run.tokens();
  TokenData data = [&] {
    if (run.continues() && TokenData::exists(folder)) {
      TokenData stored = TokenData::open(folder);
      if (stored.source() != data_source(recipe.data)) {
        fail(ErrorKind::kBadInput,
             "{}: was made from other text or settings than data.paths and [data] now give; "
             "a run can only be resumed with its own text",
             folder.string());
      }
      return stored;
    }
    return TokenData::prepare(recipe.data, folder,
                              [&](std::uint64_t done, std::uint64_t total) { listener.on_tokenize(done, total); });
  }();
  const auto train_tokens = static_cast<Index>(data.train().tokens.size());
  // The last evaluation goes domain by domain, and a token is predicted from the one before it.
  const TokenSplit& held_out = data.validation();
  const bool can_evaluate = std::any_of(held_out.domains.begin(), held_out.domains.end(),
                                        [](const Domain& domain) { return domain.end - domain.begin >= 2; });
  if (train_tokens <= recipe.train.sequence) {
    fail(ErrorKind::kBadInput, "data.paths: {} training tokens, expected more than train.sequence ({})", train_tokens,
         recipe.train.sequence);
  }
  if (!can_evaluate) {
    fail(ErrorKind::kBadInput,
         "data.paths: {} held-out tokens, expected 2 or more of a domain; give more text or raise "
         "data.validation ({})",
         held_out.tokens.size(), recipe.data.validation);
  }
  return data;
}

// Choices of the step's micro-batches so far, of layers whose balance loss is over the global batch.
class LoadBefore final : public moe::RoutingObserver {
 public:
  void on_routing(const moe::RoutingEvent& event) override {
    if (event.config.balance.load_balance_scope != "global-batch") return;
    const std::vector<Index> count_E = moe::balance_counts(event.config.balance, event.assignments);
    std::vector<Index>& load_E = layers_[event.layer];
    load_E.resize(count_E.size());
    for (std::size_t e = 0; e < count_E.size(); ++e) load_E[e] += count_E[e];
  }
  const std::map<Index, std::vector<Index>>& layers() const { return layers_; }

 private:
  std::map<Index, std::vector<Index>> layers_;
};

// One step's observers.
struct StepObservers {
  explicit StepObservers(moe::StatisticsRecorder& recorder) : statistics(recorder) {
    for (moe::RoutingObserver* observer :
         {static_cast<moe::RoutingObserver*>(&recorder), static_cast<moe::RoutingObserver*>(&load_before),
          static_cast<moe::RoutingObserver*>(&bias_targets)})
      all.add(observer);
  }
  StepObservers(const StepObservers&) = delete;
  StepObservers& operator=(const StepObservers&) = delete;

  moe::StatisticsRecorder& statistics;
  LoadBefore load_before;
  moe::BiasTargets bias_targets;
  moe::ObserverList all;
};

// One run's moving parts, so that a step can be read on its own.
class Run {
 public:
  Run(const Recipe& recipe, const TrainOptions& options, TrainListener& listener)
      : recipe_(recipe),
        options_(options),
        listener_(listener),
        folder_(options.out, recipe, options.resume),
        data_(open_data(recipe, folder_, listener)),
        transformer_(resolve_model(recipe, data_.tokenizer().vocab_size())),
        frozen_(freeze(recipe.train.freeze, transformer_)),
        optimizer_(recipe.optimizer, transformer_.parameters()),
        monitor_(recipe),
        revival_(recipe.train) {
    folder_.begin();
    const auto last = folder_.last_checkpoint();
    if (last.empty()) {
      transformer_.initialize(resolve_init(recipe), recipe.train.seed);
    } else {
      RunFolder::State state = folder_.load(last, transformer_, optimizer_);
      step_ = saved_step_ = state.step;
      revival_.restore(std::move(state.dead_steps));
      monitor_.restore(std::move(state.monitor));
      checkpoint_ = last;
    }
    for (autograd::Parameter* parameter : transformer_.parameters()) {
      if (parameter->wants_grad()) parameter->ensure_grad();
    }
    resident_bytes_ = tensor_memory().current_bytes;
    const TokenSplit& train = data_.train();
    bits_per_byte_ = static_cast<double>(train.tokens.size()) / static_cast<double>(std::max<Index>(1, train.bytes())) /
                     std::numbers::ln2;
  }

  TrainResult go() {
    RunInfo info;
    info.parameters = model::count_parameters(transformer_.config());
    info.train_tokens = static_cast<Index>(data_.train().tokens.size());
    info.validation_tokens = static_cast<Index>(data_.validation().tokens.size());
    info.vocab = data_.tokenizer().vocab_size();
    info.resumed_from = step_;
    info.steps = recipe_.train.steps;
    info.parameter_bytes = resident_bytes_;
    for (const autograd::Parameter* parameter : frozen_) {
      info.frozen.push_back(parameter->name);
      info.frozen_parameters += parameter->value.numel();
    }
    listener_.on_start(info);

    MetricsLog log(options_.out, step_);
    const TrainConfig& t = recipe_.train;
    TrainResult result;
    while (step_ < t.steps) {
      if (options_.stop != nullptr && options_.stop->load()) break;
      moe::StatisticsRecorder recorder;
      StepMetrics metrics = step(recorder);
      metrics.routing = &recorder.layers();
      log.write(metrics, step_ % std::max<Index>(1, t.steps / kLoadLines) == 0 || step_ == t.steps);
      listener_.on_step(metrics);
      std::vector<std::string> warnings = monitor_.observe(recorder.layers());
      warnings.insert(warnings.end(), revived_.begin(), revived_.end());
      for (const std::string& text : warnings) {
        log.warning(step_, text);
        listener_.on_warning(text);
      }
      const bool last = step_ == t.steps;
      if (last || (t.evaluate_every > 0 && step_ % t.evaluate_every == 0)) {
        const TokenSplit& held_out = data_.validation();
        EvalMetrics e = last
                            ? evaluate_all(transformer_, held_out, t.sequence, t.batch, listener_.on_held_out(held_out))
                            : evaluate_some(transformer_, held_out, t.sequence, t.batch, t.evaluate_batches * t.batch);
        e.step = step_;
        if (!std::isfinite(e.loss)) fail_not_finite(step_, "the loss on held-out text");
        log.write(e);
        listener_.on_evaluation(e);
        result.evaluation = e;
      }
      if (!last && t.sample_every > 0 && step_ % t.sample_every == 0) {
        listener_.on_sample(transformer_, data_.tokenizer(), step_);
      }
      if (last || (t.checkpoint_every > 0 && step_ % t.checkpoint_every == 0)) save();
    }
    if (saved_step_ != step_) save();  // stopped early
    result.step = step_;
    result.finished = step_ >= t.steps;
    result.checkpoint = checkpoint_;
    return result;
  }

 private:
  StepMetrics step(moe::StatisticsRecorder& recorder) {
    const Stopwatch watch;
    const TrainConfig& t = recipe_.train;
    reset_tensor_memory_peak();
    StepObservers observers(recorder);
    double loss_sum = 0.0, router_sum = 0.0;
    for (Index micro = 0; micro < t.accumulate; ++micro) {
      const auto [loss, router] = forward_backward(micro, observers);
      loss_sum += loss;
      router_sum += router;
    }
    const auto accumulate = static_cast<double>(t.accumulate);
    const double norm = gradient_norm(transformer_.parameters());
    if (!std::isfinite(norm)) fail_not_finite(step_ + 1, "a gradient");
    const double clip = recipe_.optimizer.clip_norm;
    const double scale = clip > 0.0 && norm > clip ? clip / norm : 1.0;
    const double rate = train::learning_rate(recipe_.optimizer, step_, t.steps);
    optimizer_.step(rate, scale, step_);
    update_selection_biases(observers);
    revived_ = revival_.observe(step_, recorder.layers(), transformer_, optimizer_);
    ++step_;

    StepMetrics metrics;
    metrics.step = step_;
    metrics.loss = loss_sum / accumulate;
    metrics.bits_per_byte = metrics.loss * bits_per_byte_;
    metrics.router_loss = router_sum / accumulate;
    metrics.learning_rate = rate;
    metrics.gradient_norm = norm;
    metrics.seconds = watch.seconds();
    metrics.tokens_per_second = static_cast<double>(t.batch * t.sequence * t.accumulate) / metrics.seconds;
    metrics.activation_bytes = tensor_memory().peak_bytes - resident_bytes_;
    return metrics;
  }

  struct Losses {
    double cross_entropy, router;
  };

  // Adds the micro-batch's gradients, each micro-batch counting 1 / accumulate.
  Losses forward_backward(Index micro, StepObservers& observers) {
    const TrainConfig& t = recipe_.train;
    sample_batch(data_.train(), t.batch, t.sequence, t.seed, static_cast<std::uint32_t>(step_),
                 static_cast<std::uint32_t>(micro), batch_);
    autograd::Tape tape;
    model::ForwardCall call = forward_call(micro);
    call.tape = &tape;
    call.recompute = t.recompute;
    call.observer = &observers.all;
    call.load_before = &observers.load_before.layers();
    auto result = transformer_.forward(batch_.input, call);
    std::vector<autograd::Value> terms = std::move(result.router_losses);
    Losses losses{0.0, 0.0};
    for (const autograd::Value& term : terms) losses.router += static_cast<double>(term.scalar());
    terms.push_back(transformer_.loss(&tape, result.hidden_TD, batch_.target));
    losses.cross_entropy = static_cast<double>(terms.back().scalar());
    if (!std::isfinite(losses.cross_entropy) || !std::isfinite(losses.router)) {
      tape.clear();
      fail_not_finite(step_ + 1, "the loss");
    }
    result.hidden_TD = {};
    tape.backward(autograd::sum_scalars(&tape, terms), 1.0F / static_cast<float>(t.accumulate));
    return losses;
  }

  model::ForwardCall forward_call(Index micro) const {
    const TrainConfig& t = recipe_.train;
    model::ForwardCall call;
    call.batch = t.batch;
    call.sequence = t.sequence;
    call.training = true;
    call.seed = t.seed;
    call.step = static_cast<std::uint32_t>(step_ * t.accumulate + micro);
    return call;
  }

  void update_selection_biases(const StepObservers& observers) {
    for (const auto& [layer, statistics] : observers.statistics.layers()) {
      const auto& config = transformer_.config().layers[static_cast<std::size_t>(layer)].moe;
      if (!config->router.selection_bias) continue;
      autograd::Parameter* bias = transformer_.find(fmt::format("layers.{}.moe.selection_bias", layer));
      require(bias != nullptr, "layer {} has no selection bias", layer);
      if (std::find(frozen_.begin(), frozen_.end(), bias) != frozen_.end()) continue;
      const std::vector<double> target_E = observers.bias_targets.target(layer);
      moe::update_selection_bias(config->balance, step_, {.load_E = statistics.load_E, .target_E = target_E},
                                 bias->value.f32());
    }
  }

  // Finds out where it began: a weight, an activation of the last micro-batch, or a gradient.
  [[noreturn]] void fail_not_finite(Index step, std::string_view what) {
    const auto stop = [&](std::string_view kind, std::string_view name, Index at, float value) {
      fail(ErrorKind::kBadInput,
           "step {}: {} is not finite; the first tensor that is not is the {} {} (element {} is {}). Training stops; "
           "the "
           "last checkpoint is {}. Try a lower optimizer.learning_rate, more optimizer.warmup_steps, or balance.z_loss",
           step, what, kind, name, at, value, checkpoint_.empty() ? "none yet" : checkpoint_.string());
    };
    for (const autograd::Parameter* parameter : transformer_.parameters()) {
      const auto values = std::as_const(parameter->value).f32();
      if (const Index at = kernels::first_not_finite(values); at >= 0) {
        stop("weight", parameter->name, at, values[static_cast<std::size_t>(at)]);
      }
    }
    const std::function<void(std::string_view, std::span<const float>)> inspect = [&](std::string_view name,
                                                                                      std::span<const float> values) {
      if (const Index at = kernels::first_not_finite(values); at >= 0) {
        stop("activation", name, at, values[static_cast<std::size_t>(at)]);
      }
    };
    model::ForwardCall call = forward_call(0);
    call.inspect = &inspect;
    for (Index micro = 0; micro < recipe_.train.accumulate; ++micro) {
      call.step = forward_call(micro).step;
      sample_batch(data_.train(), call.batch, call.sequence, call.seed, static_cast<std::uint32_t>(step_),
                   static_cast<std::uint32_t>(micro), batch_);
      transformer_.forward(batch_.input, call);
    }
    for (const autograd::Parameter* parameter : transformer_.parameters()) {
      if (!parameter->grad.defined()) continue;
      const auto values = std::as_const(parameter->grad).f32();
      if (const Index at = kernels::first_not_finite(values); at >= 0) {
        stop("gradient of", parameter->name, at, values[static_cast<std::size_t>(at)]);
      }
    }
    fail(ErrorKind::kBadInput,
         "step {}: {} is not finite though every weight, activation and gradient is: a sum "
         "overflowed. Try a lower optimizer.learning_rate",
         step, what);
  }

  void save() {
    // The last update may have overflowed without any loss having seen it; such weights must not replace good ones.
    for (const autograd::Parameter* parameter : transformer_.parameters()) {
      if (kernels::first_not_finite(std::as_const(parameter->value).f32()) >= 0) fail_not_finite(step_, "a weight");
    }
    checkpoint_ =
        folder_.save({step_, revival_.dead_steps(), monitor_.states()}, transformer_, optimizer_, data_.tokenizer());
    saved_step_ = step_;
    listener_.on_checkpoint(checkpoint_);
  }

  const Recipe& recipe_;
  const TrainOptions& options_;
  TrainListener& listener_;
  RunFolder folder_;
  TokenData data_;
  model::Transformer transformer_;
  std::vector<const autograd::Parameter*> frozen_;
  AdamW optimizer_;
  CollapseMonitor monitor_;
  Revival revival_;
  std::vector<std::string> revived_;  // what the last step brought back
  Batch batch_;
  Index step_ = 0, saved_step_ = 0;
  Index resident_bytes_ = 0;
  double bits_per_byte_ = 0.0;
  std::filesystem::path checkpoint_;
};

}  // namespace

TrainResult train(const Recipe& recipe, const TrainOptions& options, TrainListener& listener) {
  recipe.validate();
  return Run(recipe, options, listener).go();
}

}  // namespace switchyard::train
