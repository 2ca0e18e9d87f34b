// Running a lab: which (run, seed) is done, which goes on, and the processes that do it.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <limits>
#include <memory>
#include <sstream>
#include <thread>

#include "child_process.hpp"
#include "lab_result.hpp"
#include "switchyard/base/atomic_file.hpp"
#include "switchyard/base/error.hpp"
#include "switchyard/train/data.hpp"

namespace switchyard::train {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto kPoll = std::chrono::milliseconds(50);
constexpr auto kReport = std::chrono::milliseconds(500);
constexpr const char* kRecipeFile = "recipe.toml";

// Held while a lab works in a folder; the system lets go of it when the process ends, however it ends. Its runs inherit
// it: where a lab was killed, the next waits until the runs that it left have saved and stopped.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder) {
    const fs::path file = folder / "lab.lock";
    descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT, 0666);
    if (descriptor_ < 0) fail(ErrorKind::kResource, "{}: cannot write: {}", file.string(), std::strerror(errno));
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      ::close(descriptor_);
      fail(ErrorKind::kResource, "{}: another lab, or a run that one left behind, is still working in this folder",
           folder.string());
    }
  }
  ~FolderLock() { ::close(descriptor_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(ErrorKind::kResource, "{}: cannot make this folder: {}", folder.string(), error.message());
}

// One (run, seed).
struct Job {
  const LabRun* run;
  std::uint64_t seed;
  fs::path folder;
  RunResult result;
  std::unique_ptr<ChildProcess> child;
  Index first_step = 0;  // it stood at when it was started this time
};

Recipe seeded(const LabRun& run, std::uint64_t seed) {
  Recipe recipe = run.recipe;
  recipe.train.seed = seed;
  return recipe;
}

// Throws where the folder holds a run of another recipe.
void check_same(const fs::path& file, const std::string& wanted) {
  // Read and written again: a recipe of an older version lacks newer keys and still means the same.
  std::istringstream before(to_toml(load_recipe(file))), now(wanted);
  std::string table, a, b;
  while (true) {
    const bool more_a = static_cast<bool>(std::getline(before, a)), more_b = static_cast<bool>(std::getline(now, b));
    if (!more_a && !more_b) return;
    if (!more_a || !more_b || a != b) {
      fail(ErrorKind::kBadInput,
           "{}: this run was made with \"{}\" in {}, the lab now has \"{}\"; choose another --out, or delete the run's "
           "folder to make it again",
           file.string(), more_a ? a : "nothing more", table.empty() ? "the recipe" : table,
           more_b ? b : "nothing more");
    }
    if (a.starts_with("[")) table = a;
  }
}

// The text that a failed run left, without the program's name and on one line.
std::string last_words(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::string line, text;
  while (std::getline(stream, line)) {
    if (!line.starts_with("warning:") && !line.empty()) text = line;
  }
  constexpr std::string_view kName = "switchyard: ";
  if (text.starts_with(kName)) text.erase(0, kName.size());
  return text;
}

// Steps that a run has done, by the last whole line of its metrics.
Index steps_done(const fs::path& folder) {
  constexpr std::streamoff kTail = 1 << 16;
  std::ifstream file(folder / "metrics.jsonl", std::ios::binary | std::ios::ate);
  if (!file) return 0;
  const std::streamoff size = file.tellg();
  std::string tail(static_cast<std::size_t>(std::min(size, kTail)), '\0');
  file.seekg(size - static_cast<std::streamoff>(tail.size()));
  file.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  constexpr std::string_view kStep = R"({"kind":"step","step":)";
  const std::size_t at = tail.rfind(kStep);
  if (at == std::string::npos) return 0;
  return std::strtoll(tail.c_str() + at + kStep.size(), nullptr, 10);
}

class LabWork {
 public:
  LabWork(const Lab& lab, const LabOptions& options, LabListener& listener)
      : lab_(lab), options_(options), listener_(listener) {
    for (Index seed = 1; seed <= lab.seeds; ++seed) {
      for (const LabRun& run : lab.runs) {
        Job job{&run,
                static_cast<std::uint64_t>(seed),
                options.out / "runs" / run.name / fmt::format("seed-{}", seed),
                {},
                nullptr,
                0};
        job.result.run = run.name;
        job.result.seed = job.seed;
        jobs_.push_back(std::move(job));
      }
    }
  }

  std::vector<RunResult> go() {
    prepare_tokens();
    for (Job& job : jobs_) {
      prepare(job);
      if (fs::exists(job.folder / kResultFile)) {
        job.result = load_result(job.folder / kResultFile);
        ++done_;
      }
    }
    listener_.on_plan(static_cast<Index>(jobs_.size()), done_);
    start_ = Clock::now();
    work();
    std::vector<RunResult> results;
    for (Job& job : jobs_) results.push_back(std::move(job.result));
    return results;
  }

 private:
  bool stopping() const { return options_.stop != nullptr && options_.stop->load(); }

  // All runs read the same tokens: they are made once, and each run's folder points there.
  void prepare_tokens() {
    const DataConfig& config = lab_.runs.front().recipe.data;
    const fs::path folder = options_.out / "tokens";
    if (TokenData::exists(folder)) {
      const TokenData stored = TokenData::open(folder);
      if (stored.source() != data_source(config)) {
        fail(ErrorKind::kBadInput,
             "{}: was made from other text or settings than [data] now gives; choose another --out", folder.string());
      }
      vocab_ = stored.tokenizer().vocab_size();
      return;
    }
    const TokenData made = TokenData::prepare(
        config, folder, [&](std::uint64_t done, std::uint64_t total) { listener_.on_tokenize(done, total); });
    vocab_ = made.tokenizer().vocab_size();
  }

  // Leaves the folder as one that `train --resume` starts or goes on in.
  void prepare(const Job& job) const {
    const std::string recipe = to_toml(seeded(*job.run, job.seed));
    const fs::path file = job.folder / kRecipeFile;
    if (fs::exists(file)) {
      check_same(file, recipe);
    } else {
      make_folder(job.folder);
    }
    std::error_code error;
    if (!fs::is_symlink(job.folder / "tokens")) {
      fs::create_directory_symlink("../../../tokens", job.folder / "tokens", error);
      if (error) {
        fail(ErrorKind::kResource, "{}: cannot make this link: {}", (job.folder / "tokens").string(), error.message());
      }
    }
    if (!fs::exists(file)) write_file_atomically(file, recipe);
  }

  void start(Job& job) {
    const std::string folder = job.folder.string();
    // What was said by an earlier try must not be taken for this one's.
    std::error_code ignored;
    fs::remove(job.folder / kSummaryFile, ignored);
    job.first_step = steps_done(job.folder);
    job.child = std::make_unique<ChildProcess>(
        std::vector<std::string>{options_.program.string(), "train", folder + "/" + kRecipeFile, "--out", folder,
                                 "--resume", "--json", "-t", "1"},
        job.folder / kSummaryFile, job.folder / kErrorsFile);
  }

  void finish(Job& job, ChildExit exit) {
    RunResult& result = job.result;
    const auto failed = [&](std::string message) {
      result.state = RunState::kFailed;
      result.message = std::move(message);
    };
    const bool by_signal = exit.signal != 0 || exit.code == 128 + SIGINT || exit.code == 128 + SIGTERM;
    const std::string words = last_words(job.folder / kErrorsFile);
    if (by_signal && stopping()) return;  // unfinished, as was wanted
    if (exit.signal != 0) {
      failed(fmt::format("ended by signal {} ({}){}", exit.signal, ::strsignal(exit.signal),
                         exit.signal == SIGKILL ? "; the system does so where memory runs out" : ""));
    } else if (by_signal) {
      failed("stopped by a signal from outside, saved");
    } else if (exit.code != 0 && words.find("is not finite") != std::string::npos) {
      // The same recipe and seed would end the same way: a result, not an accident.
      result = diverged_run(*job.run, job.seed, words);
      save_result(result, job.folder / kResultFile);
    } else if (exit.code != 0) {
      failed(words.empty() ? fmt::format("ended with exit code {} and no message", exit.code) : words);
    } else {
      try {
        result = measure_run(*job.run, job.seed, job.folder, vocab_);
        save_result(result, job.folder / kResultFile);
        if (!lab_.keep_models) fs::remove_all(job.folder / "checkpoints");
      } catch (const Error& error) {
        failed(error.what());
      }
    }
    ++done_;
    listener_.on_run(result);
  }

  void work() {
    std::vector<Job*> waiting;
    for (Job& job : jobs_) {
      if (job.result.state == RunState::kUnfinished) waiting.push_back(&job);
    }
    std::vector<Job*> running;
    auto next = waiting.begin();
    bool told = false;
    auto reported = Clock::now() - kReport;
    while (!running.empty() || (next != waiting.end() && !stopping())) {
      while (!stopping() && next != waiting.end() &&
             static_cast<Index>(running.size()) < std::max<Index>(1, options_.jobs)) {
        start(**next);
        running.push_back(*next++);
      }
      if (stopping() && !told) {
        for (Job* job : running) job->child->interrupt();
        told = true;
      }
      std::erase_if(running, [&](Job* job) {
        const auto exit = job->child->poll();
        if (exit) finish(*job, *exit);
        return exit.has_value();
      });
      if (Clock::now() - reported >= kReport) {
        report(running);
        reported = Clock::now();
      }
      if (!running.empty()) std::this_thread::sleep_for(kPoll);
    }
  }

  void report(const std::vector<Job*>& running) {
    std::vector<std::string> names;
    names.reserve(running.size());
    for (const Job* job : running) names.push_back(fmt::format("{}/{}", job->run->name, job->seed));
    // By steps: those done since the start, and those to do.
    double worked = 0.0, left = 0.0;
    for (const Job& job : jobs_) {
      const auto all = static_cast<double>(job.run->recipe.train.steps);
      const bool ended = job.result.state != RunState::kUnfinished;
      if (!job.child) {
        left += ended ? 0.0 : all;
        continue;
      }
      const double now = ended ? all : static_cast<double>(steps_done(job.folder));
      worked += std::max(0.0, now - static_cast<double>(job.first_step));
      left += all - now;
    }
    const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
    const double seconds = worked > 0.0 ? left * elapsed / worked : std::numeric_limits<double>::quiet_NaN();
    listener_.on_progress(static_cast<Index>(jobs_.size()), done_, seconds, names);
  }

  const Lab& lab_;
  const LabOptions& options_;
  LabListener& listener_;
  std::vector<Job> jobs_;
  Index vocab_ = 0, done_ = 0;
  Clock::time_point start_;
};

}  // namespace

std::vector<RunResult> run_lab(const Lab& lab, const LabOptions& options, LabListener& listener) {
  make_folder(options.out / "runs");
  const FolderLock lock(options.out);
  return LabWork(lab, options, listener).go();
}

}  // namespace switchyard::train
