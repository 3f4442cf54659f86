#!/bin/bash
# Wrong: quotes everything, but "web"* also takes in the backups of "web-2" and "web_eu".
set -euo pipefail
cat > /app/prune-backups.sh <<'SCRIPT'
#!/bin/bash
set -euo pipefail
export LC_ALL=C
usage() { echo "usage: prune-backups.sh [-n] DIR KEEP" >&2; exit 2; }
dry=0
if [ "${1-}" = "-n" ]; then dry=1; shift; fi
[ $# -eq 2 ] && [ -d "$1" ] && [[ $2 =~ ^[0-9]+$ ]] || usage
keep=$((10#$2))
cd -- "$1"
shopt -s nullglob
d='[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]'
for f in *_$d.tar.gz; do printf '%s\n' "${f%_*}"; done | sort -u | while IFS= read -r label; do
  files=()
  for f in "$label"*_$d.tar.gz; do
    if [ -f "$f" ] && [ ! -L "$f" ]; then files+=("$f"); fi
  done
  [ ${#files[@]} -gt 0 ] || continue
  printf '%s\n' "${files[@]}" | sort -r | tail -n +$((keep + 1)) | while IFS= read -r f; do
    printf '%s\n' "$f"
    [ "$dry" = 1 ] || rm -f -- "$f" "$f.sha256"
  done
done | sort -u
SCRIPT
chmod 755 /app/prune-backups.sh
