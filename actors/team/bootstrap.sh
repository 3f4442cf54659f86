# BYTES PATH...: records about each PATH, numbered from 0, with up to BYTES of text files.
# A record is headed by a record separator, and "KIND NUMBER NAME".
export LC_ALL=C
bytes=$1
shift
number=0
record() { printf '\036%s %s %s\n' "$1" "$number" "$2"; }
# What is shown has neither zero bytes nor record separators in it.
is_text() {
    [ "$(head -c "$bytes" -- "$1" | tr -d '\000\036' | wc -c)" = "$(head -c "$bytes" -- "$1" | wc -c)" ]
}
below() {
    folder=$1
    shift
    find "$folder" -mindepth 1 -maxdepth 3 \( -name .git -o -name .hg -o -name .svn \
        -o -name node_modules -o -name __pycache__ -o -name target -o -name venv \) -prune \
        -o "$@" -print 2>/dev/null | sort
}
for path; do
    if [ -d "$path" ]; then
        record folder
        below "$path" -name '*' | head -n 200
        # Of at most 8 KiB, and none that are there to hold a secret.
        below "$path" -type f -size -17 ! -name '.env*' ! -name '*.pem' ! -name '*.key' \
            ! -name 'id_*' ! -name '.netrc' ! -name '.pgpass' | head -n 40 |
            while IFS= read -r file; do
                [ -r "$file" ] && [ -s "$file" ] && is_text "$file" || continue
                record inner "$file"
                head -c 8192 -- "$file"
            done
    elif [ ! -e "$path" ]; then
        record absent
    elif [ ! -f "$path" ] || [ ! -r "$path" ]; then
        record unreadable
    elif is_text "$path"; then
        record file "$(($(wc -c <"$path")))"
        head -c "$bytes" -- "$path"
    else
        record binary "$(($(wc -c <"$path")))"
    fi
    number=$((number + 1))
done
