#!/usr/bin/env bash
# Shell scripts parse, and are free of shellcheck's warnings where that is installed. usage: scripts.sh SOURCE_DIR
set -euo pipefail
# shellcheck source=tests/house/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$1"
mapfile -d '' -t files < <(project_files . | grep -zE '(\.sh|^quickstart|^run-tests|^\.ci/run)$')
((${#files[@]} > 0)) || { echo "no script found below $1"; exit 1; }
for file in "${files[@]}"; do
  bash -n "$file"
done
for file in quickstart run-tests .ci/run; do
  [[ -x $file ]] || { echo "$file is not executable"; exit 1; }
done
for command in ./quickstart ./run-tests tools/fresh_machine.sh tools/sanitize.sh tools/tidy.sh; do
  "$command" --help | grep -q '^usage: ' || { echo "$command --help does not explain itself"; exit 1; }
  if "$command" --no-such-option >/dev/null 2>&1; then
    echo "$command accepts an option that it does not have"
    exit 1
  fi
done
if command -v shellcheck >/dev/null; then
  shellcheck -x "${files[@]}"
fi
echo "${#files[@]} scripts"
