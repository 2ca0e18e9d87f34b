#pragma once
// The lab: a matrix of recipes trained on the same tokens with the same seeds and budget, and claims about them that
// are checked against what came out. docs/lab.md describes the file and the folder that results.

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "switchyard/train/recipe.hpp"

namespace switchyard::train {

// A figure that a run ends with and a claim may be about.
struct LabMetric {
  const char* name;
  const char* unit;
  const char* meaning;
  bool count;         // a whole number that one seed can tell, such as dead experts
  bool needs_router;  // a dense model has none
};
std::span<const LabMetric> lab_metrics();
// Null where there is none of this name.
const LabMetric* find_lab_metric(std::string_view name);

struct LabRun {
  std::string name;   // also its folder: letters, digits and . _ + -
  std::string about;  // one line
  Recipe recipe;      // complete; train.seed is set by each seed's run
};

enum class Relation { kLower, kHigher, kEqual, kNotHigher };

// "metric of runs[0] is lower (higher) than of runs[1], which is lower than of runs[2], ..."; or each is equal to the
// next, or not higher than it, within a margin.
struct LabClaim {
  std::string text;       // what is claimed
  std::string source;     // by whom
  std::string published;  // their figures, as text
  std::string metric;
  std::vector<std::string> runs;
  Relation relation = Relation::kLower;
  double within = 0.0;  // kEqual, kNotHigher: the margin, in the metric's unit
};

struct Lab {
  std::string title;
  std::string source;  // the lab file, or the recipes' names
  bool quick = false;
  bool keep_models = true;
  Index seeds = 3;  // 1 ... seeds
  std::vector<LabRun> runs;
  std::vector<LabClaim> claims;
};

struct LabRequest {
  std::vector<std::filesystem::path> files;  // recipes, or one lab file (with a [lab] table)
  std::vector<std::string> set;              // changes to every run, as --set of `train`
  Index seeds = 0;                           // 0: what the lab file says
  bool quick = false;                        // with the changes of the lab file's [quick]
};

// Reads and checks everything, every recipe included. Throws kNotFound; kBadInput with file, line and key; kUsage for a
// request that makes no sense, or where a change of `set` does not fit.
Lab load_lab(const LabRequest& request);

enum class RunState {
  kFinished,
  kDiverged,    // a loss or gradient was not finite: a result too
  kFailed,      // anything else that ended it; tried again the next time
  kUnfinished,  // not yet, or stopped
};

struct CurvePoint {
  double tokens = 0.0, seconds = 0.0, value = 0.0;
};

// What one recipe came to with one seed.
struct RunResult {
  std::string run;
  std::uint64_t seed = 0;
  RunState state = RunState::kUnfinished;
  std::string message;                    // why it diverged or failed
  std::map<std::string, double> figures;  // by name of the metric; those that do not apply are missing
  std::map<std::string, double> domains;  // held-out bits per byte of each
  std::vector<CurvePoint> loss;           // training, bits per byte, mean of neighbouring steps
  std::vector<CurvePoint> held_out;       // bits per byte
  std::vector<CurvePoint> violation;      // MaxVio of the steps, mean of the layers
};

// Hears of a lab's progress, on the calling thread.
class LabListener {
 public:
  virtual ~LabListener() = default;
  virtual void on_tokenize(std::uint64_t done, std::uint64_t total) {
    static_cast<void>(done), static_cast<void>(total);
  }
  // Once, before the first run: how many there are and how many of them are done already.
  virtual void on_plan(Index runs, Index done) { static_cast<void>(runs), static_cast<void>(done); }
  virtual void on_run(const RunResult& result) { static_cast<void>(result); }  // one ended
  // A few times a second. `seconds_left` is NaN while nothing is known.
  virtual void on_progress(Index runs, Index done, double seconds_left, std::span<const std::string> running) {
    static_cast<void>(runs), static_cast<void>(done), static_cast<void>(seconds_left), static_cast<void>(running);
  }
};

struct LabOptions {
  std::filesystem::path out;
  std::filesystem::path program;            // this program, whose `train` runs a recipe
  Index jobs = 1;                           // runs at a time, each with one thread
  const std::atomic<bool>* stop = nullptr;  // set by a signal handler: let the runs save, and return
};

// Does what is not done yet of every (run, seed), each in a process of its own in OUT/runs/NAME/seed-S, and returns the
// results of all: those of seed 1 first. Throws kBadInput where OUT holds runs of other recipes or text, kResource
// where it cannot be written or another lab works in it. A run that fails throws nothing: its result says so.
std::vector<RunResult> run_lab(const Lab& lab, const LabOptions& options, LabListener& listener);

// --- Statistics ---

struct Spread {
  Index count = 0;
  double mean = 0.0;
  double deviation = 0.0;  // sample standard deviation; 0 of one value
};
Spread spread_of(std::span<const double> values);

enum class Verdict { kAgrees, kDisagrees, kTooSmall, kNoResult };
const char* to_string(Verdict verdict);

// Two runs of a claim, neighbours in its chain.
struct Comparison {
  Spread first, second;
  double difference = 0.0;  // mean of first - mean of second
  std::optional<double>
      error;  // standard error of the difference (Welch 1947: sqrt(s1^2/n1 + s2^2/n2)); none with 1 seed
  Verdict verdict = Verdict::kNoResult;
  std::string reason;  // where figures alone do not explain it
};

// The rule (lab_rule() says it in words). kNoResult where either has no value.
Comparison compare(Relation relation, double within, bool count, std::span<const double> first,
                   std::span<const double> second);
std::string lab_rule(Index seeds, Index comparisons);
// How often two equal runs of `seeds` seeds each differ by more than twice the standard error, by chance: the two-sided
// tail of Student's t with 2 seeds - 2 degrees of freedom. seeds >= 2.
double chance_of_false_verdict(Index seeds);

struct ClaimResult {
  Verdict verdict = Verdict::kNoResult;  // kAgrees where all comparisons agree, kDisagrees where one disagrees
  std::vector<Comparison> comparisons;   // one fewer than the claim has runs
};
ClaimResult judge(const LabClaim& claim, std::span<const RunResult> results);

// Everything that a report shows, as JSON (docs/lab.md). observe/lab_report.hpp makes pages of it.
std::string lab_report(const Lab& lab, const LabOptions& options, std::span<const RunResult> results);

}  // namespace switchyard::train
