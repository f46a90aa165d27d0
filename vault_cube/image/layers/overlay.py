"""One layer: an overlay on the finished layers below, in which Salt applies the layer's states without a network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.layers import chroot, repository, root, seal
from vault_cube.image.locks import vendors
from vault_cube.image.locks.aptlock import AptLock, Deb
from vault_cube.image.progress import log_tail
from vault_cube.image.store import Store
from vault_cube.image.workspace import STAGED, Workspace
from vault_cube.paths import SALT

# apt in a build: the local repository, and nothing of its bookkeeping in the tree
APT_CONF = """\
Dir::Etc::SourceList "/run/vault-cube/apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::Etc::PreferencesParts "-";
Dir::State::Lists "/run/vault-cube/apt/lists";
Dir::Cache "/run/vault-cube/apt/cache";
Dir::Log "/run/vault-cube/apt/log";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Dpkg::Options {"--force-confdef"; "--force-confold"; "--force-unsafe-io"; "--log=/run/vault-cube/apt/dpkg.log";};
Dpkg::Use-Pty "false";
"""


def make(space: Workspace, layer: str, key: keys.Key, below: Sequence[layer_cache.Entry]) -> layer_cache.Entry:
    """Build a layer on the finished ones below it (bottom first) and keep it under its key."""
    lock = AptLock.read(space.locks / "apt.lock")
    log = space.logs / f"{layer}.log"
    log.unlink(missing_ok=True)
    with space.scratch(layer) as work:
        for folder in ("upper", "work", "merged", "vault-cube"):
            (work / folder).mkdir()
        overlay = chroot.Overlay([entry.tree for entry in below], work / "upper", work / "work")
        stage(space, layer, lock, work / "vault-cube")
        binds = [chroot.Bind(work / "vault-cube", "/run/vault-cube", writable=True)]
        environment = root.python_environment(lock.epoch) | {
            "APT_CONFIG": "/run/vault-cube/apt/apt.conf",
            "PYTHONPATH": STAGED,
        }
        policy = work / "upper/usr/sbin/policy-rc.d"
        policy.parent.mkdir(parents=True)
        # no package starts a daemon in here; seal removes it
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        status = chroot.run(
            overlay,
            [
                f"{SALT}/bin/salt-call",
                "--local",
                "-c",
                "/run/vault-cube/salt",
                "--retcode-passthrough",
                "--log-level=info",  # the log's last line tells a person what the layer is doing
                "--out=json",
                "--out-file=/run/vault-cube/result.json",
                "state.apply",
                layer,
            ],
            what=f"layer {layer}",
            log=log,
            mountpoint=work / "merged",
            binds=binds,
            environment=environment,
            check=False,
        )
        judge(layer, status, work / "vault-cube/result.json", log)
        installed = work / "vault-cube/installed"
        chroot.run(
            overlay,
            ["sh", "-c", "dpkg-query -W -f '${Package} ${Version} ${Architecture}\\n' > /run/vault-cube/installed"],
            what="dpkg-query",
            log=log,
            mountpoint=work / "merged",
            binds=binds,
        )
        compare(installed.read_text(), lock.upto(layer, keys.ORDER), layer)
        seal.seal(work / "upper", lock.epoch)
        return layer_cache.keep(space.layers, key.key, work / "upper", layer, key.inputs)


def stage(space: Workspace, layer: str, lock: AptLock, folder: Path) -> None:
    """Lay out all that a layer's Salt may see: its files of the checkout, its pillar, its packages and wheels."""
    for place, file in keys.places(space, keys.staged_files(space, layer)).items():
        copy = folder / "checkout" / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    (folder / "pillar").mkdir()
    (folder / "pillar/top.sls").write_text("base: {'*': [seen]}\n")
    (folder / "pillar/seen.sls").write_text("#!yaml\n" + yaml.safe_dump(keys.visible_pillar(space, layer)))
    (folder / "salt").mkdir()
    (folder / "salt/minion").write_text(yaml.safe_dump(minion(space)))
    repository.make(Store(space.store), lock.upto(layer, keys.ORDER), folder / "repo", space.settings.target.codename)
    for name in ("lists/partial", "cache/archives/partial", "log"):
        (folder / "apt" / name).mkdir(parents=True)
    (folder / "apt/apt.conf").write_text(APT_CONF)
    (folder / "apt/sources.list").write_text("deb [trusted=yes] file:/run/vault-cube/repo ./\n")
    # keyring.present looks here before it asks the vendor
    vendors.lay_out(Store(space.store), vendors.read(space), folder / "keyrings")
    if layer == "frameworks":
        root.link_wheels(space, list(space.settings.frameworks.environments), folder / "wheels")


def minion(space: Workspace) -> dict[str, Any]:
    """Salt's configuration in a build: nothing that it writes for itself reaches the tree."""
    own = {name: f"/run/salt/{name}" for name in ("cache", "pki", "sock")}
    return {
        "include": f"{STAGED}/conf/common.conf",
        "id": "vault-cube",
        "root_dir": "/run/salt",
        "cachedir": own["cache"],
        "pki_dir": own["pki"],
        "sock_dir": own["sock"],
        "log_file": "/run/salt/log",
        "vault_cube": {"target": space.target, "checkout": STAGED},
        "file_roots": {"base": [f"{STAGED}/salt"]},
        "pillar_roots": {"base": ["/run/vault-cube/pillar"]},
        # the whole pillar was checked before the build began; here a layer sees only its part
        "ext_pillar": [],
        "module_dirs": [f"{STAGED}/_modules"],
        "states_dirs": [f"{STAGED}/_states"],
    }


def judge(layer: str, status: int, result: Path, log: Path) -> None:
    """Read Salt's result. Raises VaultCubeError, one line a failed state, also when a lower layer was not at rest."""
    try:
        states: Mapping[str, Any] = json.loads(result.read_text())["local"]
    except (OSError, ValueError, KeyError):
        raise VaultCubeError(
            f"layer {layer}: Salt gave no result (status {status}); the end of {log}:\n{log_tail(log)}"
        ) from None
    with log.open("a") as out:
        json.dump(states, out, indent=1)
    if not isinstance(states, dict):
        raise VaultCubeError(f"layer {layer}: " + "; ".join(str(line) for line in states))
    failed = [
        f"{state.get('__sls__')}: {state.get('__id__')}: {state['comment']}"
        for state in states.values()
        if state["result"] is False
    ]
    if failed or status:
        raise VaultCubeError(
            f"layer {layer}: {len(failed)} states failed (whole result in {log}):\n" + "\n".join(failed[:10])
        )
    disturbed = [
        f"{state['__sls__']}: {state['__id__']}"
        for state in states.values()
        if state["changes"] and state["__sls__"].partition(".")[0] != layer
    ]
    if disturbed:
        raise VaultCubeError(
            f"layer {layer} undoes a lower layer, or that is not idempotent: " + "; ".join(disturbed[:5])
        )


def compare(installed: str, locked: Sequence[Deb], layer: str) -> None:
    """Hold what dpkg says against the lock. Raises VaultCubeError with the packages that differ."""
    have = {tuple(line.split(" ")) for line in installed.splitlines()}
    want = {(deb.name, deb.version, deb.architecture) for deb in locked}
    wrong = [f"+ {' '.join(item)}" for item in sorted(have - want)] + [
        f"- {' '.join(item)}" for item in sorted(want - have)
    ]
    if wrong:
        raise VaultCubeError(
            f"layer {layer}: installed is not locked (+ only installed, - only locked): {'; '.join(wrong[:10])}"
        )
