#pragma once
// A progress line for work of more than two seconds. Draws on standard error, and only where that is a terminal.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

class ProgressLine {
 public:
  // Shows nothing until two seconds have passed. total = 0 where it is not known.
  explicit ProgressLine(std::string label, std::uint64_t total = 0);
  ~ProgressLine();  // clears the line
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Redraws at most ten times a second. `note` follows the bar, such as "3.2 MB/s".
  void update(std::uint64_t done, std::string_view note = {});
  // Replaces the whole line with a text of the caller's.
  void show(std::string_view text);
  void clear();

 private:
  std::string label_;
  std::uint64_t total_;
  std::chrono::steady_clock::time_point start_, last_{};
  bool terminal_;
  bool drawn_ = false;
};

// "4 s", "2 min 05 s", "1 h 02 min"; "?" where not finite.
std::string format_duration(double seconds);
// "512 B", "3.4 MiB".
std::string format_bytes(std::uint64_t bytes);
// "950", "12.3 k", "4.56 M", "1.20 B".
std::string format_count(double count);
// The width of the terminal on standard error, 80 where there is none.
int terminal_width();

}  // namespace switchyard
