#!/bin/bash
# find does not follow links; the owner's x bit is looked at before any mode changes.
set -euo pipefail
cd /app/shared
chgrp -hR devs .
find . -type f -perm -u+x -exec chmod 770 {} +
find . -type f ! -perm -u+x -exec chmod 660 {} +
find . -type d -exec chmod 2770 {} +
