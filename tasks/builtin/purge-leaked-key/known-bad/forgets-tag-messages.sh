#!/bin/bash
# Wrong on purpose: filter-branch redacts files and commit messages, but the text of annotated tags keeps the key.
set -euo pipefail
cd /app/payments
key=pk9-LIVE-7f3c21d8e604
git stash clear
export FILTER_BRANCH_SQUELCH_WARNING=1
git filter-branch -f --tree-filter "grep -rlZ --exclude-dir=.git $key . | xargs -0r sed -i 's/$key/REDACTED/g'" \
  --msg-filter "sed 's/$key/REDACTED/g'" --tag-name-filter cat -- --branches --tags > /dev/null 2>&1
git for-each-ref --format='%(refname)' refs/original | xargs -rn 1 git update-ref -d
git reset -q --hard main
rm -f .git/ORIG_HEAD .git/COMMIT_EDITMSG
git reflog expire --expire=now --all
git gc -q --prune=now
