#!/bin/sh
# writable.sh PATH...: fail with one line if this user may not write a path, or create it where it is missing.
set -eu
for path in "$@"; do
  while [ ! -e "$path" ]; do path=$(dirname "$path"); done
  [ -w "$path" ] && continue
  owner=$(stat -c %U "$path")
  path=$(realpath "$path")
  echo "make: $path belongs to $owner: run make as $owner, remove it, or use a clone of your own" >&2
  exit 1
done
