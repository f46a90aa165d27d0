#!/bin/sh
# Add the last layer to the disk's file system. Runs in the tools tree.
# /run/below: the lower layers. /run/tree: all layers. /run/top: the last layer's own folder. /run/work: the folder of
# disk.raw. raw_disk.py sets the variables.
set -eu

mkdir /tmp/values
python3 -B /run/disk/ext4_changes.py /run/below /run/tree /run/top "$SOURCE_DATE_EPOCH" /tmp/values >/tmp/changes
system="/run/work/disk.raw?offset=$((ROOT_START_MIB * 1048576))"
# debugfs continues after an error and exits with 0, so any line on stderr except the first, its version, is an error
debugfs -w -f /tmp/changes "$system" 2>/tmp/errors >/dev/null
if [ "$(wc -l </tmp/errors)" -ne 1 ]; then cat /tmp/errors; exit 1; fi
e2fsck -f -n "$system"
