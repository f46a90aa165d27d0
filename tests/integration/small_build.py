"""Build a small target in a process that a test can kill: `small_build.py CHECKOUT CACHE STORE [root]`.

It runs the builder's own code for the root tree, the layers, the seal, the disk and the attestations. Only the states
are small: `small()` writes two layers with one package into a copy of the checkout. The kernel is a stand-in that is
never booted.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

TOP = Path(__file__).parents[2]
LAYERS = ("base", "validation")
PACKAGE = "less"
SOURCES = ("conf", "locks", "pillar", "salt", "vault_cube", "Saltfile", "pyproject.toml")

STATES = {
    "base/init.sls": """\
a package is installed:
  pkg.installed:
    - name: less
somebody has an account:
  user.present:
    - name: somebody
    - uid: 1234
    - shell: /bin/sh
a stand-in for a kernel:
  file.managed:
    - names:
      - /boot/vmlinuz-0-small
      - /boot/initrd.img-0-small
      - /lib/modules/0-small/modules.dep
    - contents: nothing boots this
    - makedirs: True
""",
    "validation/init.sls": """\
include:
  - base
a file of the layer below goes:
  file.absent:
    - name: /usr/share/doc/less/copyright
a file of the layer below changes:
  file.append:
    - name: /etc/issue
    - text: small
files are written:
  file.managed:
    - names: [{% for number in range(40) %}/opt/small/{{ number }}, {% endfor %}/opt/small/last]
    - contents: {{ 'x' * 10000 }}
    - makedirs: True
""",
}


def small(checkout):
    """Copy this checkout with small states. Its root tree is the default target's, so a finished one can be used."""
    checkout.mkdir(parents=True)
    subprocess.run(["cp", "-r", *(TOP / name for name in SOURCES), checkout], check=True)
    for name, text in STATES.items():
        shutil.rmtree((checkout / "salt" / name).parent)
        (checkout / "salt" / name).parent.mkdir()
        (checkout / "salt" / name).write_text(text)
    from vault_cube.image.locks.aptlock import AptLock

    file = checkout / "locks/debian-12/apt.lock"
    lock = AptLock.read(file)
    debs = [deb for deb in lock.debs if deb.layer == "root" or deb.name == PACKAGE]
    file.write_text(AptLock(lock.epoch, tuple(debs)).text())


def workspace(checkout, cache, store):
    import base_tree

    from vault_cube.image.cache import keys

    keys.LAYERS, keys.ORDER = LAYERS, (keys.ROOT, *LAYERS)
    space = base_tree.workspace()
    image = space.settings.image
    disk = image.disk.model_copy(update={"spare_mib": 64, "esp_mib": 64})
    image = image.model_copy(update={"formats": ["qcow2"], "disk": disk})
    settings = space.settings.model_copy(update={"image": image})
    return replace(space, checkout=checkout, settings=settings, cache=cache, store=store)


if __name__ == "__main__":
    from vault_cube.image import recipe
    from vault_cube.image.inputs import Inputs

    space = workspace(*(Path(argument) for argument in sys.argv[1:4]))
    with space.exclusive():
        recipe.make_fetch(space)
        inputs = Inputs.read(space)
        recipe.make_tools(space, inputs)
        if sys.argv[4:] == ["root"]:
            digests = {"root": recipe.make_layers(space, inputs, "root")[0].meta["digest"]}
        else:
            recipe.make_layers(space, inputs, LAYERS[-1])
            manifest = recipe.make_disk(space, inputs)
            digests = {"raw": manifest["raw_sha256"]}
            digests |= {name: file["sha256"] for name, file in manifest["files"].items()}
    print(json.dumps(digests))
