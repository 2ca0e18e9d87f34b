#!/usr/bin/env bash
# Runs the unit tests under the sanitizers. See --help.
set -euo pipefail
# shellcheck source=tools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
usage: tools/sanitize.sh [asan-ubsan | tsan] [options of ./run-tests]

Builds that preset (without a name: one after the other) and runs the unit tests in it. asan-ubsan finds memory errors,
leaks and undefined behaviour; tsan finds data races (known false alarms of oneTBB are in tests/tsan.supp).
END
}

presets=(asan-ubsan tsan)
case ${1:-} in
  asan-ubsan | tsan) presets=("$1"); shift ;;
  -h | --help) usage; exit 0 ;;
esac
status=0
for preset in "${presets[@]}"; do
  say "#### $preset"
  ./run-tests --preset "$preset" --label unit "$@" || status=$?
done
exit "$status"
