#!/bin/bash
set -euo pipefail
groupadd -g 3000 devs
useradd -M -u 3001 -s /bin/bash -G devs alice
useradd -M -u 3002 -s /bin/bash -G devs bob
useradd -M -u 3003 -s /bin/bash carol
for user in alice bob carol; do chage -d 2024-05-01 $user; done  # not the day of the build

mkdir -p /app/public/archive /app/shared/{reports/2024,tools,"meeting notes",drop/-incoming,.cache}
cd /app/shared
echo 'Notice for everyone' > /app/public/notice.txt
echo '2019' > /app/public/archive/2019.txt
echo 'q1' > reports/2024/q1.csv
echo 'q2' > reports/2024/q2.csv
echo 'agenda' > "meeting notes/2024-05 agenda.md"
printf '#!/bin/sh\necho built\n' > tools/build.sh
printf '#!/bin/sh\necho tested\n' > tools/run-tests
printf '#!/bin/sh\necho old\n' > tools/not-a-program-any-more
echo 'raw' > drop/-incoming/-x.dat
echo 'cached' > .cache/index
: > .cache/lock
ln -s /app/public/notice.txt notice.txt
ln -s /app/public/archive archive
ln -s 2024/q2.csv reports/latest.csv

chown -R alice:alice reports; chown bob:users "meeting notes" "meeting notes/2024-05 agenda.md"; chown carol:devs drop/-incoming/-x.dat
chown bob:bob tools/build.sh .cache/index
chmod 755 . reports tools; chmod 700 reports/2024 "meeting notes"; chmod 777 drop; chmod 1775 drop/-incoming; chmod 750 .cache
chmod 777 reports/2024/q1.csv; chmod 600 reports/2024/q2.csv; chmod 644 "meeting notes/2024-05 agenda.md"
chmod 700 tools/build.sh; chmod 755 tools/run-tests; chmod 655 tools/not-a-program-any-more
chmod 444 drop/-incoming/-x.dat; chmod 640 .cache/index; chmod 000 .cache/lock
chmod 604 /app/public/notice.txt; chmod 705 /app/public/archive
