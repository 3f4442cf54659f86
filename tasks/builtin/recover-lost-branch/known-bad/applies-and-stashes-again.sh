#!/bin/bash
# Wrong on purpose: applies the lost stash and makes a new one of it, so it isn't the original commit.
set -euo pipefail
cd /app/ledger
export GIT_AUTHOR_NAME=dev GIT_AUTHOR_EMAIL=dev@example.com GIT_COMMITTER_NAME=dev GIT_COMMITTER_EMAIL=dev@example.com
unreachable() { git fsck --unreachable --no-reflogs 2>/dev/null | awk '$2 == "commit" { print $3 }'; }
tip=$(unreachable | git log --no-walk --stdin --author='Dana Reyes' --format='%ct %H %s' |
  grep ' export: write totals row$' | sort -n | tail -n 1 | cut -d ' ' -f 2)
git branch feature/export "$tip"
stash=$(unreachable | git log --no-walk --stdin --format='%H %s' | grep 'On main: wip locale settings$' | cut -d ' ' -f 1)
git stash apply -q "$stash"
git stash push -q -m 'wip locale settings'
