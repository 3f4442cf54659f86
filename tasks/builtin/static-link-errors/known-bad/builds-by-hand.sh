#!/bin/bash
# Wrong: makes one binary by hand and leaves the Makefile as broken as it was.
set -euo pipefail
cd /app
for f in vec geom config; do sed -i '1i #pragma once' include/$f.h; done
mkdir -p build bin
gcc -fcommon -O1 -Iinclude src/*.c -lm -o bin/polygon
