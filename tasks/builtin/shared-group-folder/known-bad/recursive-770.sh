#!/bin/bash
# Wrong on purpose: one mode for everything makes each data file executable.
set -euo pipefail
chgrp -R devs /app/shared
chmod -R 770 /app/shared
find /app/shared -type d -exec chmod g+s {} +
