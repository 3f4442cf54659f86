# ROOT DEPTH FILES: paths below ROOT, each ended by a zero byte, DEPTH levels deep at most (nothing:
# all), of files only if FILES is "f". Left out: what version control keeps, and the kernel's files.
[ -e "$1" ] || { echo 'no such file or folder' >&2; exit 3; }
if [ ! -d "$1" ]; then
    printf '%s\0' "$1"
    exit
fi
find "$1" -mindepth 1 ${2:+-maxdepth "$2"} \
    \( -name .git -o -name .hg -o -name .svn -o -path /proc -o -path /sys -o -path /dev \) -prune \
    -o ${3:+-type "$3"} -print0
# A folder that may not be entered has been told of on standard error.
exit 0
