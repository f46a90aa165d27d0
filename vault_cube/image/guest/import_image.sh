#!/bin/sh
# Import a container image with the guest's own shell and cat, so that no registry is needed. Runs in the guest.
# usage: import_image.sh TAG
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for file in /bin/sh /bin/cat $(ldd /bin/sh /bin/cat | grep -o '/[^ :]*' | sort -u); do
  mkdir -p "$folder$(dirname "$file")"
  cp -L "$file" "$folder$file"
done
mkdir -p "$folder/usr" "$folder/etc"
tar -C "$folder" -c . | docker import - "$1" >/dev/null
