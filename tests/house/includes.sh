#!/usr/bin/env bash
# An include against the arrows does not build: for every pair of folders a file that includes a header of the second
# is preprocessed with the include roots of the first.
# usage: includes.sh SOURCE_DIR INCLUDE_LISTS_DIR COMPILER
set -euo pipefail
# shellcheck source=tests/house/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source_dir=$1
lists=$2
compiler=$3
offences=0
checked=0

declare -A direct
folders=()
while IFS=: read -r folder targets; do
  [[ -n $folder && $folder != \#* ]] || continue
  direct[$folder]=$targets
  folders+=("$folder")
done <"$(dirname "${BASH_SOURCE[0]}")/arrows.txt"

for path in "$source_dir"/src/*/; do
  folder=$(basename "$path")
  [[ -v direct[$folder] ]] || { echo "src/$folder has no line in tests/house/arrows.txt"; exit 1; }
done

# reachable FOLDER: it and everything that it may include, one a line.
reachable() {
  local target
  echo "$1"
  for target in ${direct[$1]}; do
    reachable "$target"
  done
}

# compiles FOLDER HEADER: 0 when a file of FOLDER may include HEADER. The message lands in $message.
compiles() {
  local -a roots
  mapfile -t roots <"$lists/$1"
  message=$(printf '#include "%s"\n' "$2" |
    "$compiler" -std=c++20 -E -o /dev/null "${roots[@]}" -x c++ - 2>&1)
}

for from in "${folders[@]}"; do
  [[ -f $lists/$from ]] || continue
  allowed=" $(reachable "$from" | tr '\n' ' ')"
  for to in "${folders[@]}"; do
    root="$source_dir/src/$to/include"
    [[ -d $root ]] || continue
    # The smallest header: which one does not matter.
    header=$(find "$root" -name '*.hpp' -printf '%s %P\n' | sort -n | awk 'NR == 1 { print $2 }')
    [[ -n $header ]] || continue
    checked=$((checked + 1))
    if [[ $allowed == *" $to "* ]]; then
      compiles "$from" "$header" || { echo "$from cannot include $header, though it may: $message"; offences=1; }
    elif compiles "$from" "$header"; then
      echo "$from can include $header, which no arrow allows"
      offences=1
    elif [[ $message != *"error: $header: No such file"* && $message != *"error: '$header' file not found"* ]]; then
      echo "$from finds $header, which no arrow allows; it only fails later: $message"
      offences=1
    fi
  done
done
((checked > 0)) || { echo "nothing to check"; exit 1; }
echo "$checked pairs of folders"
exit "$offences"
