#!/bin/sh
# Mount a tree with new /proc, /sys, /run, /tmp and /dev, and run a command in it as root.
# usage: chroot.sh ROOT OPTIONS [bind ro|rw SOURCE TARGET]... [overlay OPTIONS TARGET]... -- COMMAND...
# ROOT: the tree, or the empty folder on which an overlay with the mount options OPTIONS is mounted. TARGET: a path in the
# tree, without its first slash. chroot.py runs this in new namespaces, whose end removes all mounts.
set -eu

root=$1 options=$2
shift 2

if [ -n "$options" ]; then
  mount -t overlay overlay -o "$options" "$root"
else
  mount --bind "$root" "$root"
fi
hostname vault-cube
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys 2>/dev/null || mount -t tmpfs -o ro tmpfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp

mount -t tmpfs -o mode=755 tmpfs dev
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  name=${device%%:*} number=${device#*:}
  mknod -m 666 "dev/$name" c "${number%:*}" "${number#*:}"
done
mkdir dev/pts dev/shm
ln -s pts/ptmx dev/ptmx
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mkdir -p run/lock
chmod 1777 run/lock

while [ "$1" != -- ]; do
  case $1 in
    bind)
      mode=$2 source=$3 target=$4
      shift 4
      # a target outside the tmpfs mounts must already exist: creating it would change the tree
      if [ -d "$source" ]; then
        mkdir -p "$target"
      else
        mkdir -p "$(dirname "$target")"
        touch "$target"
      fi
      mount --bind "$source" "$target"
      [ "$mode" = rw ] || mount -o remount,ro,bind "$target"
      ;;
    overlay)
      mkdir -p "$3"
      mount -t overlay overlay -o "$2" "$3"
      shift 3
      ;;
    *)
      echo "chroot.sh: $1: neither bind, overlay nor --" >&2
      exit 2
      ;;
  esac
done
shift

umask 022
exec chroot "$root" "$@"
