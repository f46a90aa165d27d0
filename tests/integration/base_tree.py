"""A tree to which the builder's own code applies layers, and functions that examine it without Salt."""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path

import yaml
from copied import chosen, merged

from vault_cube.image import recipe
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.inputs import Inputs
from vault_cube.image.layers import chroot, overlay, root, tools
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.workspace import STAGED, Workspace
from vault_cube.paths import SALT
from vault_cube.settings import check

TOP = Path(__file__).parents[2]
TARGET = "debian-12"
OWN = "/run/own"
"""Path of the whole checkout in the tree; a box has all of it, but the build of a layer has only a part."""


def workspace():
    """Return a workspace of the target without frameworks: it needs no wheels, and root and base are the same."""
    files = [TOP / "pillar/box.sls", TOP / "pillar/targets" / f"{TARGET}.sls"]
    pillar = merged(*(yaml.safe_load(file.read_text()) for file in files))
    pillar["frameworks"] |= {"environments": {}, "checks": {}, "commands": {}, "kernels": []}
    pillar["frameworks"]["vllm"]["environment"] = None
    return Workspace(TOP, check(pillar), pillar)


def chosen_workspace(target):
    """Return a workspace of a target with this checkout's pillar, including local.sls."""
    local = TOP / "pillar/local.sls"
    pillar = merged(*chosen(target), yaml.safe_load(local.read_text()) if local.is_file() else {})
    return Workspace(TOP, check(pillar), pillar)


def waited(find):
    """Call `find` until it returns something, for at most VAULT_CUBE_WAIT seconds, while another build may make it."""
    until = time.monotonic() + float(os.environ.get("VAULT_CUBE_WAIT", "0"))
    while not (result := find()) and time.monotonic() < until:
        time.sleep(2)
    return result


def built(space):
    """Return the trees of a target's finished layers by name, bottom first, up to the first layer that is not built."""
    trees = {}
    wanted = Inputs.read(space).keys
    waited(lambda: layer_cache.find(space.layers, wanted[keys.ORDER[-1]].key))
    for name, key in wanted.items():
        entry = layer_cache.find(space.layers, key.key)
        if entry is None:
            break
        trees[name] = entry.tree
    return trees


def root_tree(space):
    """Return the finished root tree; it is made if it is not in the cache."""
    wanted = Inputs.read(space).keys[keys.ROOT].key
    entry = waited(lambda: layer_cache.find(space.layers, wanted))
    if entry:
        return entry.tree
    with space.exclusive():
        recipe.make_fetch(space)
        if tools.find(space) is None:
            tools.make(space, AptLock.read(space.tools_lock))
        return recipe.make_layers(space, Inputs.read(space), keys.ROOT)[-1].tree


def output_in(log, words):
    """Return what a command wrote to a log, without the log's first line, which is the command line."""
    text, words_end = log.read_text(), shlex.join(map(str, words)) + "\n"
    return text.partition(words_end)[2] if words_end in text else text


class Box:
    """A tree in which commands and Salt run without a network, as in a build."""

    def __init__(self, space, folder, layer="base"):
        self.space, self.folder, self.layer = space, folder, layer
        self.lock = AptLock.read(space.locks / "apt.lock")
        for name in ("upper", "work", "merged", "vault-cube"):
            (folder / name).mkdir()
        self.overlay = chroot.Overlay([root_tree(space)], folder / "upper", folder / "work")
        overlay.stage(space, Inputs.read(space), layer, folder / "vault-cube")
        chroot.block_daemons(folder / "upper")
        minion = yaml.safe_load((folder / "vault-cube/salt/minion").read_text())
        minion |= {"file_roots": {"base": [f"{OWN}/salt"]}, "module_dirs": [f"{OWN}/_modules"]}
        # checks need the whole pillar, of which the build of a layer sees a part
        minion |= {"pillar_roots": {"base": ["/run/vault-cube/whole/pillar"]}}
        (folder / "vault-cube/whole/pillar").mkdir(parents=True)
        (folder / "vault-cube/whole/pillar/top.sls").write_text("base: {'*': [seen]}\n")
        (folder / "vault-cube/whole/pillar/seen.sls").write_text("#!yaml\n" + yaml.safe_dump(space.pillar))
        (folder / "vault-cube/whole/minion").write_text(yaml.safe_dump(minion))

    def run(self, words, whole=False):
        """Run a command in the tree. Returns its exit status and its output."""
        log = self.folder / "log"
        log.unlink(missing_ok=True)
        binds = [chroot.Bind(self.folder / "vault-cube", "/run/vault-cube", writable=True)]
        binds += [chroot.Bind(TOP, OWN)] if whole else []
        environment = root.python_environment(self.lock.epoch)
        environment |= {"APT_CONFIG": "/run/vault-cube/apt/apt.conf", "PYTHONPATH": OWN if whole else STAGED}
        status = chroot.run(
            self.overlay, words, what=str(words[0]), log=log, mountpoint=self.folder / "merged", binds=binds,
            environment=environment, check=False,
        )  # fmt: skip
        return status, output_in(log, words)

    def sh(self, script):
        """Run a shell script in the tree; it must succeed. Returns its output."""
        status, output = self.run(["env", "-u", "APT_CONFIG", "sh", "-euc", script])
        assert status == 0, output
        return output.strip()

    def salt(self, *words, whole=False):
        """Run salt-call in the tree. Returns its exit status and its result."""
        result = self.folder / "vault-cube/result.json"
        result.unlink(missing_ok=True)
        config = "/run/vault-cube/whole" if whole else "/run/vault-cube/salt"
        call = [f"{SALT}/bin/salt-call", "--local", "-c", config, "--retcode-passthrough", "--log-level=error"]
        call += ["--out=json", "--out-file=/run/vault-cube/result.json", *words]
        status, output = self.run(call, whole)
        assert result.is_file(), output
        return status, json.loads(result.read_text())["local"]

    def apply(self, *words):
        """Apply the layer. Returns the failed states with the reason, and the states that changed or would change."""
        _, states = self.salt("state.apply", self.layer, *words)
        assert isinstance(states, dict), states
        failed = {state["__id__"]: state["comment"] for state in states.values() if state["result"] is False}
        changed = {state["__id__"] for state in states.values() if state["changes"] or state["result"] is None}
        return failed, changed

    def choose(self, section="base", **chosen):
        """Override keys of a section of the pillar for the following calls."""
        seen = keys.visible_pillar(self.space, self.layer)
        (self.folder / "vault-cube/pillar/seen.sls").write_text(
            "#!yaml\n" + yaml.safe_dump(merged(seen, {section: chosen}))
        )
