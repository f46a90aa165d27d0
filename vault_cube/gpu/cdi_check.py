"""Check a CDI specification: a device for every GPU, and no path that is gone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from vault_cube.gpu.cdi import KIND
from vault_cube.verdicts import Verdict, fault, ok

if TYPE_CHECKING:
    from vault_cube.gpu.fields import Edits

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# by pillar runtime:provider: the command that writes the CDI specification again
REFRESH = {"nvidia": "systemctl restart nvidia-cdi-refresh", "vault-cube": "systemctl restart vault-cube-cdi"}


def specification(folders: Iterable[Path], gpus: int, provider: str) -> Verdict:
    """Check that the CDI specification has a device for every GPU, and that each path in it still exists.

    After a driver update an old specification may list files that have been removed.

    folders: where the container engine looks for specifications. gpus: expected number of GPUs. provider: pillar
    runtime:provider, which decides how the specification is written again.
    """
    threshold, todo = f"all and each of {gpus}, no path missing", f"`{REFRESH[provider]}`"
    devices: dict[str, list[str]] = {}
    searched = list(folders)
    for file in sorted(file for folder in searched for file in folder.glob("*") if file.suffix in (".json", ".yaml")):
        try:
            spec = yaml.load(file.read_text(), Loader=LOADER)  # noqa: S506 a safe loader, in C
            if spec["kind"] == KIND:
                shared = paths(spec.get("containerEdits"))
                devices |= {str(entry["name"]): shared + paths(entry["containerEdits"]) for entry in spec["devices"]}
        except (OSError, yaml.YAMLError, TypeError, KeyError):
            return fault(f"{file} is not a CDI specification", todo, threshold)
    missing = [name for name in ("all", *map(str, range(gpus))) if name not in devices]
    if missing:
        return fault(f"no device {KIND}={missing[0]} in {', '.join(map(str, searched))}", todo, threshold)
    removed = sorted({path for needed in devices.values() for path in needed if not Path(path).exists()})
    if removed:
        return fault(f"{removed[0]} does not exist", todo, threshold)
    return ok(f"{KIND}: {', '.join(sorted(devices))}", threshold)


def paths(edits: Edits | None) -> list[str]:
    """List the paths of the box that a specification's edits make available in a container."""
    edits = edits or {}
    nodes = [node.get("hostPath") or node["path"] for node in edits.get("deviceNodes") or []]
    return nodes + [mount["hostPath"] for mount in edits.get("mounts") or []]
