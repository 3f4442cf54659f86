#!/bin/bash
# Wrong: quotes everything, but takes the file's time stamp for the date of the backup.
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
pattern='^(.+)_([0-9]{4}-[0-9]{2}-[0-9]{2})\.tar\.gz$'
declare -A seen=()
while IFS= read -r f; do
  f=${f#./}
  [[ $f =~ $pattern ]] || continue
  label=${BASH_REMATCH[1]}
  seen["x$label"]=$(( ${seen["x$label"]:-0} + 1 ))
  if [ "${seen["x$label"]}" -gt "$keep" ]; then
    printf '%s\n' "$f"
    [ "$dry" = 1 ] || rm -f -- "$f" "$f.sha256"
  fi
done < <(find . -maxdepth 1 -type f -printf '%T@ %p\n' | sort -rn | cut -d' ' -f2-) | sort
SCRIPT
chmod 755 /app/prune-backups.sh
