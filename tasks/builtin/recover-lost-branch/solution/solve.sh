#!/bin/bash
# Both commits are unreachable but still in the object store.
set -euo pipefail
cd /app/ledger
unreachable() { git fsck --unreachable --no-reflogs 2>/dev/null | awk '$2 == "commit" { print $3 }'; }

tip=$(unreachable | git log --no-walk --stdin --format='%ct%x09%H%x09%an%x09%s' |
  awk -F '\t' '$3 == "Dana Reyes" && $4 == "export: write totals row"' | sort -n | tail -n 1 | cut -f 2)
git branch feature/export "$tip"

message='On main: wip locale settings'
stash=$(unreachable | git log --no-walk --stdin --format='%H%x09%s' | awk -F '\t' -v m="$message" '$2 == m { print $1 }')
git stash store -m "$message" "$stash"
