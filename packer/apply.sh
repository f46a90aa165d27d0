#!/bin/sh
# Runs on the machine, as root: put the copied checkout in its place and apply LAYERS from it.
# TARGET: a name in pillar/targets/. LAYERS: names, in order.
# Only tests set the rest. ARCHIVE: the copied checkout. CHECKOUT, SALT: the paths of vault_cube/paths.py.
set -eu
archive=${ARCHIVE:-/tmp/vault-cube-checkout.tar.gz}
CHECKOUT=${CHECKOUT:-/opt/vault-cube/checkout}
salt=${SALT:-/opt/vault-cube/salt}
: "${TARGET:?}" "${LAYERS:?}"

# beside it first, then in its place: an interrupted copy leaves the box its old checkout
rm -rf "$CHECKOUT.new" "$CHECKOUT.old"
mkdir -p "$CHECKOUT.new"
tar -xzf "$archive" -C "$CHECKOUT.new"
rm -f "$archive"
[ -f "$CHECKOUT.new/pillar/targets/$TARGET.sls" ] || { echo "apply.sh: $TARGET: no such target in pillar/targets/" >&2; rm -rf "$CHECKOUT.new"; exit 1; }
if [ -e "$CHECKOUT" ]; then mv "$CHECKOUT" "$CHECKOUT.old"; fi
mv "$CHECKOUT.new" "$CHECKOUT"
rm -rf "$CHECKOUT.old"

# a machine that is no box yet: Salt's environment as the target's lock says
if [ ! -x "$salt/bin/salt-call" ]; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv
  /usr/bin/python3 -m venv "$salt"
  "$salt/bin/pip" install --quiet --require-hashes --no-deps -r "$CHECKOUT/locks/$TARGET/python-salt.lock"
  for site in "$salt"/lib/python3*/site-packages; do echo "$CHECKOUT" >"$site/vault_cube.pth"; done
fi

# the box's own minion file once the states have written it; until then the checkout's
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
