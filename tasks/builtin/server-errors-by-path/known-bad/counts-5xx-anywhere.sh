#!/bin/bash
# Wrong: a 5xx anywhere in the line counts, whether it is the status or the size or part of the user's name.
set -euo pipefail
cd /app/logs
zcat -f access.log* | grep -E ' 5[0-9][0-9] ' | sed -E 's/.*"(GET|POST|HEAD|PUT) ([^ ?]*).*/\2/' | LC_ALL=C sort | uniq -c |
  awk '{ printf "%d\t%s\n", $1, $2 }' | LC_ALL=C sort -t $'\t' -k1,1nr -k2,2 > /app/report.tsv
