#include "switchyard/base/progress.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace switchyard {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kQuiet = std::chrono::seconds(2);
constexpr auto kRedraw = std::chrono::milliseconds(100);

}  // namespace

ProgressLine::ProgressLine(std::string label, std::uint64_t total)
    : label_(std::move(label)), total_(total), start_(Clock::now()), terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::update(std::uint64_t done, std::string_view note) {
  if (!terminal_) return;
  const auto now = Clock::now();
  if (now - start_ < kQuiet || now - last_ < kRedraw) return;
  if (total_ == 0) {
    show(fmt::format("{} {} {}", label_, format_count(static_cast<double>(done)), note));
    return;
  }
  const double share = std::min(1.0, static_cast<double>(done) / static_cast<double>(total_));
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  constexpr int kWidth = 24;
  const int filled = static_cast<int>(share * kWidth);
  const std::string left = share > 0.0 ? format_duration(elapsed * (1.0 - share) / share) : "?";
  show(fmt::format("{} [{:#<{}}{:<{}}] {:3.0f}%  {} left  {}", label_, "", filled, "", kWidth - filled, share * 100.0,
                   left, note));
}

void ProgressLine::show(std::string_view text) {
  if (!terminal_) return;
  last_ = Clock::now();
  const auto width = static_cast<std::size_t>(std::max(1, terminal_width() - 1));
  fmt::print(stderr, "\r\x1b[K{}", text.substr(0, width));
  std::fflush(stderr);
  drawn_ = true;
}

void ProgressLine::clear() {
  if (!drawn_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  drawn_ = false;
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const auto total = static_cast<std::int64_t>(std::llround(std::max(0.0, seconds)));
  if (total < 60) return fmt::format("{} s", total);
  if (total < 3600) return fmt::format("{} min {:02} s", total / 60, total % 60);
  return fmt::format("{} h {:02} min", total / 3600, total % 3600 / 60);
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024.0;
  std::size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string format_count(double count) {
  constexpr std::array kUnits = {"k", "M", "B", "T"};
  // The limits are where rounding would print a thousand.
  if (count < 999.5) return fmt::format("{:.0f}", count);
  std::size_t unit = 0;
  count /= 1000.0;
  while (count >= 999.95 && unit + 1 < kUnits.size()) {
    count /= 1000.0;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", count, count < 10.0 ? 2 : 1, kUnits[unit]);
}

int terminal_width() {
  struct winsize size {};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace switchyard
