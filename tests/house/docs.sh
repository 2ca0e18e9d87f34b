#!/usr/bin/env bash
# Links between the pages of the project lead somewhere. usage: docs.sh SOURCE_DIR
set -euo pipefail
# shellcheck source=tests/house/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$1"
offences=0
mapfile -d '' -t pages < <(project_files . | grep -zE '\.md$')
((${#pages[@]} > 0)) || { echo "no page found below $1"; exit 1; }
for page in "${pages[@]}"; do
  while IFS= read -r link; do
    target=${link%%#*}
    case $target in
      "" | *://* | mailto:*) continue ;;
    esac
    if [[ ! -e $(dirname "$page")/$target ]]; then
      echo "$page links to $target, which does not exist"
      offences=$((offences + 1))
    fi
  done < <(grep -oE '\]\([^) ]+\)' "$page" | sed -E 's/^\]\((.*)\)$/\1/' || true)
done
((offences == 0)) || exit 1
echo "${#pages[@]} pages"
