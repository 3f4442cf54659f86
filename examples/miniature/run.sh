#!/usr/bin/env bash
# The published result in miniature: base, measurement, stage 1, measurement, stage 2, held-out tasks.
#
# Usage: run.sh [SEED...]         the experiment, for these seeds (default: 0 1 2)
#        run.sh --ablations SEED  what each choice is worth, from the base of this seed
#        run.sh --table           the tables and the report, of what is there
#
# Everything lands in $OUT (default: runs/miniature). Started again, it goes on where it was stopped.
# $ORCAPACK is the program (default: target/release/orcapack, built when it is missing).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=${OUT:-runs/miniature}
program=${ORCAPACK:-$root/target/release/orcapack}
steps=${STEPS:-60} # of each stage

[ -x "$program" ] || (cd "$root" && cargo build --release --locked)
mkdir -p "$out"
out=$(cd "$out" && pwd)

# step NAME COMMAND...: unless it has been done. A run of this name that was stopped is resumed.
step() {
  local name=$1
  shift
  [ -e "$runs/$name.done" ] && return
  echo "== $(basename "$runs"): $name" >&2
  "$@"
  date -u +%FT%TZ >"$runs/$name.done"
}

# run NAME COMMAND OPTIONS...: a run of the program, in this seed's folder.
run() {
  local name=$1 command=$2
  shift 2
  if [ -e "$runs/$name/run.db" ]; then
    step "$name" "$program" "$command" --name "$name" --runs-dir "$runs" --resume -q >>"$out/log.txt"
  else
    step "$name" "$program" "$command" --name "$name" --runs-dir "$runs" --clean -q "$@" >>"$out/log.txt"
  fi
}

# The newest checkpoint of a run.
checkpoint() {
  find "$runs/$1/checkpoints" -maxdepth 1 -name 'step_*' | sort -V | tail -n 1
}

# measure NAME CHECKPOINT TASKS ATTEMPTS: all at the same concurrency and with the same budgets.
measure() {
  run "$1" eval -c "$here/policy.toml" --policy "$2" -d "$3" -k "$4" -n 32 --sandbox process \
    --set models.policy.seed="$seed"
}

# train NAME TASKS BASE STEPS OPTIONS...
train() {
  local name=$1 tasks=$2 base=$3 count=$4
  shift 4
  run "$name" train -c "$here/train.toml" -d "$tasks" --base "$base" --steps "$count" --seed "$seed" \
    --set models.policy.seed="$seed" "$@"
  measure "$name-held-out" "$(checkpoint "$name")" "$runs/held-out" 2
}

# tasks NAME COUNT SEED OPTIONS...: a folder of generated tasks.
tasks() {
  local name=$1 count=$2 from=$3
  shift 3
  step "$name" "$program" tasks generate --family files --difficulty easy --count "$count" --seed "$from" \
    -o "$runs/$name" "$@"
}

# The tasks, and a policy that has learnt what a demonstrator did. It is trained and measured on tasks
# that nobody has shown it: of those it has been shown it remembers what the demonstrator did there.
base() {
  tasks shown 1920 "$((1000 + seed))"
  tasks tasks 1600 "$seed"
  tasks held-out 300 "$seed" --split held-out
  run demo eval -c "$here/demo.toml" -d "$runs/shown" -n 16 --sandbox process \
    --set models.demo.seed="$seed"
  run base sft --from "$runs/demo" --new --epochs 10 --set data.reward_min=0 --set data.held_out=0 \
    --set train.batch_samples=16 --set train.warmup_steps=30 --set train.seed="$seed" \
    --set policy.new.seed="$seed"
  measure base-held-out "$(checkpoint base)" "$runs/held-out" 2
}

experiment() {
  base
  measure base-3 "$(checkpoint base)" "$runs/tasks" 3
  step stage-1.toml "$program" tasks curriculum "$runs/base-3" --min 1 --max 2 --of 3 --name stage-1 \
    -o "$runs/stage-1.toml"
  train stage-1 "$runs/stage-1.toml" "$(checkpoint base)" "$steps"
  measure stage-1-5 "$(checkpoint stage-1)" "$runs/tasks" 5
  step stage-2.toml "$program" tasks curriculum "$runs/stage-1-5" --min 1 --max 4 --of 5 --name stage-2 \
    -o "$runs/stage-2.toml"
  train stage-2 "$runs/stage-2.toml" "$(checkpoint stage-1)" "$steps"
}

# As many steps as both stages have, from the same base, on all tasks; and one thing changed at a time.
ablations() {
  base
  local from all=$((2 * steps))
  from=$(checkpoint base)
  train no-curriculum "$runs/tasks" "$from" "$all"
  train online "$runs/tasks" "$from" "$all" --set curriculum.enabled=true
  train shaped "$runs/tasks" "$from" "$all" --set train.action_bonus=0.5
  train group-4 "$runs/tasks" "$from" "$all" --set rollouts.n_attempts=4 --set train.groups_per_step=32
  train group-16 "$runs/tasks" "$from" "$all" --set rollouts.n_attempts=16 --set train.groups_per_step=8
  for behind in 0 4 8; do
    train "behind-$behind" "$runs/tasks" "$from" "$all" --set train.max_off_policy_steps="$behind"
  done
}

# arm NAME: NAME=RUN,RUN of all seeds that have it.
arm() {
  local found
  found=$(find "$out" -mindepth 2 -maxdepth 2 -name "$1-held-out.done" | sort | sed 's/\.done$//' | paste -sd, -)
  [ -z "$found" ] || echo "$1=$found"
}

# tables REPORT NAME...: prints the comparison of these arms, and writes REPORT.html.
tables() {
  local report=$1 arms=()
  shift
  for name in "$@"; do
    arms+=($(arm "$name"))
  done
  [ ${#arms[@]} -lt 2 ] || "$program" compare "${arms[@]}" --html "$out/$report.html"
}

case ${1:-} in
--table)
  tables stages base stage-1 stage-2
  tables ablations no-curriculum stage-2 online shaped group-4 group-16 behind-0 behind-4 behind-8
  ;;
--ablations)
  seed=$2 runs=$out/seed-$2
  mkdir -p "$runs"
  ablations
  ;;
*)
  [ $# -gt 0 ] || set -- 0 1 2
  for seed; do
    runs=$out/seed-$seed
    mkdir -p "$runs"
    experiment
  done
  tables stages base stage-1 stage-2
  ;;
esac
