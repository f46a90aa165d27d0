#!/bin/sh
# Make the checkout's virtual environment from its lock, with the distribution's Python.
set -eu
venv=$1
cd "$(dirname "$0")/.."
sh scripts/writable.sh . "$venv"
sh scripts/apt.sh python3-venv
python=
for candidate in /usr/bin/python3 python3.14 python3.13 python3.12 python3.11; do
  if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || { echo "make: Python 3.11 to 3.14 is needed: apt-get install python3" >&2; exit 1; }
# an unpacked bundle has the wheels, which fit only one release of one distribution
if [ -f carried/machine ]; then
  # shellcheck disable=SC1091 # exists on every machine
  here="$(. /etc/os-release && echo "${VERSION_CODENAME:-unknown}") $("$python" -c 'import sys; print(*sys.version_info[:2], sep=".")')"
  [ "$here" = "$(cat carried/machine)" ] || {
    echo "make: this bundle was made for $(cat carried/machine), this machine is $here: make a bundle on such a machine" >&2
    exit 1
  }
  # a URL, because pip takes a blank for the end of a path, and uv a comma
  wheels=$("$python" -c 'import pathlib; print(pathlib.Path("carried/wheels").resolve().as_uri())')
  export PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS="$wheels"
  export UV_NO_CONFIG=1 UV_OFFLINE=1 UV_NO_INDEX=1 UV_FIND_LINKS="$wheels"
fi
echo "making $venv from locks/checkout.lock with $($python --version)" >&2
rm -rf "$venv"
# on a file system without links (vfat, some network shares) the environment is elsewhere, and $venv/bin has wrappers
wrappers=
rm -f .salt.link
if ln -s x .salt.link 2>/dev/null; then
  rm -f .salt.link
else
  wrappers=$venv/bin
  venv=${XDG_CACHE_HOME:-$HOME/.cache}/vault-cube/venv-$(pwd | sha256sum | cut -c1-12)
  rm -rf "$venv"
  echo "this file system has no symbolic links: the environment is in $venv" >&2
fi
"$python" -m venv "$venv"
sh scripts/wheels.sh "$venv"
# salt-call finds the checkout's configuration from any folder; -P: no module of the current folder
python=$(cd "$venv/bin" && pwd)/python
# shellcheck disable=SC2016 # "$@" is for the script
printf '#!/bin/sh\nexec "%s" -P -m vault_cube.salt_call "$@"\n' "$python" >"$venv/bin/salt-call"
# import the package itself from the checkout
pwd >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vault_cube.pth"
if [ -n "$wrappers" ]; then
  mkdir -p "$wrappers"
  for program in "$venv"/bin/*; do
    # shellcheck disable=SC2016 # "$@" is for the wrapper
    printf '#!/bin/sh\nexec "%s" "$@"\n' "$program" >"$wrappers/${program##*/}"
    chmod +x "$wrappers/${program##*/}"
  done
fi
mkdir -p .salt
