#!/bin/bash
# deploy.sh ROOT ARTIFACT
set -e

ROOT=$1
ARTIFACT=$2
ID=$(basename $ARTIFACT .tar.gz)
REL=$ROOT/releases/$ID
LOCK=$ROOT/.deploy.lock
STATUS=ok

mkdir $LOCK 2>/dev/null || { echo "another deploy is running" >&2; exit 5; }
trap 'rmdir $LOCK; echo "$ID $STATUS" >> $ROOT/deploy.log' EXIT

if [ -d $REL ]; then
  echo "$ID is already there" >&2
  exit 3
fi

unpack() {
  mkdir -p $REL
  gzip -dc $ARTIFACT | tar -x -C $REL
}

run_hook() {
  local hook=$REL/hooks/$1
  if [ -x $hook ]; then
    cd $REL
    local out=$(RELEASE_ID=$ID $hook 2>&1)
    echo "$out"
  fi
}

activate() {
  PREVIOUS=$(readlink $ROOT/current)
  ln -sf releases/$ID $ROOT/current
}

prune() {
  ls -t $ROOT/releases | tail -n +4 | while read old; do
    rm -rf $ROOT/releases/$old
  done
}

if ! unpack; then
  STATUS=failed
  rm -rf $REL
  exit 4
fi
if ! run_hook pre-activate; then
  STATUS=failed
  rm -rf $REL
  exit 4
fi
activate
if ! run_hook post-activate; then
  STATUS=failed
  ln -sf $PREVIOUS $ROOT/current
  rm -rf $REL
  exit 4
fi
prune
