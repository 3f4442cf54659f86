#!/bin/bash
set -euo pipefail
mkdir -p /app/sample/pool/a /app/sample/pool/b /app/sample/dists
cd /app/sample
printf 'libfoo 1.0 payload\n' | tee pool/a/libfoo_1.0.deb pool/b/libfoo_1.0.deb "pool/b/libfoo (copy).deb" > /dev/null
printf 'index\n' | tee dists/Packages dists/Packages.old > /dev/null
chmod 600 dists/Packages.old
ln dists/Packages dists/Packages.link
ln -s ../pool/a/libfoo_1.0.deb dists/latest.deb
: > pool/a/.keep
: > pool/b/.keep
touch -d '2024-03-01 10:00:00 UTC' pool/b/libfoo_1.0.deb
touch -d '2024-04-01 10:00:00 UTC' pool/a/libfoo_1.0.deb "pool/b/libfoo (copy).deb"
touch -d '2024-05-01 10:00:00 UTC' dists/Packages dists/Packages.old
