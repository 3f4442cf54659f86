#!/bin/bash
set -euo pipefail
cat > /app/pack.sh <<'SCRIPT'
#!/bin/bash
# pack.sh SRC VERSION OUT: make the release tarball OUT of the source tree SRC.
set -euo pipefail
[ -d "$1" ] || { echo "pack.sh: no such directory: $1" >&2; exit 1; }
src=$(realpath -- "$1") version=$2 out=$3
export LC_ALL=C
tar --create --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    --exclude=.git --exclude='*.o' \
    --transform="flags=rSh;s,^\.,widget-$version," -C "$src" . | gzip -n -9 > "$out.part.$$"
mv -- "$out.part.$$" "$out"
SCRIPT
chmod 755 /app/pack.sh
