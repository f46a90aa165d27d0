#!/bin/sh
# Download Debian packages and unpack them into a folder, without installing them, for tests that run their programs.
# usage: unpacked.sh FOLDER PACKAGE...
set -eu
# if two makes run at the same time, the second waits, as in apt.sh
[ -n "${VAULT_CUBE_APT:-}" ] || VAULT_CUBE_APT=1 exec flock /var/lib/dpkg sh "$0" "$@"
folder=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
for package in "$@"; do
  [ -e "$folder/.$package" ] && continue
  echo "unpacking $package below $folder" >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  chmod 755 "$work"
  (
    cd "$work"
    apt-get download "$package" >log 2>&1 ||
      { apt-get update >log 2>&1 && apt-get download "$package" >>log 2>&1; } ||
      { echo "make: apt-get cannot download $package: $(sh "$here/apt_reason.sh" log)" >&2; exit 1; }
  )
  mkdir -p "$folder"
  dpkg-deb -x "$work"/*.deb "$folder"
  rm -rf "$work"
  touch "$folder/.$package"
done
