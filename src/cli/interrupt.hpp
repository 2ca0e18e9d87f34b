#pragma once
// Ctrl-C and SIGTERM as a request to save and stop, for commands whose work is worth saving.

#include <atomic>

namespace switchyard::cli {

// From now on the first such signal sets interrupted(); a second one ends the program at once.
void catch_interrupts();
const std::atomic<bool>& interrupted();
int interrupting_signal();  // 0 before one came

}  // namespace switchyard::cli
