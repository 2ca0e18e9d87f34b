# shellcheck shell=bash
# Shared by quickstart, run-tests and the scripts of tools/. Source it after `set -euo pipefail`; it changes to the
# root of the clone and leaves:
#   root, called_from        the clone, and the folder the user was in
#   say, warn, die           messages
#   phase NAME               starts a named phase and reports how long the one before took
#   install_packages S...    installs the packages of those sections of tools/packages.txt
#   configure PRESET TESTS   configures build/PRESET with the tests ON, OFF or KEEP (as they are; OFF the first time)
#   build PRESET [TARGET...] builds it

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
command_name=$(basename "$0")
# shellcheck disable=SC2034  # for the scripts that source this one
called_from=$PWD
phase_name=""
phase_start=0
cd "$root" || exit 1

say() { printf '%s\n' "$*"; }
warn() { printf '%s: warning: %s\n' "$command_name" "$*" >&2; }
die() {
  phase_name=""
  printf '%s: %s\n' "$command_name" "$*" >&2
  exit 1
}

took() {
  local seconds=$1
  if ((seconds >= 60)); then
    printf '%d min %02d s' $((seconds / 60)) $((seconds % 60))
  else
    printf '%d s' "$seconds"
  fi
}

end_phase() {
  if [[ -n $phase_name ]]; then
    say "-- $phase_name: $(took $((SECONDS - phase_start)))"
  fi
  phase_name=""
}

phase() {
  end_phase
  phase_name=$1
  phase_start=$SECONDS
  say "== $phase_name"
}

report_failure() {
  if (($1 != 0)) && [[ -n $phase_name ]]; then
    printf '%s: stopped with status %d in: %s\n' "$command_name" "$1" "$phase_name" >&2
  fi
}
trap 'report_failure $?' EXIT

# need_value OPTION COUNT: dies unless COUNT, the number of arguments from OPTION on, leaves room for a value.
need_value() {
  (($2 >= 2)) || die "$1 needs a value (see ./$command_name --help)"
}

# need_space DIR MEGABYTES WHAT
need_space() {
  local free
  free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }')
  if [[ $free =~ ^[0-9]+$ ]] && ((free < $2)); then
    die "$3 needs about $2 MB in $1, but only $free MB are free"
  fi
}

cores() { nproc 2>/dev/null || echo 1; }

# A compiler job takes up to 1 GB: fewer jobs than cores where memory is short.
build_jobs() {
  local jobs memory
  jobs=$(cores)
  memory=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo 2>/dev/null || true)
  if [[ $memory =~ ^[0-9]+$ ]]; then
    ((memory >= 1)) || memory=1
    ((jobs <= memory)) || jobs=$memory
  fi
  echo "$jobs"
}

# The packages of the named sections.
list_packages() {
  awk -v wanted=" $* " '
    /^[[:space:]]*(#|$)/ { next }
    /^\[/ { on = index(wanted, " " substr($0, 2, length($0) - 2) " "); next }
    on { print $1 }' "$root/tools/packages.txt"
}

# Those of the given packages that are not installed.
missing_packages() {
  local package status
  for package in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [[ $status == installed ]] || printf '%s\n' "$package"
  done
}

# Runs apt-get as root, never asking anything except, through sudo, for the user's password. What it prints goes to
# build/packages.log, and to the terminal where it fails.
apt_get() {
  local -a command=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@")
  if ((EUID != 0)); then
    command=(sudo "${command[@]}")
  fi
  mkdir -p "$root/build"
  if ! "${command[@]}" </dev/null >"$root/build/packages.log" 2>&1; then
    tail -n 25 "$root/build/packages.log" >&2
    return 1
  fi
}

check_can_install() {
  local packages=$1
  command -v apt-get >/dev/null || die "this is not a Debian system (no apt-get). Install what these Debian 12 packages
hold by other means, then use --no-install: $packages"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "packages are missing and neither root nor sudo is at hand. Ask an administrator for
    apt-get install $packages
then run ./$command_name --no-install"
    if ! sudo -n true 2>/dev/null && ! { : </dev/tty; } 2>/dev/null; then
      die "sudo wants a password, but there is no terminal to type it. Install as root, then use --no-install:
    apt-get install $packages"
    fi
  fi
  local id="" version=""
  if [[ -r /etc/os-release ]]; then
    id=$(. /etc/os-release && echo "${ID:-}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-}")
  fi
  if [[ $id != debian || $version != 12 ]]; then
    warn "made for Debian 12, but this is ${id:-unknown} ${version:-}; trying all the same"
  fi
  need_space / 1200 "installing packages"
}

# True when apt knows a version of each package.
apt_knows() {
  local package
  for package in "$@"; do
    apt-cache show --no-all-versions "$package" >/dev/null 2>&1 || return 1
  done
}

install_packages() {
  local -a wanted missing
  mapfile -t wanted < <(list_packages "$@")
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  if ((${#missing[@]} == 0)); then
    say "every Debian package needed is installed"
    return
  fi
  check_can_install "${missing[*]}"
  say "About to install these Debian packages and what they depend on:"
  printf '%s\n' "${missing[*]}" | fold -s -w 96 | sed 's/^/    /'
  if ! apt_knows "${missing[@]}"; then
    say "Reading Debian's package lists first (apt-get update)"
    apt_get -q update || die "apt-get update failed. Is there a network, and are /etc/apt/sources.list* right?"
    apt_knows "${missing[@]}" || die "apt does not know all of: ${missing[*]}
Is there a network, and does /etc/apt/sources.list* name Debian 12 (main)?"
  fi
  say "Installing them (a minute or two; the log is build/packages.log)"
  local -a flags=(-q -y --no-install-recommends -o Dpkg::Use-Pty=0)
  if ! apt_get "${flags[@]}" install "${missing[@]}"; then
    # The lists may be older than the archive: read them once more before giving up.
    say "Not everything could be fetched; trying again with fresh package lists"
    apt_get -q update || die "apt-get update failed. Is there a network?"
    apt_get "${flags[@]}" install "${missing[@]}" || die "apt-get could not install: ${missing[*]}"
  fi
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  ((${#missing[@]} == 0)) || die "apt-get ended well, but these are still not installed: ${missing[*]}"
}

# For --no-install: says what is missing, stops only when nothing could be built.
check_tools() {
  local -a wanted missing
  if command -v dpkg-query >/dev/null; then
    mapfile -t wanted < <(list_packages "$@")
    mapfile -t missing < <(missing_packages "${wanted[@]}")
    ((${#missing[@]} == 0)) || warn "not installed, as --no-install was given: ${missing[*]}"
  fi
  local tool
  for tool in "${CXX:-c++}" cmake ninja pkg-config; do
    command -v "$tool" >/dev/null || die "cannot build without $tool (leave --no-install out to install it)"
  done
}

configure() {
  local preset=$1 tests=$2 dir="$root/build/$1"
  mkdir -p "$dir" 2>/dev/null || true
  [[ -w $dir ]] || die "cannot write to $dir: it belongs to $(stat -c %U "$dir" 2>/dev/null || echo 'nobody: it does not exist')"
  need_space "$dir" 1500 "building"
  if [[ -f $dir/CMakeCache.txt ]] &&
    ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$dir/CMakeCache.txt"; then
    say "the clone has moved: starting build/$preset afresh"
    rm -rf "$dir"
  fi
  if [[ $tests == KEEP ]]; then
    # Turning the tests off would throw away what run-tests has built.
    [[ ! -f $dir/build.ninja ]] || return 0
    tests=OFF
  fi
  local -a flags=("-DSWITCHYARD_TESTS=$tests" -DSWITCHYARD_WERROR=ON)
  if [[ ! -f $dir/build.ninja ]]; then
    # Decided once a build folder: a change of compiler command would rebuild everything.
    if command -v ccache >/dev/null; then
      flags+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
    fi
    if command -v mold >/dev/null; then
      flags+=(-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=mold)
    fi
  fi
  cmake --preset "$preset" --log-level=NOTICE "${flags[@]}"
}

build() {
  local preset=$1
  shift
  local -a targets=()
  (($# == 0)) || targets=(--target "$@")
  cmake --build "$root/build/$preset" --parallel "$(build_jobs)" "${targets[@]}"
}
