#!/usr/bin/env bash
# Proves on a bare Debian 12 what the README promises: makes one with debootstrap, clones HEAD into it and runs
# ./run-tests and ./quickstart there. See --help.
set -euo pipefail
# shellcheck source=tools/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  cat <<'END'
usage: sudo tools/fresh_machine.sh [options] [DIR]

Makes a bare Debian 12 with git (debootstrap, minbase) in DIR, which must be empty or absent (default: a new folder
under /var/tmp), and runs ./run-tests and ./quickstart of the committed HEAD, each in its own copy of it. Ends with
PASS or FAIL and the time of each. Packages come from the mirror that this machine's apt uses.

  --only NAME     run-tests or quickstart; or bootstrap, which stops at the bare machine
  --as-user       run them as an ordinary user with sudo instead of as root
  --set KEY=VALUE given to ./quickstart, for example train.steps=50
  --keep          leave DIR there afterwards
  -h, --help      this text
END
}

keep=0
as_user=0
only=""
dir=""
quickstart_flags=()
own_mounts=0
arguments=("$@")
while (($# > 0)); do
  case $1 in
    --only) need_value "$1" $#; only=$2; shift 2 ;;
    --set) need_value "$1" $#; quickstart_flags+=(--set "$2"); shift 2 ;;
    --as-user) as_user=1; shift ;;
    --keep) keep=1; shift ;;
    --own-mounts) own_mounts=1; shift ;; # only given below
    -h | --help) usage; exit 0 ;;
    -*) die "unknown option $1 (see tools/fresh_machine.sh --help)" ;;
    *) [[ -z $dir ]] || die "more than one folder named"; dir=$1; shift ;;
  esac
done
case $only in
  "" | run-tests | quickstart | bootstrap) ;;
  *) die "--only $only: expected run-tests, quickstart or bootstrap" ;;
esac

((EUID == 0)) || die "must be run as root: it makes a system of its own and enters it with chroot"
for tool in debootstrap git chroot mount; do
  command -v "$tool" >/dev/null || die "needs $tool (apt-get install debootstrap git)"
done

# A mount namespace of our own: whatever happens to this script, nothing stays mounted on the machine.
if ((!own_mounts)) && unshare --mount true 2>/dev/null; then
  cd "$called_from"
  exec unshare --mount --propagation private "$root/tools/fresh_machine.sh" --own-mounts "${arguments[@]}"
fi

made=""
if [[ -z $dir ]]; then
  dir=$(mktemp -d /var/tmp/switchyard-fresh.XXXXXX)
  made=$dir
else
  [[ $dir == /* ]] || dir=$called_from/$dir
  [[ -e $dir ]] || made=$dir
  mkdir -p "$dir"
  [[ -z $(ls -A "$dir") ]] || die "$dir is not empty"
fi
# mktemp makes a folder that only root may enter, which an ordinary user of the new system could not pass.
chmod 755 "$dir"
need_space "$dir" 6000 "the fresh machine"

# shellcheck disable=SC2317  # called by the trap
unmount_all() {
  local machine point
  for machine in "$dir"/*/; do
    for point in proc sys dev/pts dev; do
      if mountpoint -q "$machine$point"; then
        umount "$machine$point" || umount --lazy "$machine$point"
      fi
    done
  done
}
# shellcheck disable=SC2317
clean_up() {
  local status=$?
  report_failure "$status"
  unmount_all
  if ((keep)); then
    say "kept: $dir"
  elif grep -qF " $dir/" /proc/self/mounts; then
    warn "something is still mounted under $dir: not removing it"
  else
    rm -rf --one-file-system "${dir:?}"/*
    [[ -z $made ]] || rmdir "$dir"
  fi
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

release=bookworm
# "URI suite component" of every Debian 12 archive that this machine's apt uses; Debian's own on any other machine.
# shellcheck disable=SC2016  # $(...) here is apt's own notation
archives() {
  local found=""
  if command -v apt-get >/dev/null; then
    found=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(LABEL)' 'Created-By: Packages' |
      awk -v release="$release" '$2 ~ "^" release && $4 ~ /^Debian/ { print $1, $2, $3 }' | sort -u || true)
  fi
  if ! grep -q " $release main\$" <<<"$found"; then
    found="http://deb.debian.org/debian/ $release main
http://deb.debian.org/debian-security/ $release-security main"
  fi
  printf '%s\n' "$found"
}

bare=$dir/bare
phase "A bare Debian 12 in $bare"
mirror=$(archives | awk -v release="$release" '$2 == release && $3 == "main" { print $1; exit }')
say "from $mirror"
proxy=""
if command -v apt-config >/dev/null; then
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
fi
if [[ -n $proxy ]]; then
  export http_proxy=$proxy https_proxy=$proxy
fi
packages=git
((as_user)) && packages+=,sudo
[[ $mirror != https:* ]] || packages+=,ca-certificates
debootstrap --variant=minbase --include="$packages" "$release" "$bare" "$mirror" >"$dir/debootstrap.log" 2>&1 || {
  tail -n 20 "$dir/debootstrap.log" >&2
  die "debootstrap failed"
}

archives | sed 's/^/deb /' >"$bare/etc/apt/sources.list"
if command -v apt-config >/dev/null; then
  # How to reach the mirror: proxies, time-outs, checks of dates that a frozen mirror would fail.
  apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries|ForceIPv)' \
    >"$bare/etc/apt/apt.conf.d/99fresh-machine" || true
fi
for file in /etc/resolv.conf /etc/hosts; do
  [[ ! -r $file ]] || cp --dereference "$file" "$bare$file"
done
if [[ -r /etc/ssl/certs/ca-certificates.crt && -d $bare/etc/ssl/certs ]]; then
  cp --dereference /etc/ssl/certs/ca-certificates.crt "$bare/etc/ssl/certs/"
fi

user=root
home=/root
if ((as_user)); then
  user=guest
  home=/home/guest
  chroot "$bare" useradd --create-home --shell /bin/bash "$user"
  echo "$user ALL=(ALL) NOPASSWD: ALL" >"$bare/etc/sudoers.d/$user"
fi
git -c safe.directory='*' clone --quiet --no-local "$root" "$bare$home/switchyard"
chroot "$bare" chown -R "$user:" "$home/switchyard"
end_phase
[[ $only != bootstrap ]] || exit 0

# run_in MACHINE COMMAND...: in the clone, as the user, with a clean environment and nothing to read from.
# shellcheck disable=SC2016  # expanded by the inner shell
run_in() {
  local machine=$1
  shift
  chroot "$machine" env -i HOME="$home" USER="$user" CI=true LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    ${proxy:+http_proxy="$proxy"} ${proxy:+https_proxy="$proxy"} \
    su "$user" -c 'cd "$HOME/switchyard" && exec "$@"' -- sh "$@" </dev/null
}

results=()
failed=0
try() {
  local name=$1 machine=$dir/$1 start status=0
  shift
  say "== $name"
  cp -a --reflink=auto "$bare" "$machine"
  mount -t proc proc "$machine/proc"
  mount -t sysfs -o ro sysfs "$machine/sys"
  mount --bind /dev "$machine/dev"
  mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$machine/dev/pts" # terminals of its own
  start=$SECONDS
  run_in "$machine" "$@" 2>&1 | tee "$dir/$name.log" || status=$?
  unmount_all
  if ((status == 0)); then
    results+=("PASS  $name  $(took $((SECONDS - start)))")
  else
    results+=("FAIL  $name  $(took $((SECONDS - start)))  status $status")
    failed=1
  fi
}

check_run() {
  local machine=$1 name
  for name in metrics.jsonl report.html; do
    [[ -s $machine$home/switchyard/runs/quickstart/$name ]] || {
      results+=("FAIL  quickstart left no runs/quickstart/$name")
      failed=1
    }
  done
}

[[ $only == quickstart ]] || try run-tests ./.ci/run
if [[ $only != run-tests ]]; then
  try quickstart ./quickstart "${quickstart_flags[@]}"
  check_run "$dir/quickstart"
fi

say ""
printf '%s\n' "${results[@]}"
exit "$failed"
