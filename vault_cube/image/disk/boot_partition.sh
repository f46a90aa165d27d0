#!/bin/sh
# Write the ESP with the unified kernel image to the disk. Runs in the tools tree.
# /run/tree: all layers, mounted. /run/work: the folder of disk.raw. raw_disk.py sets the variables.
set -eu

root=/run/tree
kernel=$(ls "$root/lib/modules")
case "$kernel" in *"
"* | "") echo "the tree must have exactly one kernel in /lib/modules, but has: $kernel"; exit 1 ;; esac
mkdir -p /tmp/esp/EFI/BOOT
# the kernel finds the root partition by its identifier, which is in the pillar
ukify build --linux="$root/boot/vmlinuz-$kernel" --initrd="$root/boot/initrd.img-$kernel" \
  --cmdline="root=PARTUUID=$ROOT_UUID ro $CMDLINE" --os-release="@$root/usr/lib/os-release" --uname="$kernel" \
  --stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub --output=/tmp/esp/EFI/BOOT/BOOTX64.EFI
find /tmp/esp -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
# a FAT file system with a fixed serial number, and the epoch as the time of its entries
truncate -s "${ESP_MIB}M" /tmp/esp.img
mkfs.vfat -F 32 -n ESP -i "$(echo "$ESP_UUID" | cut -c1-8)" --invariant /tmp/esp.img
mcopy -s -m -i /tmp/esp.img /tmp/esp/EFI ::
dd if=/tmp/esp.img of=/run/work/disk.raw bs=1M seek="$GPT_MIB" conv=notrunc,sparse status=none
