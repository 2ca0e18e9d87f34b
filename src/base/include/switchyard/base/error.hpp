#pragma once
// The one exception type of the project.

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace switchyard {

enum class ErrorKind {
  kUsage,        // a wrong command line: unknown flag, malformed --set. The program exits with 2.
  kBadInput,     // a file, config, text or request that is wrong. All kinds below exit with 1.
  kNotFound,     // something named does not exist
  kUnsupported,  // valid, but not something this build can do
  kResource,     // memory, disk or permission ran out
  kInternal,     // a broken promise inside the program: a bug
};

// The message names the file, the key or tensor, what was found and what was expected; it is shown to the user as
// it stands, so it starts lower-case and has no final full stop.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

// Throws kInternal when a promise between two parts of the program is broken. Not for user input.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw Error(ErrorKind::kInternal, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace switchyard
