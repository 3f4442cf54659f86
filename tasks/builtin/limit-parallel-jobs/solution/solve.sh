#!/bin/bash
# Bash's `wait -n -p` tells which job has ended.
set -euo pipefail
cat > /app/runjobs <<'RUN'
#!/bin/bash
set -u

wrong() {
  echo "runjobs: $*" >&2
  exit 2
}

limit='' fail_fast=''
while [ $# -gt 0 ]; do
  case $1 in
    -j) [ $# -ge 2 ] || wrong '-j needs a number'; limit=$2; shift 2 ;;
    --fail-fast) fail_fast=1; shift ;;
    -*) wrong "unknown option $1" ;;
    *) break ;;
  esac
done
[[ $limit =~ ^0*[1-9][0-9]*$ ]] || wrong '-j needs a whole number of at least 1'
limit=$((10#$limit))
[ $# -eq 2 ] || wrong 'JOBFILE and OUTDIR expected'
[ -f "$1" ] && [ -r "$1" ] || wrong "$1: can't be read"
out=$2

names=() commands=()
declare -A status=()
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
    '' | '#'*) continue ;;
    *$'\t'*) ;;
    *) wrong "no tab in: $line" ;;
  esac
  name=${line%%$'\t'*}
  [[ -n $name && $name != */* ]] || wrong "bad name: $name"
  [ -z "${status[$name]-}" ] || wrong "name occurs twice: $name"
  status[$name]=skipped
  names+=("$name") commands+=("${line#*$'\t'}")
done < "$1"
mkdir -p -- "$out" || wrong "$out: can't be created"

declare -A running=()
failed=''
reap() {
  local pid='' code=0
  wait -n -p pid || code=$?
  status[${running[$pid]}]=$code
  unset "running[$pid]"
  [ "$code" = 0 ] || failed=1
}

for i in "${!names[@]}"; do
  while [ ${#running[@]} -ge "$limit" ]; do reap; done
  if [ -n "$failed" ] && [ -n "$fail_fast" ]; then break; fi
  bash -c "${commands[i]}" < /dev/null > "$out/${names[i]}.log" 2>&1 &
  running[$!]=${names[i]}
done
while [ ${#running[@]} -gt 0 ]; do reap; done

for name in "${names[@]}"; do
  printf '%s\t%s\n' "$name" "${status[$name]}"
done > "$out/results.tsv"
[ -z "$failed" ]
RUN
chmod +x /app/runjobs
