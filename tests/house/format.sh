#!/usr/bin/env bash
# Every C++ file is as clang-format-14 and .clang-format would write it.
# usage: format.sh SOURCE_DIR
set -euo pipefail
# shellcheck source=tests/house/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$1"
if ! command -v clang-format-14 >/dev/null; then
  echo "skipped: clang-format-14 is not installed"
  exit 77
fi
mapfile -d '' -t files < <(project_files . | grep -zE '\.(cpp|hpp|h|cc)$')
((${#files[@]} > 0)) || { echo "no C++ file found below $1"; exit 1; }
# An ill-formatted line must be noticed, or the check proves nothing.
if printf 'int  x ;\n' | clang-format-14 --dry-run --Werror --assume-filename=src/x.cpp 2>/dev/null; then
  echo "clang-format-14 accepted a badly formatted line"
  exit 1
fi
printf '%s\0' "${files[@]}" | xargs -0 clang-format-14 --dry-run --Werror --ferror-limit=4 || {
  echo "run: clang-format-14 -i on the files above"
  exit 1
}
echo "${#files[@]} files"
