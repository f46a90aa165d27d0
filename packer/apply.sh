#!/bin/sh
# Runs on the machine as root: install the copied checkout and apply LAYERS from it.
# TARGET: a name in pillar/targets/. LAYERS: names, in order.
# Set by tests only: ARCHIVE, the archive of the copied checkout; CHECKOUT and SALT, the paths in vault_cube/paths.py.
set -eu
archive=${ARCHIVE:-/tmp/vault-cube-checkout.tar.gz}
CHECKOUT=${CHECKOUT:-/opt/vault-cube/checkout}
salt=${SALT:-/opt/vault-cube/salt}
: "${TARGET:?}" "${LAYERS:?}"

# unpack beside the old checkout and then replace it, so that an interruption leaves the old one intact
rm -rf "$CHECKOUT.new" "$CHECKOUT.old"
mkdir -p "$CHECKOUT.new"
tar -xzf "$archive" -C "$CHECKOUT.new"
rm -f "$archive"
[ -f "$CHECKOUT.new/pillar/targets/$TARGET.sls" ] || { echo "apply.sh: $TARGET: no such target in pillar/targets/" >&2; rm -rf "$CHECKOUT.new"; exit 1; }
if [ -e "$CHECKOUT" ]; then mv "$CHECKOUT" "$CHECKOUT.old"; fi
mv "$CHECKOUT.new" "$CHECKOUT"
rm -rf "$CHECKOUT.old"

# if the machine is not a box yet, make Salt's environment from the target's lock
if [ ! -x "$salt/bin/salt-call" ]; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv
  /usr/bin/python3 -m venv "$salt"
  "$salt/bin/pip" install --quiet --require-hashes --no-deps -r "$CHECKOUT/locks/$TARGET/python-salt.lock"
  for site in "$salt"/lib/python3*/site-packages; do echo "$CHECKOUT" >"$site/vault_cube.pth"; done
fi

# use the checkout's minion file until the states have written that of the box
cd "$CHECKOUT"
conf=/etc/salt
if ! grep -qs "$CHECKOUT/conf/common.conf" /etc/salt/minion; then
  conf=$CHECKOUT/conf
  mkdir -p "$conf/minion.d"
  printf 'vault_cube: {target: %s, checkout: %s}\n' "$TARGET" "$CHECKOUT" >"$conf/minion.d/box.conf"
fi
for layer in $LAYERS; do
  echo "apply.sh: $layer"
  "$salt/bin/salt-call" --local --config-dir "$conf" --retcode-passthrough state.apply "$layer"
done
