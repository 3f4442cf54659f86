#!/bin/bash
# prune-backups.sh [-n] DIR KEEP
# Keep the KEEP newest backups of every label in DIR and delete the others.
dry=0
if [ $1 = "-n" ]; then dry=1; shift; fi
dir=$1
keep=$2

[ -d $dir ] || { echo "no such directory: $dir"; exit 1; }
cd $dir

for label in $(ls *.tar.gz | cut -d_ -f1 | sort -u); do
  n=0
  for f in $(ls -t $label*.tar.gz); do
    n=$((n + 1))
    if [ $n -gt $keep ]; then
      echo $f
      [ $dry = 1 ] || rm $f $f.sha256
    fi
  done
done
