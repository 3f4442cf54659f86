#!/bin/bash
set -euo pipefail
groupadd -g 2100 relay
useradd -M -u 2100 -g relay -s /bin/bash relay
useradd -M -u 2101 -s /bin/bash backup-agent
for user in relay backup-agent; do chage -d 2024-05-01 $user; done  # not the day of the build
mkdir -p /app/example/{bin,etc/tls,var/spool}
cd /app/example
printf '#!/bin/sh\necho pong\n' > bin/relay-ping
printf '#!/bin/sh\necho relay\n' > bin/relay
echo 'port = 9' > etc/relay.conf
echo 'secret' > etc/tls/key.pem
echo 'job' > var/spool/job-1
ln -s ../etc/relay.conf var/relay.conf
chmod 644 bin/relay; chmod 777 etc; chmod 666 etc/tls/key.pem
