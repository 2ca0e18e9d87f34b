#include "child_process.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include "switchyard/base/error.hpp"

namespace switchyard::train {
namespace {

// A file descriptor that no other child inherits.
class Descriptor {
 public:
  Descriptor(const std::filesystem::path& path, int flags) : value_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (value_ < 0) fail(ErrorKind::kResource, "{}: cannot open: {}", path.string(), std::strerror(errno));
  }
  ~Descriptor() { ::close(value_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int value() const { return value_; }

 private:
  int value_;
};

ChildExit exit_of(int status) {
  ChildExit exit;
  if (WIFSIGNALED(status)) {
    exit.signal = WTERMSIG(status);
  } else {
    exit.code = WEXITSTATUS(status);
  }
  return exit;
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& command, const std::filesystem::path& output,
                           const std::filesystem::path& errors) {
  require(!command.empty(), "an empty command");
  const Descriptor in("/dev/null", O_RDONLY);
  const Descriptor out(output, O_WRONLY | O_CREAT | O_TRUNC), err(errors, O_WRONLY | O_CREAT | O_TRUNC);
  std::vector<std::string> words = command;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) fail(ErrorKind::kResource, "cannot start another process: {}", std::strerror(errno));
  if (pid_ > 0) return;
  // In the child, up to exec: only calls that are safe between fork and exec.
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(127);  // we died before that
  ::dup2(in.value(), STDIN_FILENO);
  ::dup2(out.value(), STDOUT_FILENO);
  ::dup2(err.value(), STDERR_FILENO);
  ::execv(arguments.front(), arguments.data());
  const char* reason = std::strerror(errno);
  constexpr std::string_view kText = "cannot be started: ";
  if (::write(STDERR_FILENO, kText.data(), kText.size()) < 0 ||
      ::write(STDERR_FILENO, reason, std::strlen(reason)) < 0) {
    ::_exit(126);
  }
  ::_exit(127);
}

ChildProcess::~ChildProcess() {
  if (exit_) return;
  ::kill(pid_, SIGTERM);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
}

std::optional<ChildExit> ChildProcess::poll() {
  if (exit_) return exit_;
  int status = 0;
  const pid_t found = ::waitpid(pid_, &status, WNOHANG);
  if (found == pid_) exit_ = exit_of(status);
  if (found < 0 && errno != EINTR) exit_ = ChildExit{0, SIGKILL};  // someone else waited for it: how it ended is lost
  return exit_;
}

void ChildProcess::interrupt() {
  if (!exit_) ::kill(pid_, SIGINT);
}

}  // namespace switchyard::train
