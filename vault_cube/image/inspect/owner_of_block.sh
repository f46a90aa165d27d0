#!/bin/sh
# Write the path of the file that a block of the disk /run/image belongs to into /run/work/owner. Runs in the tools tree.
# usage: owner_of_block.sh ROOT_START BLOCK
# ROOT_START: offset of the root partition, bytes. Writes no file if the block belongs to the file system's metadata.
set -eu

system="/run/image?offset=$1"
inode=$(debugfs -R "icheck $2" "$system" | awk 'NR == 2 {print $2}')
case "$inode" in "" | *[!0-9]*) exit 0 ;; esac
debugfs -R "ncheck $inode" "$system" | awk 'NR == 2 {print $2}' >/run/work/owner
