#!/bin/bash
# pack.sh SRC VERSION OUT: make the release tarball OUT of the source tree SRC.
set -e
tar -czf "$3" "$1"
