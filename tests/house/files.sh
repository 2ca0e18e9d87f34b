#!/usr/bin/env bash
# Size and content of the project's files. usage: files.sh SOURCE_DIR
set -euo pipefail
# shellcheck source=tests/house/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$1"
offences=0
offence() {
  printf '%s\n' "$*"
  offences=$((offences + 1))
}

mapfile -d '' -t files < <(project_files .)
((${#files[@]} > 0)) || { echo "no file found below $1"; exit 1; }

# Nothing large: 2 MB a file, 20 MB of fixtures.
largest=$((2 * 1024 * 1024))
fixtures=0
for file in "${files[@]}"; do
  size=$(stat -c %s -- "$file")
  ((size <= largest)) || offence "$file: $size bytes; the limit is $largest"
  case $file in
    tests/golden/* | tests/*/golden/* | tests/*/fixtures/*) fixtures=$((fixtures + size)) ;;
  esac
done
((fixtures <= 20 * 1024 * 1024)) || offence "fixtures: $fixtures bytes; the limit is 20 MB"

# Files that one can still read: 600 lines is the soft limit, 800 the hard one.
for file in "${files[@]}"; do
  case $file in
    src/*.cpp | src/*.hpp | src/*.h) ;;
    *) continue ;;
  esac
  lines=$(wc -l <"$file")
  if ((lines > 800)); then
    offence "$file: $lines lines; split it (limit 800)"
  elif ((lines > 600)); then
    echo "note: $file has $lines lines (soft limit 600)"
  fi
done

# search WHAT REGEX GLOB...: an offence for every line that matches in the files that match a glob.
search() {
  local what=$1 regex=$2 file glob line
  shift 2
  local -a chosen=()
  for file in "${files[@]}"; do
    for glob in "$@"; do
      # shellcheck disable=SC2053  # a pattern on purpose
      if [[ $file == $glob ]]; then
        chosen+=("$file")
        break
      fi
    done
  done
  ((${#chosen[@]} > 0)) || return 0
  while IFS= read -r line; do
    offence "$what: $line"
  done < <(grep -HnIE -- "$regex" "${chosen[@]}" || true)
}

search "unfinished" '\b(TODO|FIXME|XXX|HACK)\b' 'src/*' 'tests/*.[ch]pp' 'examples/*' 'bench/*' 'recipes/*'
search "a path of somebody's machine" '/(work|home|Users)/[A-Za-z]' \
  'src/*' 'tests/*.[ch]pp' 'tests/*.py' 'examples/*' 'bench/*' 'recipes/*' 'docs/*' '*.md' 'tools/*.py' 'CMake*' 'cmake/*'
search "an include that leaves its root" '#[[:space:]]*include[[:space:]]*["<][^">]*\.\./' 'src/*'
# Only the program prints and exits, and behaviour has no environment switches. The progress line of base is the one
# thing below cli that draws on the terminal.
mapfile -d '' -t files < <(printf '%s\0' "${files[@]}" | grep -zvE '^src/(cli/|base/progress\.cpp$)')
search "a library that prints, exits or reads the environment" \
  '\bstd::(cout|cerr|clog|exit|abort|_Exit|quick_exit|getenv)\b|\b(getenv|printf|puts|perror) *\(|fmt::print *\( *(stdout|stderr|")' \
  'src/*'

((offences == 0)) || { echo "$offences offences"; exit 1; }
echo "${#files[@]} files"
