#!/bin/sh
# Install those of the given packages that are missing. Prints nothing if all are installed.
set -eu
cd "$(dirname "$0")/.."
missing=
for package in "$@"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "make: missing packages:$missing: install them, or run make as root" >&2
  exit 1
fi
# if two makes run at the same time, the second waits for the lock and then checks again
[ -n "${VAULT_CUBE_APT:-}" ] || VAULT_CUBE_APT=1 exec flock /var/lib/dpkg sh scripts/apt.sh "$@"
echo "installing with apt:$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
failed() {
  echo "make: apt-get cannot install$missing: $(sh scripts/apt_reason.sh "$log")" >&2
  exit 1
}
# in an unpacked bundle, install from its repository and ignore the sources of the machine
if [ -d carried/debs ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$log" "$work"' EXIT
  mkdir -p "$work/lists/partial"
  # apt takes a blank for the end of a path
  echo "deb [trusted=yes] file:$(printf %s "$PWD" | sed 's/%/%25/g; s/ /%20/g')/carried/debs ./" >"$work/sources.list"
  set -- -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User=root
  apt-get "$@" update >"$log" 2>&1 || failed
else
  set --
fi
# shellcheck disable=SC2086 # $missing is a list of names
apt-get "$@" install -y --no-install-recommends $missing >"$log" 2>&1 ||
  { apt-get "$@" update >"$log" 2>&1 && apt-get "$@" install -y --no-install-recommends $missing >>"$log" 2>&1; } ||
  failed
