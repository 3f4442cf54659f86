# PATH EXPECTED EXECUTABLE: replaces PATH by standard input, as a whole or not at all.
# EXPECTED: the SHA-256 that it must still have, or nothing. EXECUTABLE: "x", or nothing.
# Says "new", or "replaced" with the size before.
say() { echo "$1" >&2; exit "${2:-3}"; }
[ -d "$1" ] && say 'it is a folder'
case $1 in */) say 'a path of a file does not end with /' ;; esac
mkdir -p -- "$(dirname -- "$1")" || exit 3
# Of a link its target is written, and the link stays.
target=$(readlink -f -- "$1") || say 'a link that leads nowhere'
new=x
buffer= beside=x in_place=
trap '[ -z "$buffer" ] || rm -f -- "$buffer"' EXIT
if [ -e "$target" ]; then
    new=
    [ -f "$target" ] || say "not a regular file, but a $(stat -c %F -- "$target")"
    [ -w "$target" ] || say 'permission denied'
    # Other names of the same file would keep the old content.
    [ "$(stat -c %h -- "$target")" = 1 ] || in_place=x
elif [ -n "$2" ]; then
    say 'it was removed meanwhile'
fi
buffer=$(mktemp "${target%/*}/.orcapack.XXXXXX" 2>/dev/null) ||
    { beside= buffer=$(mktemp "${TMPDIR:-/tmp}/orcapack.XXXXXX") || exit 3; }
cat >"$buffer" || exit 3
if [ -n "$new" ]; then
    [ -n "$beside" ] || { : >"$target" || exit 3; in_place=x; }
    chmod =rw${3:+x} "$buffer" || exit 3
else
    owner=$(stat -c %u:%g -- "$target")
    # Who may write a file of another's cannot give it back to its owner.
    [ "$(stat -c %u:%g -- "$buffer")" = "$owner" ] || chown "$owner" "$buffer" 2>/dev/null || in_place=x
    chmod "$(stat -c %a -- "$target")" "$buffer" 2>/dev/null || in_place=x
    [ -n "$beside" ] || in_place=x
    before=$(($(wc -c <"$target")))
    if [ -n "$2" ]; then
        sum=$(sha256sum <"$target")
        [ "${sum%% *}" = "$2" ] || say 'it was changed meanwhile; read it again'
    fi
fi
if [ -n "$in_place" ]; then
    cat "$buffer" >"$target" || exit 3
    [ -z "$new$3" ] || chmod +x "$target" 2>/dev/null
else
    mv -f -- "$buffer" "$target" || exit 3
    buffer=
fi
[ -n "$new" ] && echo new || echo "replaced $before"
