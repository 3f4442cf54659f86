# The environment in sections, each headed by a record separator and its name; quick ones first,
# since what is not said in time is left out. No variables, no arguments of processes, and of files
# only names but for the heads of manifests.
export LC_ALL=C
section() { printf '\036%s\n' "$1"; }

section System
echo "user $(id -un 2>/dev/null || id -u), working folder $(pwd)"
while IFS= read -r line; do
    case $line in PRETTY_NAME=*) line=${line#*=\"}; echo "${line%\"}, $(uname -sm)" ;; esac
done 2>/dev/null </etc/os-release
line=$(df -Pk . 2>/dev/null | tail -n 1)
set -- $line
[ $# -lt 6 ] || echo "disk: $(($4 / 1024)) MiB free of $(($2 / 1024)) MiB"

section Files
ls -Ap | head -n 100
for folder in */; do
    folder=${folder%/}
    [ ! -L "$folder" ] || continue
    case $folder in node_modules | target | venv | __pycache__ | '*') continue ;; esac
    case $(pwd)$folder in
        /bin | /boot | /dev | /etc | /lib* | /proc | /run | /sbin | /sys | /usr | /var) continue ;;
    esac
    ls -Ap -- "$folder" 2>/dev/null | head -n 30 | while IFS= read -r name; do
        echo "$folder/$name"
    done
done | head -n 150

section Manifests
for file in package.json pyproject.toml requirements.txt setup.py setup.cfg Cargo.toml go.mod \
    Makefile CMakeLists.txt pom.xml build.gradle Gemfile composer.json; do
    [ -f "$file" ] && [ -r "$file" ] && [ ! -L "$file" ] || continue
    echo "--- $file"
    head -n 40 -- "$file" | head -c 1500 | tr '\036' ' '
    echo
done

section Processes
read -r agent </proc/1/comm
for process in /proc/[0-9]*; do
    [ "$process" != "/proc/$$" ] || continue
    read -r name <"$process/comm" || continue
    [ "$name" = "$agent" ] || echo "$name"
done 2>/dev/null

if command -v git >/dev/null; then
    section Git
    git -c 'safe.directory=*' -c core.fsmonitor=false --no-optional-locks \
        status --short --branch 2>/dev/null | head -n 20
fi

section Tools
for tool in bash python3 pip node npm gcc g++ make cmake git cargo rustc go java ruby perl php \
    sqlite3 curl tmux; do
    command -v "$tool" >/dev/null || continue
    # Programs of an interpreter that is told with its version: they take seconds to say theirs.
    case $tool in pip | npm) echo "$tool"; continue ;; esac
    case $tool in
        go) set -- version ;;
        java) set -- -version ;;
        tmux) set -- -V ;;
        *) set -- --version ;;
    esac
    echo "$tool: $("$tool" "$@" 2>&1 </dev/null | while IFS= read -r line; do
        [ -z "$line" ] || { echo "$line"; break; }
    done)"
done
