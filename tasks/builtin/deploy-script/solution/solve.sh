#!/bin/bash
set -euo pipefail
cat > /app/deploy.sh <<'SCRIPT'
#!/bin/bash
# deploy.sh ROOT ARTIFACT
set -uo pipefail
unset CDPATH

usage() { echo "usage: deploy.sh ROOT ARTIFACT.tar.gz" >&2; exit 2; }
[ $# -eq 2 ] && [ -d "$1" ] && [ -f "$2" ] || usage
[[ $2 = ?*.tar.gz ]] || usage
id=$(basename -- "$2" .tar.gz)
root=$(realpath -- "$1") || exit 2
artifact=$(realpath -- "$2") || exit 2
release=$root/releases/$id

# The kernel drops this lock when the last holder of the descriptor is gone, so no child that may outlive us gets it.
exec 9>>"$root/.deploy.lock" || exit 5
flock -n 9 || { echo "another deploy is running" >&2; exit 5; }

if [ -e "$release" ] || [ -L "$release" ]; then
  echo "$id is already there" >&2
  exit 3
fi

fail() {
  echo "deploy of $id failed: $1" >&2
  rm -rf -- "$release"
  echo "$id failed" >> "$root/deploy.log"
  exit 4
}

run_hook() {
  [ -f "$release/hooks/$1" ] && [ -x "$release/hooks/$1" ] || return 0
  (exec 9>&-; cd "$release" && RELEASE_ID=$id exec "./hooks/$1")
}

point_current_at() {
  rm -f -- "$root/.current.new"
  ln -s -- "$1" "$root/.current.new" && mv -T -- "$root/.current.new" "$root/current"
}

mkdir -p -- "$release" || fail "cannot make the release directory"
tar -xzf "$artifact" -C "$release" || fail "cannot unpack"
run_hook pre-activate || fail "pre-activate"

previous=$(readlink -- "$root/current") || previous=
point_current_at "releases/$id" || fail "cannot switch"
if ! run_hook post-activate; then
  if [ -n "$previous" ]; then point_current_at "$previous"; else rm -f -- "$root/current"; fi
  fail "post-activate"
fi
echo "$id ok" >> "$root/deploy.log"

# Newest first by the last "ok" line of each release; whatever is still on disk beyond the third goes.
kept=0
while IFS= read -r old; do
  [ -d "$root/releases/$old" ] || continue
  kept=$((kept + 1))
  if [ "$kept" -gt 3 ]; then rm -rf -- "${root:?}/releases/${old:?}"; fi
done < <(tac "$root/deploy.log" | sed -n 's/ ok$//p' | awk '!seen[$0]++')
exit 0
SCRIPT
chmod 755 /app/deploy.sh
