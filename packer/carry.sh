#!/bin/sh
# carry.sh FILE: pack what a box carries of this checkout, for vm and bare_metal. Run at the top of the checkout.
set -eu
set -- "$1" Saltfile pyproject.toml conf salt pillar locks vault_cube workloads _*
out=$1
shift
for part; do
  [ -e "$part" ] || { echo "carry.sh: $part is not here: run it at the top of a checkout" >&2; exit 1; }
done
exec tar --exclude=__pycache__ --owner=0 --group=0 -czf "$out" "$@"
