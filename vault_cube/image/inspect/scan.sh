#!/bin/sh
# Mount the layers of an image read-only and evaluate an OpenSCAP profile on them, from outside.
# usage: scan.sh OPTIONS ROOT OSCAP_ARGUMENTS...
# OPTIONS: of the overlay mount. ROOT: an empty folder. scan.py runs this in new namespaces, whose end removes the mount.
set -eu
options=$1 root=$2
shift 2
mount -t overlay overlay -o "$options" "$root"
export OSCAP_PROBE_ROOT="$root"
exec oscap xccdf eval "$@"
