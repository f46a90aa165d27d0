#!/bin/sh
# Extract the files of the disk /run/image to /run/work/tree. Runs in the tools tree.
# usage: read_files.sh ROOT_START [ESP_START]
# ROOT_START, ESP_START: offsets of the root and the EFI partition, bytes.
set -eu

debugfs -R 'rdump / /run/work/tree' "/run/image?offset=$1"
if [ $# -gt 1 ]; then
  mkdir -p /run/work/tree/efi
  mcopy -s -m -n -i "/run/image@@$2" ::/ /run/work/tree/efi
fi
