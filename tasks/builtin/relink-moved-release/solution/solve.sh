#!/bin/bash
# Repairs every link whose target exists in the new place, again and again, because a target may lead through another link.
set -euo pipefail
old=/srv/www/site
new=/app/site
cd "$new"

progress=1
while [ "$progress" = 1 ]; do
  progress=0
  dead=()
  while IFS= read -r -d '' link; do
    target=$(readlink -- "$link")
    case $target in
      "$old" | "$old"/*) ;;
      *) continue ;;
    esac
    moved=$new${target#"$old"}
    if [ -e "$moved" ]; then
      ln -sfn -- "$(realpath -ms --relative-to="$(dirname -- "$link")" -- "$moved")" "$link"
      progress=1
    else
      dead+=("$link")
    fi
  done < <(find . -type l -printf '%P\0')
done
printf '%s\n' "${dead[@]}" | LC_ALL=C sort > /app/dead-links.txt
