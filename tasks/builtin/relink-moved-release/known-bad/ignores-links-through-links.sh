#!/bin/bash
# Wrong on purpose: looks at each link once, so a link that leads through another link which is still broken counts as dead.
set -euo pipefail
cd /app/site
: > /app/dead-links.txt
find * -type l -print0 | LC_ALL=C sort -rz | while IFS= read -r -d '' link; do
  target=$(readlink -- "$link")
  case $target in
    /srv/www/site | /srv/www/site/*) ;;
    *) continue ;;
  esac
  moved=/app/site${target#/srv/www/site}
  if [ -e "$moved" ]; then
    ln -sfn -- "$(realpath -ms --relative-to="$(dirname -- "$link")" -- "$moved")" "$link"
  else
    echo "$link" >> /app/dead-links.txt
  fi
done
LC_ALL=C sort -o /app/dead-links.txt /app/dead-links.txt
