#!/bin/bash
# Wrong: curl's own retries begin anew, give a short body its blessing on the last try, and know no limits for 4xx.
set -euo pipefail
cat > /app/fetch <<'SH'
#!/bin/bash
# fetch URL OUT
part=$(mktemp "$2.XXXXXX")
trap 'rm -f "$part"' EXIT
for n in 1 2 3 4 5 6; do
  curl -sfL --max-redirs 5 -C - -o "$part" "$1"
  case $? in
    0|18) mv "$part" "$2"; chmod 644 "$2"; sha256sum "$2" | cut -d' ' -f1; exit 0 ;;
    22|47) exit 4 ;;
  esac
  sleep 0.1
done
exit 5
SH
chmod 755 /app/fetch
