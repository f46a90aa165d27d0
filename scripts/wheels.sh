#!/bin/sh
# wheels.sh VENV: install the packages of locks/checkout.lock in a new virtual environment, which has pip.
set -eu
cd "$(dirname "$0")/.."
venv=$1
log=$venv/log
# run pip or uv; print one line if it fails
install() {
  "$@" >"$log" 2>&1 && return
  reason=$(PYTHONPATH=$PWD "$venv/bin/python" -m vault_cube.image.locks.indexes "$log")
  echo "make: cannot install the packages of locks/checkout.lock: $reason" >&2
  exit 1
}
# the indexes and certificates that are set for pip or for uv apply to both
variables=$(PYTHONPATH=$PWD "$venv/bin/python" -m vault_cube.image.locks.indexes)
eval "$variables"
# install uv with pip and the lock's hash, and everything else with uv
sed -n '/^uv==/,/[^\\]$/p' locks/checkout.lock >"$venv/uv.txt"
# without a retry, pip does not name the reason of a failure; with a terminal, it would ask for a password
install "$venv/bin/pip" install --retries 2 --no-input --disable-pip-version-check --require-hashes -r "$venv/uv.txt"
# compile now: a salt-call that compiles its imports takes three times as long, and PYTHONDONTWRITEBYTECODE may be set
install "$venv/bin/uv" pip sync --compile-bytecode --python "$venv/bin/python" --require-hashes locks/checkout.lock
