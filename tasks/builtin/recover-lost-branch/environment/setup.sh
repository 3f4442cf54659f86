#!/bin/bash
set -euo pipefail
export GIT_CONFIG_GLOBAL=/dev/null HOME=/tmp
day() { export GIT_AUTHOR_DATE="2024-05-$1 +0000" GIT_COMMITTER_DATE="2024-05-${2:-$1} +0000"; }
as() { export GIT_AUTHOR_NAME="$1" GIT_COMMITTER_NAME="$1" GIT_AUTHOR_EMAIL="$2" GIT_COMMITTER_EMAIL="$2"; }
dana() { as 'Dana Reyes' dana@example.com; }
omar() { as 'Omar Haddad' omar@example.com; }
commit() { git add -A && git commit -q "$@"; }

git init -q -b main /app/ledger
cd /app/ledger
git config gc.auto 0

omar; day '01 09:00'
printf '# ledger\n' > README.md
printf '[ui]\nlocale = en_US\ncolour = off\n' > settings.ini
commit -m 'Initial import'
day '02 09:00'; printf 'def total(rows):\n    return sum(rows)\n' > ledger.py; commit -m 'Add totals'

# The branch that is wanted.
git checkout -q -b feature/export
dana
day '03 10:00'; printf 'def export(rows):\n    return rows\n' > export.py; commit -m 'export: add module'
day '04 10:00'; printf 'import csv\n\ndef export(rows, out):\n    csv.writer(out).writerows(rows)\n' > export.py; commit -m 'export: write CSV'
day '06 10:00'; printf "\n\ndef totals(rows):\n    return ['total', sum(r[1] for r in rows)]\n" >> export.py; commit -m 'export: write totals row'
# Amended twice; the author date of an amended commit stays, and the middle version has got the newest author date.
day '12 08:00' '07 11:00'; printf '# TODO: rounding\n' >> export.py; git add -A; git commit -q --amend --reset-author -m 'export: write totals row'
day '06 10:00' '09 16:30'
sed -i 's/# TODO: rounding/# rounds to cents/' export.py
git add -A; git commit -q --amend --date "$GIT_AUTHOR_DATE" -m 'export: write totals row' -m 'Rounds to whole cents.'
wanted=$(git rev-parse HEAD)

# Others with the same subject, later than Dana.
git checkout -q -b try-omar feature/export~1
omar; day '11 12:00'; printf 'TOTAL\n' > totals.txt; commit -m 'export: write totals row'
# Omar commits Dana's first version again: committed by him but still by Dana, and earlier than her last one.
day '06 10:00' '08 12:00'; git checkout -q -b try-omar-2 main
printf 'def export(rows):\n    raise NotImplementedError\n' > export.py
git add -A; git commit -q --author 'Dana Reyes <dana@example.com>' --date "$GIT_AUTHOR_DATE" -m 'export: write totals row'
# Dana's later work with a similar subject.
dana; day '10 12:00'; git checkout -q -b try-dana feature/export~2
printf 'x\n' > x.txt; commit -m 'export: write totals row per month'

git checkout -q main
omar; day '05 09:00'; printf 'ledger docs\n' >> README.md; commit -m 'Extend the README'

# Stashes.
dana
day '05 11:00'; printf '[ui]\nlocale = de_CH\ncolour = off\n' > settings.ini; git stash push -q -m 'wip locale'
day '08 11:00'; printf '[ui]\nlocale = fr_CH\ncolour = off\n' > settings.ini; git stash push -q -m 'wip locale settings'
day '08 15:00'; printf '[ui]\nlocale = en_US\ncolour = on\n' > settings.ini; git stash push -q -m 'wip colour settings'
git stash clear
git branch -q -D feature/export try-omar try-omar-2 try-dana
git reflog expire --expire=all --all
rm -f .git/ORIG_HEAD .git/COMMIT_EDITMSG
git cat-file -e "$wanted"
