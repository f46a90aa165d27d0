#!/bin/sh
# Make a disk with the layers below the last one. Runs in the tools tree.
# /run/below: the mounted layers. /run/work: the folder of disk.raw. raw_disk.py sets the variables.
set -eu

rm -f /run/work/disk.raw
truncate -s "${TOTAL_MIB}M" /run/work/disk.raw
sfdisk --quiet --no-reread --no-tell-kernel /run/work/disk.raw <<EOF
label: gpt
label-id: $DISK_UUID
unit: sectors
sector-size: 512
start=$((GPT_MIB * 2048)), size=$((ESP_MIB * 2048)), type=uefi, uuid=$ESP_UUID, name=esp
start=$((ROOT_START_MIB * 2048)), size=$((ROOT_MIB * 2048)), type=linux-root-x86-64, uuid=$ROOT_UUID, name=root
EOF
mke2fs -q -F -t ext4 -L root -b 4096 -I 256 -U "$FILESYSTEM_UUID" \
  -E "offset=$((ROOT_START_MIB * 1048576)),hash_seed=$HASH_SEED,lazy_itable_init=0,root_owner=0:0" \
  -d /run/below /run/work/disk.raw "$((ROOT_MIB * 256))"
