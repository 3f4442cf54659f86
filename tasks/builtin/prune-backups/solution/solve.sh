#!/bin/bash
set -euo pipefail
cat > /app/prune-backups.sh <<'SCRIPT'
#!/bin/bash
# prune-backups.sh [-n] DIR KEEP
# Keep the KEEP newest backups of every label in DIR and delete the others.
set -euo pipefail
export LC_ALL=C
unset CDPATH

usage() { echo "usage: prune-backups.sh [-n] DIR KEEP" >&2; exit 2; }

dry=0
if [ "${1-}" = "-n" ]; then dry=1; shift; fi
[ $# -eq 2 ] || usage
dir=$1
[ -d "$dir" ] || usage
[[ $2 =~ ^[0-9]+$ ]] || usage
keep=$((10#$2))
[[ $dir = /* ]] || dir=./$dir
cd "$dir"

shopt -s nullglob dotglob
pattern='^(.+)_([0-9]{4}-[0-9]{2}-[0-9]{2})\.tar\.gz$'

list_backups() {  # "DATE NAME" per backup
  local f
  for f in *; do
    if [ -f "$f" ] && [ ! -L "$f" ] && [[ $f =~ $pattern ]]; then
      printf '%s %s\n' "${BASH_REMATCH[2]}" "$f"
    fi
  done
}

declare -A seen=()
doomed=()
while IFS= read -r line; do
  name=${line#* }
  label=${name%_*}
  seen["x$label"]=$(( ${seen["x$label"]:-0} + 1 ))
  if [ "${seen["x$label"]}" -gt "$keep" ]; then doomed+=("$name"); fi
done < <(list_backups | sort -r)

[ ${#doomed[@]} -gt 0 ] || exit 0
printf '%s\n' "${doomed[@]}" | sort
if [ "$dry" = 0 ]; then
  for name in "${doomed[@]}"; do
    rm -f -- "$name" "$name.sha256"
  done
fi
SCRIPT
chmod 755 /app/prune-backups.sh
