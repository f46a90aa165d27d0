#!/bin/sh
# Stands in for chroot during the second build of verify.py: runs each command in a tree with a later clock.
# usage: chroot ROOT env -i VARIABLE=VALUE... COMMAND...
# Environment: VC_LIBFAKETIME, the library; VC_LATER_S, by how many seconds the clock is ahead; VC_FAKETIME_FAILED, the
# file that gets one line for each command whose tree cannot load the library.
set -u

[ "${2-} ${3-}" = "env -i" ] || exec /usr/sbin/chroot "$@"
root=$1
shift 3
# /run of the tree is a tmpfs
cp "$VC_LIBFAKETIME" "$root/run/libfaketime.so.1"
later() {
  echo "LD_PRELOAD=/run/libfaketime.so.1 FAKETIME=+$VC_LATER_S DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1"
}
# shellcheck disable=SC2046 # several variables
now=$(/usr/sbin/chroot "$root" env -i $(later) date +%s 2>/dev/null || :)
if [ "${now:-0}" -lt "$(($(date +%s) + VC_LATER_S / 2))" ]; then
  echo "$*" >>"$VC_FAKETIME_FAILED"
  exec /usr/sbin/chroot "$root" env -i "$@"
fi
# shellcheck disable=SC2046 # several variables
exec /usr/sbin/chroot "$root" env -i $(later) "$@"
