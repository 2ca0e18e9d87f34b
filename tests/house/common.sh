# shellcheck shell=bash
# Sourced by the house tests.
export LC_ALL=C.UTF-8

# The project's own files below $1, relative to it, NUL-terminated: those that git tracks or would, or every file that
# is not a product where there is no git (a source archive). A clone owned by another user counts as git.
project_files() {
  if git -C "$1" -c safe.directory='*' rev-parse --verify --quiet HEAD >/dev/null 2>&1; then
    # Tracked files that were deleted but not yet committed do not exist.
    git -C "$1" -c safe.directory='*' ls-files -z --cached --others --exclude-standard |
      while IFS= read -r -d '' file; do
        [[ ! -f $1/$file ]] || printf '%s\0' "$file"
      done
  else
    (cd "$1" && find . \( -path ./.git -o -path ./build -o -path ./runs -o -path ./data \) -prune -o \
      -type f -printf '%P\0')
  fi
}
