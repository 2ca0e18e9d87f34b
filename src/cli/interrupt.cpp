#include "interrupt.hpp"

#include <csignal>

namespace switchyard::cli {
namespace {

// The only state that the handler may touch.
std::atomic<bool> g_stop{false};
std::atomic<int> g_signal{0};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void on_interrupt(int signal) {
  g_signal.store(signal);
  g_stop.store(true);
  std::signal(signal, SIG_DFL);
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
}

const std::atomic<bool>& interrupted() { return g_stop; }
int interrupting_signal() { return g_signal.load(); }

}  // namespace switchyard::cli
