# PATH FIRST COUNT BYTES: what PATH is, and its lines from FIRST on.
# First line: "file SIZE LINE-ENDS", "folder" or "absent FOLDER"; then lines, or names.
if [ -d "$1" ]; then
    echo folder
    LC_ALL=C ls -Ap -- "$1"
elif [ -f "$1" ]; then
    [ -r "$1" ] || { echo 'permission denied' >&2; exit 3; }
    echo file $(wc -c <"$1") $(wc -l <"$1")
    tail -n "+$2" -- "$1" | head -n "$3" | head -c "$4"
elif [ -e "$1" ] || [ -L "$1" ]; then
    [ -L "$1" ] && { echo "a link to $(readlink -- "$1"), which does not exist" >&2; exit 3; }
    echo "neither a file nor a folder, but a $(stat -c %F -- "$1")" >&2
    exit 3
else
    folder=$(dirname -- "$1")
    while [ ! -d "$folder" ]; do folder=$(dirname -- "$folder"); done
    echo "absent $folder"
    LC_ALL=C ls -A -- "$folder" 2>/dev/null | head -n 500
fi
