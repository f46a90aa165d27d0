"""Compare a box with the manifest that its image carries.

The image has a copy of this folder in /usr/lib/vault-cube, which the distribution's own Python runs. So the comparison
depends neither on the box's checkout nor on Salt's environment, and both are compared, too. Only the standard library
and vault_cube.tree_manifest are imported here.

manifest   the image's manifest: all files, packages and accounts, and what is expected to change
scan       the differences of files
index      file states that were already read
packages   the differences of installed packages, and their verification
people     the differences of accounts, and of the keys that may log in
running    the differences of the running system: firewall, sysctl, ports, clock
derived    files that programs derive from others, such as byte code
findings   the class of each difference
program    the commands `compare`, `guard`, `accept`, `restore` and `explain`
"""
