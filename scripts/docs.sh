#!/bin/sh
# docs.sh FOLDER: build the documentation site in FOLDER/site with the packages of locks/docs.lock, in an environment of
# its own. Only the first build needs a network.
set -eu
cd "$(dirname "$0")/.."
folder=$1
venv=$folder/venv
sh scripts/writable.sh "$folder" "$venv" "$folder/site" "$folder/log"
sh scripts/apt.sh graphviz
if ! cmp -s locks/docs.lock "$venv/docs.lock"; then
  rm -rf "$venv"
  # the indexes and certificates that are set for pip or for uv apply to both
  variables=$(.venv/bin/python -m vault_cube.image.locks.indexes)
  eval "$variables"
  .venv/bin/uv venv --quiet --python .venv/bin/python "$venv"
  .venv/bin/uv pip sync --python "$venv/bin/python" --require-hashes locks/docs.lock >"$folder/log" 2>&1 || {
    reason=$(.venv/bin/python -m vault_cube.image.locks.indexes "$folder/log")
    echo "make docs: cannot install the packages of locks/docs.lock: $reason" >&2
    exit 1
  }
  cp locks/docs.lock "$venv/"
fi
# Material prints a notice about its successor on each run
export NO_MKDOCS_2_WARNING=1
# not --quiet, with which --strict misses warnings
if ! "$venv/bin/python" -m mkdocs build --strict --clean --config-file docs/site/mkdocs.yml >"$folder/log" 2>&1; then
  grep -v '^INFO' "$folder/log" >&2
  exit 1
fi
# the site must work without a network: no script, style sheet, font or image from another host
if grep -rlE '<(script|link|img|iframe)[^>]+(src|href)="?(https?:)?//' --include='*.html' "$folder/site" >&2; then
  echo "make docs: these pages load files from another host: see docs/site/mkdocs.yml" >&2
  exit 1
fi
echo "$folder/site/index.html"
