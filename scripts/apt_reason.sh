#!/bin/sh
# apt_reason.sh LOG: print in one line why apt-get failed, and what to do, from its output.
set -eu
[ -z "${VAULT_CUBE_DEBUG:-}" ] || cat "$1" >&2
reason=$(sed -n 's/^[WE]: \(Failed to fetch .*\)/\1/p' "$1" | head -n 1)
if [ -n "$reason" ]; then
  echo "$reason: check this machine's network, and the proxy of apt (Acquire::http::Proxy)"
else
  reason=$(sed -n 's/^E: //p' "$1" | head -n 1)
  echo "${reason:-no reason given}: correct apt's sources, or see it with VAULT_CUBE_DEBUG=1"
fi
