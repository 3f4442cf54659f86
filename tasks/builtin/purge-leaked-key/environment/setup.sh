#!/bin/bash
set -euo pipefail
key=${1:-pk9-LIVE-7f3c21d8e604}
repo=${2:-/app/payments}
export GIT_CONFIG_GLOBAL=/dev/null HOME=/tmp
by() { export GIT_AUTHOR_NAME="$1" GIT_AUTHOR_EMAIL="$2" GIT_COMMITTER_NAME="${3:-$1}" GIT_COMMITTER_EMAIL="${4:-$2}"; }
on() { export GIT_AUTHOR_DATE="2024-$1" GIT_COMMITTER_DATE="2024-${2:-$1}"; }
commit() { git add -A && git commit -q "$@"; }

git init -q -b main "$repo"
cd "$repo"
git config gc.auto 0

by 'Mina Okafor' mina@example.com; on '02-01 09:00 +0100'
mkdir -p config docs bin
printf '[gateway]\r\nurl = https://gw.example.com\r\nkey = changeme\r\n' > config/gateway.ini
printf '#!/bin/sh\nexec python3 -m payments "$@"\n' > bin/pay; chmod 755 bin/pay
ln -s ../config/gateway.ini docs/gateway.ini
printf 'Zahlungen f\xfcr Z\xfcrich\n' > docs/notes.txt
commit -m 'Import'
git tag v1.0

on '02-03 10:00 +0100'
printf '[gateway]\r\nurl = https://gw.example.com\r\nkey = %s\r\n' "$key" > config/gateway.ini
commit -m 'Use the live gateway'

by 'Tomás Ruiz' tomas@example.com 'Build Bot' bot@example.com; on '02-04 11:00 -0500' '02-05 08:30 +0000'
printf 'curl -H "Authorization: %s" https://gw.example.com/ping\n# again: %s%s\nGr\xfc\xdfe\n' "$key" "$key" "$key" > docs/runbook.txt
git add -A
git commit -q -m 'Add a runbook' -m "The key ($key) is the one from the portal." -m $'Signed-off-by: Tomás Ruiz <tomas@example.com>'
GIT_COMMITTER_NAME='Mina Okafor' GIT_COMMITTER_EMAIL=mina@example.com GIT_COMMITTER_DATE='2024-02-05 12:00 +0100' \
  git tag -a v1.1 -m 'Release 1.1' -m "Smoke test: pay --key $key"

# A release branch with its own copy of the key under another name.
git checkout -q -b release/1.x
by 'Mina Okafor' mina@example.com; on '02-10 09:00 +0100'
git mv config/gateway.ini config/gateway-eu.ini
ln -sf ../config/gateway-eu.ini docs/gateway.ini
commit -m 'Rename the EU configuration'
on '02-11 09:00 +0100'
printf 'EU\n' > bin/region; commit -m 'Add the region'
git tag v1.1.1

# A feature branch with a commit message that has the key, merged into main.
git checkout -q -b feature/refunds main
by 'Tomás Ruiz' tomas@example.com; on '02-12 09:00 -0500'
printf 'def refund(): pass\n' > refund.py; commit -m "Refunds: tested with $key"
git checkout -q main
by 'Mina Okafor' mina@example.com; on '02-13 09:00 +0100'
printf '[gateway]\r\nurl = https://gw.example.com\r\nkey = ${GATEWAY_KEY}\r\n' > config/gateway.ini
commit -m 'Take the key from the environment'
on '02-14 09:00 +0100'
git merge -q --no-ff -m 'Merge feature/refunds' feature/refunds
on '02-15 09:00 +0100'
git commit -q --allow-empty -m 'Trigger the build'
printf '[gateway]\r\nkey = ${GATEWAY_KEY}\r\n' > config/example.ini; on '02-16 09:00 +0100'; commit -m 'Add an example'
on '02-16 10:00 +0100'; git tag -a v1.2 -m 'Release 1.2'
# An orphan branch.
git checkout -q --orphan pages
git rm -rfq .
printf '<pre>%s</pre>\n' "$key" > index.html; on '02-17 09:00 +0100'; commit -m 'Publish pages'
git checkout -q main
[ $# -eq 0 ] || exit 0

# Traces outside of branches and tags: an amended commit, a stash, a reset commit, packed objects.
printf 'debug = %s\n' "$key" > debug.ini; on '02-18 09:00 +0100'; commit -m "debug $key"
git reset -q --hard HEAD~1
printf 'local key %s\n' "$key" >> docs/runbook.txt
git stash push -q -m "key $key"
git repack -q -d
printf 'more %s\n' "$key" > debug.ini; on '02-19 09:00 +0100'; commit -m 'more debug'
git commit -q --amend -m "even more debug $key"
git reset -q --hard HEAD~1
rm -f .git/ORIG_HEAD
git pack-refs --all
