#!/usr/bin/env bash
# Fuzzes every parser of untrusted input. See --help.
set -euo pipefail
# shellcheck source=tools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
usage: tools/fuzz.sh [SECONDS [TARGET...]]

Builds the fuzz preset (clang 14, address and undefined-behaviour sanitizers) and runs each target of tests/fuzz, or the
named ones, for SECONDS (default 60), one after the other. What a target learnt is kept in build/fuzz/corpus/TARGET and
used again by the next run. An input that breaks a promise is kept in build/fuzz/findings; the exit status is then 1.
END
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
esac
seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "found \"$seconds\", expected a number of seconds (see tools/fuzz.sh --help)"
targets=("${@:2}")
if ((${#targets[@]} == 0)); then
  mapfile -t targets < <(sed -n 's/^fuzz_target(\([a-z_0-9]*\) .*/\1/p' tests/fuzz/CMakeLists.txt)
fi
command -v clang++-14 >/dev/null || die "needs clang++-14 (apt-get install clang-14 libclang-rt-14-dev)"

phase "Configure and build build/fuzz"
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target fuzz --parallel "$(build_jobs)"
bin=build/fuzz/tests/fuzz
seeds=build/fuzz/seeds
findings=build/fuzz/findings
"$bin/make_seeds" "$seeds"
mkdir -p "$seeds/model_config"
while IFS= read -r config; do
  cp "$config" "$seeds/model_config/${config//\//-}"
done < <(find tests/golden -name config.json)
mkdir -p "$findings"

failed=()
for target in "${targets[@]}"; do
  [[ -x $bin/fuzz_$target ]] || die "no fuzz target \"$target\""
  phase "fuzz_$target for $seconds s"
  corpus=build/fuzz/corpus/$target
  mkdir -p "$corpus"
  folders=("$corpus" "$seeds/$target")
  [[ -d tests/golden/$target ]] && folders+=("tests/golden/$target")
  dictionary=()
  case $target in
    gguf | npy) dictionary=(-dict="tests/fuzz/$target.dict") ;;
    sentencepiece | tiktoken) ;;
    *) dictionary=(-dict=tests/fuzz/json.dict) ;;
  esac
  log=build/fuzz/$target.log
  if ! "$bin/fuzz_$target" "${dictionary[@]}" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=2048 \
    -artifact_prefix="$findings/$target-" "${folders[@]}" >"$log" 2>&1; then
    failed+=("$target")
    tail -n 40 "$log"
  else
    grep -E '^Done ' "$log" || tail -n 1 "$log"
  fi
done
end_phase
((${#failed[@]} == 0)) || die "findings in ${failed[*]}: see $findings and build/fuzz/*.log"
