#!/bin/bash
# LC_ALL=C: the files are treated as bytes.
set -euo pipefail
find /app/conf -type f -name '*.properties' -exec \
  env LC_ALL=C sed -i -E 's/^([ \t]*)db\.host([ \t]*[=:])/\1database.primary.host\2/' {} +
