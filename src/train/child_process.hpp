#pragma once
// Another program, run beside this one.

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace switchyard::train {

struct ChildExit {
  int code = 0;    // where it ended by itself; 127: could not be started
  int signal = 0;  // that ended it; 0 = none
};

// Its standard input is empty, its output goes to files. It stands in a process group of its own, so that Ctrl-C on the
// terminal reaches only us and each child hears of it once; should we die, the system sends it SIGTERM. To be used on
// one thread, which must outlive it.
class ChildProcess {
 public:
  // Throws kResource where no process can be made or a file cannot be written.
  ChildProcess(const std::vector<std::string>& command, const std::filesystem::path& output,
               const std::filesystem::path& errors);
  // Ends a child that still runs (SIGTERM) and waits for it.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // How it ended, or none while it runs. Does not wait.
  std::optional<ChildExit> poll();
  void interrupt();  // SIGINT

 private:
  pid_t pid_ = -1;
  std::optional<ChildExit> exit_;
};

}  // namespace switchyard::train
