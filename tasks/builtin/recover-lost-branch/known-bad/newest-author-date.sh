#!/bin/bash
# Wrong on purpose: picks the candidate with the newest author date, an intermediate version of the amended commit.
set -euo pipefail
cd /app/ledger
unreachable() { git fsck --unreachable --no-reflogs 2>/dev/null | awk '$2 == "commit" { print $3 }'; }
tip=$(unreachable | git log --no-walk --stdin --author='Dana Reyes' --format='%at %H %s' |
  grep ' export: write totals row$' | sort -n | tail -n 1 | cut -d ' ' -f 2)
git branch feature/export "$tip"
message='On main: wip locale settings'
git stash store -m "$message" "$(unreachable | git log --no-walk --stdin --format='%H %s' | awk -v m="$message" 'substr($0, 42) == m { print $1 }')"
