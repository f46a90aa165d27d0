#!/bin/sh
# image.sh TARGET LOCKED: nothing where the image is what its inputs say; else Packer runs the stages that are missing,
# and where Packer cannot be had, one salt-call runs the same ones.
set -eu
target=$1 locked=$2
status=0
current() {
  .venv/bin/salt-call --out-file=/dev/null image.current target="$target" locked="$locked"
}
current || status=$?
case $status in
  0) exit 0 ;;
  3) ;; # something is to be made
  *) exit 1 ;;
esac
scripts/apt.sh iproute2 mmdebstrap openssh-client
if command -v packer >/dev/null || scripts/apt.sh packer 2>/dev/null; then
  set -- packer build -color=false -var target="$target" -var locked="$locked" packer/demo-box.pkr.hcl
else
  echo "Packer cannot be installed here: one salt-call runs the same stages" >&2
  set -- .venv/bin/salt-call --out-file=/dev/null image.build target="$target" locked="$locked"
fi
status=0
"$@" || {
  echo "make image: stopped; logs in build/$target/logs, finished stages are kept: run it again to go on" >&2
  exit 1
}
# the last lines: what is there, and whether it is what the lock says
current || status=$?
case $status in
  0) ;;
  3) echo "make image: the checkout changed while it was built: run it again, finished stages are kept" >&2; exit 1 ;;
  *) exit 1 ;;
esac
