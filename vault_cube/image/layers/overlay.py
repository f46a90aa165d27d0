"""Build one layer: Salt applies its states, without a network, in an overlay on the finished layers below."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import yaml

from vault_cube import process
from vault_cube.carried import mode
from vault_cube.errors import VaultCubeError
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.inputs import Inputs
from vault_cube.image.layers import chroot, image_manifest, repository, root, seal
from vault_cube.image.locks import vendors
from vault_cube.image.locks.aptlock import Deb
from vault_cube.image.store import Store
from vault_cube.image.workspace import STAGED, Workspace
from vault_cube.paths import SALT

# during a build, apt uses only the local repository and keeps its state outside the tree
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


STATE_APPLY = (
    f"{SALT}/bin/salt-call",
    "--local",
    *("-c", "/run/vault-cube/salt"),
    "--retcode-passthrough",
    "--log-level=info",  # the last line of the log is shown as progress
    *("--out=json", "--out-file=/run/vault-cube/result.json"),
    "state.apply",
)
INSTALLED = "dpkg-query -W -f '${Package} ${Version} ${Architecture}\\n' > /run/vault-cube/installed"


def make(space: Workspace, inputs: Inputs, layer: str, below: Sequence[layer_cache.Entry]) -> layer_cache.Entry:
    """Build a layer and store it in the layer cache. Returns its cache entry.

    below: the finished layers below it, bottom first. Raises VaultCubeError if a state fails, if a state of a lower
    layer changes something, or if the installed packages differ from the lock.
    """
    lock, key = inputs.packages, inputs.keys[layer]
    log = space.logs / f"{layer}.log"
    log.unlink(missing_ok=True)
    with space.scratch(layer) as work:
        for folder in ("upper", "work", "merged", "vault-cube"):
            (work / folder).mkdir()
        overlay = chroot.Overlay([entry.tree for entry in below], work / "upper", work / "work")
        stage(space, inputs, layer, work / "vault-cube")
        chroot.block_daemons(work / "upper")
        environment = root.python_environment(lock.epoch) | {
            "APT_CONFIG": "/run/vault-cube/apt/apt.conf",
            "PYTHONPATH": STAGED,
        }

        def run(command: Sequence[str], what: str, check: bool = True) -> int:
            return chroot.run(
                overlay,
                command,
                what=f"layer {layer}: {what}",
                log=log,
                mountpoint=work / "merged",
                binds=[chroot.Bind(work / "vault-cube", "/run/vault-cube", writable=True)],
                environment=environment,
                check=check,
            )

        # Salt looks each name up with apt-cache first; without lists, apt takes a name such as g++ for a pattern
        run(["apt-get", "-qq", "update"], "apt-get update")
        status = run([*STATE_APPLY, layer], "state.apply", check=False)
        judge(layer, status, work / "vault-cube/result.json", log)
        run(["sh", "-c", INSTALLED], "dpkg-query")
        compare((work / "vault-cube/installed").read_text(), lock.upto(layer, keys.ORDER), layer)
        if layer != keys.ORDER[-1]:
            seal.seal(work / "upper", lock.epoch)
        else:
            shutil.copyfile(image_manifest.SCRIPT, work / "vault-cube/drift_program.sh")
            run(["sh", "/run/vault-cube/drift_program.sh"], "drift_program.sh")
            seal.seal(work / "upper", lock.epoch)
            layers = {entry.meta["name"]: (entry.tree, entry.lines()) for entry in below}
            layers[layer] = (work / "upper", image_manifest.layer_lines(work / "upper"))
            results, text = work / "vault-cube/result.json", work / "vault-cube/image-manifest"
            image_manifest.write(space, layers, results=results, epoch=lock.epoch, target=text)
            run(["sh", "-c", image_manifest.COMPRESS], "gzip")
            # once more, for the times of the manifest itself
            seal.seal(work / "upper", lock.epoch)
        return layer_cache.keep(space.layers, key.key, work / "upper", layer, key.inputs)


def stage(space: Workspace, inputs: Inputs, layer: str, folder: Path) -> None:
    """Write all inputs of a layer to a folder: its files of the checkout, its pillar, its packages and wheels.

    Salt has access to nothing else, so each input must be part of the layer's key.
    """
    for place, file in keys.places(space, keys.staged_files(space, layer)).items():
        copy = folder / "checkout" / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
        copy.chmod(mode(file))
    (folder / "pillar").mkdir()
    (folder / "pillar/top.sls").write_text("base: {'*': [seen]}\n")
    (folder / "pillar/seen.sls").write_text("#!yaml\n" + yaml.safe_dump(keys.visible_pillar(space, layer)))
    (folder / "salt").mkdir()
    (folder / "salt/minion").write_text(yaml.safe_dump(minion(space)))
    debs = inputs.packages.upto(layer, keys.ORDER)
    repository.make(Store(space.store), debs, folder / "repo", space.settings.target.codename)
    for name in ("lists/partial", "cache/archives/partial", "log"):
        (folder / "apt" / name).mkdir(parents=True)
    (folder / "apt/apt.conf").write_text(APT_CONF)
    (folder / "apt/sources.list").write_text("deb [trusted=yes] file:/run/vault-cube/repo ./\n")
    # keyring.present takes a keyring from here and does not download it
    vendors.lay_out(Store(space.store), inputs.vendor_keys, folder / "keyrings")
    if layer == "frameworks":
        wheels = [wheel for name in space.settings.frameworks.environments for wheel in inputs.wheels[name]]
        root.link_wheels(space, wheels, folder / "wheels")


def minion(space: Workspace) -> dict[str, object]:
    """Return Salt's configuration for a build; all paths that Salt itself writes to are outside the tree."""
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
        # the pillar was validated before the build; a layer gets only its part of it
        "ext_pillar": [],
        "module_dirs": [f"{STAGED}/_modules"],
        "states_dirs": [f"{STAGED}/_states"],
    }


class State(TypedDict):
    """Salt's result of one state."""

    __id__: str
    __sls__: str
    comment: str
    result: bool | None
    changes: dict[str, object]


def judge(layer: str, status: int, result: Path, log: Path) -> None:
    """Check Salt's result of a layer and append it to the log.

    Raises VaultCubeError with one line per failed state, or if a state of a lower layer changed something.
    """
    try:
        states: Mapping[str, State] = json.loads(result.read_text())["local"]
    except (OSError, ValueError, KeyError) as err:
        raise VaultCubeError(
            f"layer {layer}: Salt returned no result (status {status}); the end of {log}:\n{process.log_tail(log)}"
        ) from err
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
            f"layer {layer}: {len(failed)} states failed; {log} has the whole result:\n" + "\n".join(failed[:10])
        )
    disturbed = [
        f"{state['__sls__']}: {state['__id__']}"
        for state in states.values()
        if state["changes"] and state["__sls__"].partition(".")[0] != layer
    ]
    if disturbed:
        raise VaultCubeError(
            f"layer {layer}: applying it changed states of a lower layer; it overrides them, or they are not "
            f"idempotent: {'; '.join(disturbed[:5])}"
        )


def compare(installed: str, locked: Sequence[Deb], layer: str) -> None:
    """Compare the installed packages with the lock. Raises VaultCubeError if they differ.

    installed: the output of dpkg-query, one line per package with name, version and architecture.
    """
    have = {tuple(line.split(" ")) for line in installed.splitlines()}
    want = {(deb.name, deb.version, deb.architecture) for deb in locked}
    wrong = [f"+ {' '.join(package)}" for package in sorted(have - want)] + [
        f"- {' '.join(package)}" for package in sorted(want - have)
    ]
    if wrong:
        raise VaultCubeError(
            f"layer {layer}: installed packages differ from apt.lock (+ not locked, - missing): {'; '.join(wrong[:10])}"
        )
