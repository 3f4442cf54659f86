#!/bin/sh
# gen-codes.sh FILE: print the C table of the codes in FILE. Fails on a line that is no code.
echo "/* made from $1, do not edit */"
echo "static const struct { int number; const char *text; } codes[] = {"
while read -r number text; do
  case $number in
    ''|'#'*) continue ;;
    *[!0-9]*) echo "gen-codes.sh: bad line in $1: $number $text" >&2; exit 1 ;;
  esac
  echo "    {$number, \"$text\"},"
done < "$1"
echo "};"
