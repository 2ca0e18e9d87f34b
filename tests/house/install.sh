#!/usr/bin/env bash
# What `cmake --install` leaves is enough for a stranger's project: it finds the package, builds against it and runs.
# usage: install.sh SOURCE_DIR BUILD_DIR SCRATCH_DIR CMAKE COMPILER
set -euo pipefail
# shellcheck source=tests/house/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source_dir=$1
build_dir=$2
scratch=$3
cmake=$4
compiler=$5

rm -rf "$scratch"
mkdir -p "$scratch"
"$cmake" --install "$build_dir" --prefix "$scratch/prefix" >"$scratch/install.log"
"$cmake" -S "$source_dir/tests/house/consumer" -B "$scratch/consumer" -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$scratch/prefix" -DEXAMPLES_DIR="$source_dir/examples" \
  --log-level=WARNING
"$cmake" --build "$scratch/consumer"

# Nothing installed may point back into the source or build tree.
if grep -rlF -e "$source_dir" -e "$build_dir" "$scratch/prefix" --include='*.cmake' --include='*.hpp'; then
  echo "the installed files above name the source or build tree"
  exit 1
fi

for program in "$scratch"/consumer/consumer_*; do
  echo "running $(basename "$program")"
  "$program"
done
if [[ -x $build_dir/switchyard ]]; then
  "$scratch/prefix/bin/switchyard" --version
fi
