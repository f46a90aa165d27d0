"""Make test trees with all changes that a last layer can make: `last_layer.py lower|upper FOLDER EPOCH`."""

import os
import shutil
import sys
from pathlib import Path

# version 2, cap_net_raw+ep
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
LONG = "a/way/that/is/longer/than/the/sixty/letters/that/an/inode/has/room/for/in/itself"


def write(tree, path, content="x", mode=0o644):
    file = tree / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    file.chmod(mode)
    return file


def lower(tree):
    """Write the files of the lower layers."""
    for number in range(300):
        write(tree, f"many/a file of some name {number}")
    for path in ("gone/deep/er/file", "gone/other", "opaque/old", "opaque/both", "becomes-link/in", "etc/stays"):
        write(tree, path, path)
    write(tree, "becomes-folder")
    write(tree, "big", b"big" * (1 << 20))
    write(tree, "etc/conf", "old")
    write(tree, "shared/one", "two names")
    os.link(tree / "shared/one", tree / "shared/two")
    os.setxattr(write(tree, "bin/ping", mode=0o755), "security.capability", CAPABILITY)
    os.setxattr(write(tree, "attributes/in").parent, "trusted.old", b"goes")
    (tree / "link").symlink_to("etc/conf")
    (tree / "etc/odd").mkdir(mode=0o1777)


def upper(tree):
    """Make the changes of the last layer."""
    for number in range(0, 300, 2):
        (tree / f"many/a file of some name {number}").unlink()
    for number in range(400):
        write(tree, f"many/another file, of a longer name, so that the folder grows {number}", str(number))
    shutil.rmtree(tree / "gone")
    shutil.rmtree(tree / "opaque")
    write(tree, "opaque/both", "new")
    shutil.rmtree(tree / "becomes-link")
    os.symlink("opaque/", tree / "becomes-link")  # noqa: PTH211 a Path cannot end with a slash
    (tree / "becomes-folder").unlink()
    write(tree, "becomes-folder/in")
    write(tree, "big", b"bigger" * (1 << 20))
    write(tree, "etc/conf", "new and longer")
    write(tree, "shared/one", "one name less")
    write(tree, "bin/ping", "changed", 0o755)
    os.setxattr(write(tree, "bin/new", mode=0o4755), "security.capability", CAPABILITY)
    os.removexattr(tree / "attributes", "trusted.old")
    os.setxattr(tree / "attributes", "trusted.new", b"comes\0with a zero byte")
    (tree / "link").unlink()
    (tree / "link").symlink_to(LONG)
    for name in (' "quoted" name', "-dash", "<2>", "ümlaut", "pair-one"):
        write(tree, f"odd/{name}", name)
    write(tree, "odd/empty", "")
    os.link(tree / "odd/pair-one", tree / "odd/pair-two")
    os.chown(write(tree, "odd/owned", mode=0o640), 1000, 70000)
    (tree / "odd/folder").mkdir()
    (tree / "odd/folder").chmod(0o2750)
    (tree / "etc/odd").chmod(0o700)
    os.truncate(write(tree, "odd/holes", "x"), 1 << 20)


def settle(tree, epoch):
    """Give each file a different time before the epoch."""
    for number, path in enumerate(sorted(tree.rglob("*"))):
        os.utime(path, (epoch - number, epoch - number), follow_symlinks=False)
    os.utime(tree, (epoch, epoch))


if __name__ == "__main__":
    os.umask(0o022)
    what, folder, epoch = sys.argv[1:]
    {"lower": lower, "upper": upper}[what](Path(folder))
    settle(Path(folder), int(epoch))
