#!/usr/bin/env bash
# Runs clang-tidy with the settings of .clang-tidy. See --help.
set -euo pipefail
# shellcheck source=tools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
usage: tools/tidy.sh [FILE.cpp...]

Configures the dev preset for its compile_commands.json and runs clang-tidy-14 over the given sources (default: every
.cpp under src), as many at once as there are cores. Exits with 1 where there is a finding.
END
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  -*) die "unknown option $1 (see tools/tidy.sh --help)" ;;
esac
command -v clang-tidy-14 >/dev/null || die "needs clang-tidy-14 (apt-get install clang-tidy-14)"

files=()
for file in "$@"; do
  [[ $file == /* ]] || file=$called_from/$file
  [[ -f $file ]] || die "no such file: $file"
  files+=("$(realpath "$file")")
done
if ((${#files[@]} == 0)); then
  mapfile -t files < <(find "$root/src" -name '*.cpp' | sort)
fi

phase "Configure build/dev"
configure dev ON
phase "clang-tidy on ${#files[@]} files"
printf '%s\0' "${files[@]}" |
  xargs -0 -n 1 -P "$(cores)" clang-tidy-14 -p build/dev --quiet --warnings-as-errors='*'
end_phase
