#!/bin/bash
# Wrong on purpose: the folders lack the setgid bit, so new files get the group of whoever writes them.
set -euo pipefail
chgrp -R devs /app/shared
find /app/shared -type d -exec chmod 770 {} +
find /app/shared -type f -perm -u+x -exec chmod 770 {} +
find /app/shared -type f ! -perm -u+x -exec chmod 660 {} +
