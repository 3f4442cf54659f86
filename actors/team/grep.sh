# PATTERN FLAG PER-FILE WIDTH: lines of the files named on standard input (each ended by a zero byte)
# that match; FLAG is "i" or nothing.
echo | grep -E$2 -e "$1" >/dev/null
[ $? -le 1 ] || exit 3
xargs -0 -r grep -nHIE$2 -m "$3" -e "$1" -- | cut -b "1-$4"
exit 0
