#!/bin/sh
# image.sh TARGET LOCKED: if the image is not up to date, run the missing stages with Packer, or with one salt-call if
# this machine's archive has no Packer.
set -eu
target=$1 locked=$2
status=0
current() {
  .venv/bin/salt-call --out-file=/dev/null image.current target="$target" locked="$locked"
}
current || status=$?
case $status in
  0) exit 0 ;;
  3) ;; # the image has to be built
  *) exit 1 ;;
esac
if [ "$(id -u)" != 0 ]; then
  echo "make image: building an image needs root: run \`sudo make image TARGET=$target\`" >&2
  exit 1
fi
# shellcheck disable=SC2086 # a list of names
sh scripts/apt.sh ${BUILDER:?set by the Makefile}
if sh scripts/packer.sh; then
  set -- packer build -color=false -var target="$target" -var locked="$locked" packer/demo-box.pkr.hcl
else
  echo "building without Packer: one salt-call runs the same stages" >&2
  set -- .venv/bin/salt-call --out-file=/dev/null image.build target="$target" locked="$locked"
fi
status=0
"$@" || {
  echo "make image: failed or stopped; logs are in build/$target/logs; finished stages are kept: run it again to continue" >&2
  exit 1
}
# print the files of the image, and whether they match the lock
current || status=$?
case $status in
  0) ;;
  3) echo "make image: the checkout changed during the build: run it again; finished stages are kept" >&2; exit 1 ;;
  *) exit 1 ;;
esac
