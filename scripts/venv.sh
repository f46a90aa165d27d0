#!/bin/sh
# Make the checkout's virtual environment from its lock, with the distribution's Python.
set -eu
venv=$1
cd "$(dirname "$0")/.."
scripts/apt.sh python3-venv
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
  export PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS="$PWD/carried/wheels"
  export UV_NO_CONFIG=1 UV_OFFLINE=1 UV_NO_INDEX=1 UV_FIND_LINKS="$PWD/carried/wheels"
fi
echo "making $venv from locks/checkout.lock with $($python --version)" >&2
rm -rf "$venv"
"$python" -m venv "$venv"
# install uv with pip and the lock's hash, and everything else with uv
sed -n '/^uv==/,/[^\\]$/p' locks/checkout.lock >"$venv/uv.txt"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$venv/uv.txt"
# uv does not read pip's settings
index=$("$venv/bin/pip" config get global.index-url 2>/dev/null || :)
[ -z "$index" ] || export UV_INDEX_URL="$index"
# compile now: a salt-call that compiles its imports takes three times as long, and PYTHONDONTWRITEBYTECODE may be set
"$venv/bin/uv" pip sync --quiet --compile-bytecode --python "$venv/bin/python" --require-hashes locks/checkout.lock
# import the package itself from the checkout
pwd >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vault_cube.pth"
mkdir -p .salt
