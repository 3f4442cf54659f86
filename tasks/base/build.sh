#!/usr/bin/env bash
# Builds the base image `orcapack/base:1` of the built-in tasks from Debian packages; no registry is needed.
#
# It lands in two places, with the same bytes in both, so that both sandboxes run the same system:
#   - unpacked, for `--sandbox process`: ${ORCAPACK_CACHE:-~/.cache/orcapack}/rootfs/orcapack/base:1
#   - in the Docker engine, for `--sandbox docker`, when an engine answers.
# Needs root, Debian or Ubuntu with debootstrap (installed by apt-get when missing), and a Debian mirror.
# A finished base is left alone; `--force` builds it again.
set -euo pipefail

image=orcapack/base:1
suite=bookworm
mirror=${ORCAPACK_DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages=bash,bc,bzip2,ca-certificates,curl,file,gcc,git,jq,less,libc6-dev,lsof,make,netcat-openbsd,procps,psmisc,python3,python3-pytest,sqlite3,unzip,xz-utils,zip
store=${ORCAPACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/orcapack}/rootfs
root=$store/$image

[ "$(id -u)" = 0 ] || { echo "build.sh: must run as root (debootstrap makes device nodes), uid is $(id -u)" >&2; exit 1; }
if [ "${1:-}" = --force ]; then rm -rf "$root"; fi

if [ ! -d "$root" ]; then
  if ! command -v debootstrap >/dev/null; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
  fi
  mkdir -p "$(dirname "$root")"
  staging=$(mktemp -d "$store/staging.XXXXXX")
  trap 'rm -rf "$staging"' EXIT
  echo "build.sh: debootstrap $suite into $root (a minute or two)" >&2
  debootstrap --variant=minbase --include="$packages" "$suite" "$staging" "$mirror" >"$store/debootstrap.log" 2>&1 ||
    { tail -n 20 "$store/debootstrap.log" >&2; echo "build.sh: debootstrap failed, whole log: $store/debootstrap.log" >&2; exit 1; }
  rm -rf "$staging"/var/cache/apt/archives/*.deb "$staging"/var/lib/apt/lists/* "$staging"/usr/share/{doc,man,locale}/*
  : >"$staging/etc/resolv.conf"
  chmod 755 "$staging"
  mv "$staging" "$root"
  trap - EXIT
  if command -v docker >/dev/null; then docker image rm -f "$image" >/dev/null 2>&1 || true; fi
fi

if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
  if ! docker image inspect "$image" >/dev/null 2>&1; then
    echo "build.sh: importing $image into the Docker engine" >&2
    tar -C "$root" --numeric-owner -c . | docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'CMD ["bash"]' - "$image" >/dev/null
  fi
else
  echo "build.sh: no Docker engine answers; built for --sandbox process only" >&2
fi
echo "build.sh: $image is ready"
