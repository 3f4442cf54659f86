# PATH...: a line about each.
for p; do
    if [ ! -e "$p" ] && [ ! -L "$p" ]; then
        echo "$p: does not exist"
        continue
    fi
    facts=$(stat -c '%F, %s bytes, mode %a, owner %U:%G, modified %y' -- "$p")
    # To the second.
    facts=${facts%.*}
    [ -L "$p" ] && facts="$facts, links to $(readlink -- "$p")"
    # Lines of what is text, and small enough to be counted in no time.
    if [ -f "$p" ] && [ -r "$p" ] && [ "$(stat -Lc %s -- "$p")" -le 67108864 ]; then
        start=$(head -c 8192 -- "$p" | wc -c)
        if [ "$(head -c 8192 -- "$p" | tr -d '\000' | wc -c)" = "$start" ]; then
            facts="$facts, text of $(($(wc -l <"$p"))) lines"
        else
            facts="$facts, binary"
        fi
    fi
    [ -d "$p" ] && [ -r "$p" ] && facts="$facts, $(($(ls -A -- "$p" | wc -l))) entries"
    echo "$p: $facts"
done
