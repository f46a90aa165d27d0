#!/bin/sh
# Install Packer if this machine's archive has it; fail with one line if not. Debian 13 and Ubuntu 24.04 do not.
set -eu
command -v packer >/dev/null && exit 0
cd "$(dirname "$0")/.."
case $(LC_ALL=C apt-cache policy packer | sed -n 's/^  Candidate: //p') in
  '' | '(none)')
    echo "Packer is not in this machine's archive" >&2
    exit 1
    ;;
esac
exec /bin/sh scripts/apt.sh packer
