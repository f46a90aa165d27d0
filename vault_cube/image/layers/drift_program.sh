#!/bin/sh
# Install the program that compares a box with its image, and a copy of what it restores. Runs in the tree of the last layer.
# Not a state: a state would write the box's own, perhaps changed, copy over it. SOURCE_DATE_EPOCH is set.
set -eu
umask 022

home=/usr/lib/vault-cube
source=/run/vault-cube/checkout/vault_cube
mkdir -p "$home/vault_cube/drift"
cp "$source/__init__.py" "$source/tree_manifest.py" "$home/vault_cube/"
cp "$source/drift/"*.py "$home/vault_cube/drift/"
# -I: no search path of the caller; -B and the prefix: neither write nor read byte code
cat >"$home/drift" <<'END'
#!/usr/bin/python3 -IBXpycache_prefix=/nonexistent
import sys

sys.path.insert(0, "/usr/lib/vault-cube")
from vault_cube.drift.program import main

sys.exit(main(sys.argv[1:]))
END
chmod 0755 "$home/drift"
# tar ends with 1 for a folder that overlayfs copies up while it is read
tar --create --file=/run/vault-cube/checkout.tar --directory=/ --format=gnu --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
  --owner=0 --group=0 --numeric-owner --warning=no-file-changed opt/vault-cube/checkout etc/salt/minion || [ $? -eq 1 ]
gzip -n -9 </run/vault-cube/checkout.tar >"$home/checkout.tar.gz"
: >"$home/manifest.gz"
# the tables of accounts and the owner's pillar are for root only
chmod 0600 "$home/checkout.tar.gz" "$home/manifest.gz"
