# PATH: the whole file.
[ -d "$1" ] && { echo 'it is a folder' >&2; exit 3; }
[ -e "$1" ] || { echo 'no such file' >&2; exit 3; }
[ -f "$1" ] || { echo "not a regular file, but a $(stat -c %F -- "$1")" >&2; exit 3; }
[ -r "$1" ] || { echo 'permission denied' >&2; exit 3; }
exec cat -- "$1"
