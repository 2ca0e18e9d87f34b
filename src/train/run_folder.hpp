#pragma once
// The files of a run: recipe, checkpoints, metrics.

#include <filesystem>
#include <fstream>
#include <string>

#include "switchyard/train/monitor.hpp"
#include "switchyard/train/optimizer.hpp"
#include "switchyard/train/revival.hpp"
#include "switchyard/train/trainer.hpp"

namespace switchyard::train {

class RunFolder {
 public:
  // Makes the folder, or checks that the run in it may be continued with this recipe. Throws as train().
  RunFolder(const std::filesystem::path& path, const Recipe& recipe, bool resume);
  // Whether the folder held a run already.
  bool continues() const { return continues_; }
  // From here on the folder holds a run: writes the recipe. A start that fails earlier leaves the folder free.
  void begin() const;

  std::filesystem::path tokens() const { return path_ / "tokens"; }
  // The last whole checkpoint; empty where there is none.
  std::filesystem::path last_checkpoint() const;

  // What a checkpoint holds besides parameters and moments.
  struct State {
    Index step = 0;
    DeadSteps dead_steps;
    MonitorStates monitor;
  };
  // Saves step-NNNNNNNN, whole or not at all, and removes all but the newest `keep`.
  std::filesystem::path save(const State& state, const model::Transformer& transformer, AdamW& optimizer,
                             const text::Tokenizer& tokenizer) const;
  // Fills parameters and moments from a checkpoint. Throws kBadInput where it does not fit.
  State load(const std::filesystem::path& checkpoint, model::Transformer& transformer, AdamW& optimizer) const;

 private:
  std::filesystem::path path_;
  Index keep_;
  bool continues_ = false;
  std::string recipe_;
};

// metrics.jsonl. Lines are flushed as they are written, so that a killed run loses none but the last.
class MetricsLog {
 public:
  // Opens for appending after dropping every line that is not whole or belongs to a later step than `step`.
  MetricsLog(const std::filesystem::path& run, Index step);
  void write(const StepMetrics& metrics, bool with_load);
  void write(const EvalMetrics& metrics);
  void warning(Index step, std::string_view text);

 private:
  void append(const std::string& line);
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace switchyard::train
