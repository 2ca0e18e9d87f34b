#pragma once
// Reads what a user types: from a terminal with editing, history and paste, or from a pipe.

#include <memory>
#include <optional>
#include <string>

namespace switchyard::cli {

class LineReader {
 public:
  enum class Status { kLine, kInterrupted, kEnd };
  virtual ~LineReader() = default;
  // A line without its newline; from a terminal also several, where they were pasted.
  virtual Status read(const std::string& prompt, std::string& line) = 0;
  // For the arrow keys. Nothing in a pipe.
  virtual void remember(const std::string& entry) = 0;
  virtual bool interactive() const = 0;
};

// By libedit where standard input and output are a terminal, else plain. Sets the locale of characters (LC_CTYPE).
std::unique_ptr<LineReader> make_line_reader();

}  // namespace switchyard::cli
