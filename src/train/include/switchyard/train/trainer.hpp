#pragma once
// The training loop. A run lives in one folder:
//   recipe.toml               the recipe with every key
//   tokens/                   tokenized text (data.hpp)
//   checkpoints/step-00000500/  a model folder (model/checkpoint.hpp) with the optimizer's state beside it
//   metrics.jsonl             a line a step and a line an evaluation (docs/formats/metrics.md)

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/model/transformer.hpp"
#include "switchyard/moe/statistics.hpp"
#include "switchyard/train/data.hpp"
#include "switchyard/train/recipe.hpp"

namespace switchyard::train {

struct StepMetrics {
  Index step = 0;     // steps done, 1-based
  double loss = 0.0;  // cross-entropy, nats a token, mean over the step
  double bits_per_byte = 0.0;
  double router_loss = 0.0;  // auxiliary losses, coefficients applied
  double learning_rate = 0.0;
  double gradient_norm = 0.0;
  double seconds = 0.0;
  double tokens_per_second = 0.0;
  Index activation_bytes = 0;  // most memory that the step held above parameters, gradients and optimizer
  const std::map<Index, moe::RoutingStatistics>* routing = nullptr;  // of this step's tokens; valid during the call
};

struct DomainMetrics {
  std::string name;
  double bits_per_byte = 0.0;
};

struct EvalMetrics {
  Index step = 0;
  double loss = 0.0;  // nats a token on held-out text
  double bits_per_byte = 0.0;
  Index tokens = 0;
  bool complete = false;               // read all held-out text
  std::vector<DomainMetrics> domains;  // where complete; those of less than two tokens are left out
};

// What a caller wants to see of held-out text while all of it is read. Either may be empty.
struct HeldOutReading {
  // Called as a domain of two tokens or more begins; what it returns watches the routing of that domain, or is null.
  std::function<moe::RoutingObserver*(std::size_t domain)> observer;
  std::function<void(std::uint64_t tokens_done)> progress;  // tokens of the split, ascending
};

struct RunInfo {
  model::ParameterCounts parameters;
  Index train_tokens = 0, validation_tokens = 0;
  Index vocab = 0;
  Index resumed_from = 0;  // 0 where the run starts fresh
  Index steps = 0;
  Index parameter_bytes = 0;        // weights, gradients and optimizer state
  std::vector<std::string> frozen;  // names of the parameters that train.freeze takes out of training
  Index frozen_parameters = 0;      // numbers in them
};

// Hears of a run's progress, on the training thread. Every member may be left out.
class TrainListener {
 public:
  virtual ~TrainListener() = default;
  virtual void on_tokenize(std::uint64_t done, std::uint64_t total) {
    static_cast<void>(done), static_cast<void>(total);
  }
  virtual void on_start(const RunInfo& info) { static_cast<void>(info); }
  virtual void on_step(const StepMetrics& metrics) { static_cast<void>(metrics); }
  virtual void on_evaluation(const EvalMetrics& metrics) { static_cast<void>(metrics); }
  // The last evaluation begins, which reads all of `held_out`.
  virtual HeldOutReading on_held_out(const TokenSplit& held_out) {
    static_cast<void>(held_out);
    return {};
  }
  virtual void on_checkpoint(const std::filesystem::path& folder) { static_cast<void>(folder); }
  // A sample is due: the listener may generate with the model (training code knows no sampler).
  virtual void on_sample(model::Transformer& transformer, const text::Tokenizer& tokenizer, Index step) {
    static_cast<void>(transformer), static_cast<void>(tokenizer), static_cast<void>(step);
  }
  virtual void on_warning(std::string_view text) { static_cast<void>(text); }
};

struct TrainOptions {
  std::filesystem::path out;
  bool resume = false;                      // go on from the last good checkpoint, or start where there is none
  const std::atomic<bool>* stop = nullptr;  // set by a signal handler: save and return after the current step
};

struct TrainResult {
  Index step = 0;
  bool finished = false;  // false: stopped early, a checkpoint was saved
  std::optional<EvalMetrics> evaluation;
  std::filesystem::path checkpoint;
};

// Runs or continues a run. Same recipe and seed give the same bits at any number of threads, interrupted or not.
// Throws kBadInput where `out` holds another run (not resuming), or a run of another recipe (resuming; names the first
// key that differs; train.steps and how often to evaluate, sample and checkpoint may differ), and where a loss or
// gradient is not finite (names the layer and tensor).
TrainResult train(const Recipe& recipe, const TrainOptions& options, TrainListener& listener);

// Mean loss over at most max_windows windows of `sequence` tokens, spread evenly over held-out text.
EvalMetrics evaluate_some(model::Transformer& transformer, const TokenSplit& held_out, Index sequence, Index batch,
                          Index max_windows);
// Over all of it, in windows that end where their domain ends; fills in `domains`. Both throw kInternal where the text
// (evaluate_all: every domain) has less than two tokens, and take `batch` windows a forward pass.
EvalMetrics evaluate_all(model::Transformer& transformer, const TokenSplit& held_out, Index sequence, Index batch,
                         const HeldOutReading& reading);

}  // namespace switchyard::train
