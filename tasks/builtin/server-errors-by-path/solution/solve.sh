#!/bin/bash
set -euo pipefail
cd /app/logs
zcat -f access.log access.log.1 access.log.2.gz |
  sed -E 's/^[^[]*\[[^]]*\] "[A-Z]+ ([^" ?]*)(\?[^" ]*)? HTTP\/[0-9.]+" ([0-9]{3}) .*$/\3 \1/' |
  awk '$1 >= 500 && $1 <= 599 { n[$2]++ } END { for (p in n) printf "%d\t%s\n", n[p], p }' |
  LC_ALL=C sort -t $'\t' -k1,1nr -k2,2 > /app/report.tsv
