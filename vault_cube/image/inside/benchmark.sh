#!/bin/sh
# Run gpu.benchmark in the tree of an image, then read its grain and write its report. Exits with the benchmark's status.
# usage: benchmark.sh ANSWERS ARGUMENT...
# ANSWERS: folder for the answers of Salt, JSON. ARGUMENT: passed to gpu.benchmark.
set -eu

answers=$1
shift
call() {
  name=$1
  shift
  salt-call --local --retcode-passthrough --log-level=quiet --out=json --out-file="$answers/$name" "$@"
}
status=0
call benchmark gpu.benchmark "$@" || status=$?
# Salt's cache in the tree is empty, so the grain can only come from this run
call grain grains.item gpu_benchmark || :
call report gpu.report || :
exit "$status"
