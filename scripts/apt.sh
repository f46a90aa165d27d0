#!/bin/sh
# Install what of the named packages is missing, and say so. Silent when nothing is.
set -eu
cd "$(dirname "$0")/.."
missing=
for package in "$@"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "make: these packages are missing:$missing; install them, or run as root" >&2
  exit 1
fi
# two makes at once: the second waits, and looks again
[ -n "${VAULT_CUBE_APT:-}" ] || VAULT_CUBE_APT=1 exec flock /var/lib/dpkg scripts/apt.sh "$@"
echo "installing with apt:$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# a bundle carries them: the machine's own sources are left alone
if [ -d carried/debs ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$log" "$work"' EXIT
  mkdir -p "$work/lists/partial"
  echo "deb [trusted=yes] file:$PWD/carried/debs ./" >"$work/sources.list"
  set -- -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User=root
  apt-get "$@" update >"$log" 2>&1
else
  set --
fi
# shellcheck disable=SC2086 # a list of names
apt-get "$@" install -y --no-install-recommends $missing >"$log" 2>&1 ||
  { apt-get "$@" update >"$log" 2>&1 && apt-get "$@" install -y --no-install-recommends $missing >>"$log" 2>&1; } ||
  { tail -n 15 "$log" >&2; echo "make: apt-get could not install:$missing" >&2; exit 1; }
