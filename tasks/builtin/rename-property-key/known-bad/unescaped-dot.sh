#!/bin/bash
# Wrong on purpose: the dot of the key matches any character, so db-host and dbxhost are renamed too.
set -euo pipefail
find /app/conf -type f -name '*.properties' -exec \
  env LC_ALL=C sed -i -E 's/^([ \t]*)db.host([ \t]*[=:])/\1database.primary.host\2/' {} +
