#!/bin/bash
set -euo pipefail
cat > /app/Makefile <<'MK'
CC = gcc
CFLAGS = -std=c11 -O1 -Wall

SRC = $(wildcard src/*.c)
OBJ = $(patsubst src/%.c,build/%.o,$(SRC))

all: lookup

lookup: $(OBJ)
	$(CC) $(CFLAGS) $(OBJ) -o $@

build/%.o: src/%.c | build/codes_table.h
	$(CC) $(CFLAGS) -Iinclude -Ibuild -MMD -MP -c $< -o $@

build/codes_table.h: data/codes.txt tools/gen-codes.sh | build
	sh tools/gen-codes.sh data/codes.txt > $@

build:
	mkdir -p $@

clean:
	rm -rf build lookup

-include $(OBJ:.o=.d)

.DELETE_ON_ERROR:
.PHONY: all clean
MK
