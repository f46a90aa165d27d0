"""Layer keys: the SHA-256 over everything that affects the bytes of a layer, so that equal keys mean equal layers.

A key covers the parent's key, the target, the pillar sections that the layer can read, its state files and the code
that they can run, its lock entries, the key of the tools tree, and the code of the builder.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vault_cube.carried import carried, sources
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.progress import write_json
from vault_cube.image.workspace import KEYRINGS, LAYERS, Workspace
from vault_cube.image.workspace import ORDER as ORDER  # noqa: PLC0414 others use keys.ORDER
from vault_cube.image.workspace import ROOT as ROOT  # noqa: PLC0414 others use keys.ROOT

# the pillar sections that a layer's states can read: their own and those of lower layers; a build hides the others
SECTIONS = {layer: ("target", "archive", *LAYERS[: number + 1]) for number, layer in enumerate(LAYERS)}
SECTIONS["validation"] += ("image", "gpu", "benchmark", "fleet")

# the code that affects the bytes of a tree; changes to other code of the builder rebuild nothing
BUILDER = "vault_cube/image/layers"


@dataclass(frozen=True)
class Key:
    """A key and its inputs: name -> digest or value."""

    key: str
    inputs: dict[str, str]


def of(inputs: dict[str, str]) -> Key:
    """Compute the key of some inputs."""
    return Key(_digest(inputs), inputs)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@lru_cache(maxsize=4096)
def _file(path: Path, _mtime_ns: int, _size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_digest(path: Path) -> str:
    """Compute a digest of a file's contents. Its mode is not part of it, because not every file system has modes."""
    status = path.stat()
    return _file(path, status.st_mtime_ns, status.st_size)[:40]


def _files(space: Workspace, files: Iterable[Path]) -> dict[str, str]:
    return {place: file_digest(file) for place, file in sorted(places(space, files).items())}


def places(space: Workspace, files: Iterable[Path]) -> dict[str, Path]:
    """Return path in the checkout -> file; the build's own locks have the paths of the locks that they replace."""
    locks = space.lock_root
    return {
        str(
            Path("locks") / file.relative_to(locks) if file.is_relative_to(locks) else file.relative_to(space.checkout)
        ): file
        for file in files
    }


def tools_key(space: Workspace) -> Key:
    """Compute the key of the tools tree."""
    return of(
        {
            "locks/tools.lock": _file_or_missing(space.tools_lock),
            **_files(space, sources(space.checkout / BUILDER)),
        }
    )


def _file_or_missing(path: Path) -> str:
    return file_digest(path) if path.exists() else "missing"


def layer_keys(space: Workspace, lock: AptLock) -> dict[str, Key]:
    """Compute the keys of the root tree and all layers, from the bottom up. lock: the target's packages."""
    keys: dict[str, Key] = {}
    parent, uv = tools_key(space).key, version("uv")
    code = _files(space, [*sources(space.checkout / BUILDER), space.checkout / "vault_cube/python_env/bytecode.py"])
    for layer in ORDER:
        inputs = {
            "parent": parent,
            "target": space.target,
            "epoch": str(lock.epoch),
            "uv": uv,
            "locks/apt.lock": _digest([vars(deb) for deb in sorted(lock.of(layer))]),
            **code,
            **_files(space, environment_locks(space, layer)),
        }
        if layer != ROOT:
            inputs |= {f"pillar {name}": _digest(value) for name, value in visible_pillar(space, layer).items()}
            inputs |= _files(space, staged_files(space, layer))
        keys[layer] = of(inputs)
        parent = keys[layer].key
    return keys


def visible_pillar(space: Workspace, layer: str) -> dict[str, object]:
    """Return the pillar sections that a layer's states can read while the layer is built."""
    return {name: space.pillar[name] for name in SECTIONS[layer] if name in space.pillar}


def environment_locks(space: Workspace, layer: str) -> list[Path]:
    """List the locks of the Python environments and of the vendors' signing keys that a layer installs."""
    names = {ROOT: ["salt"], "frameworks": list(space.settings.frameworks.environments)}.get(layer, [])
    locks = [space.locks / f"python-{name}.lock" for name in names]
    if layer in ("driver", "runtime") and getattr(space.settings, layer).repositories:
        locks.append(space.locks / KEYRINGS)
    return locks


def staged_files(space: Workspace, layer: str) -> list[Path]:
    """List the files that Salt can read while it builds a layer: states up to this layer, and the code they can run."""
    top = space.checkout
    below = LAYERS[: LAYERS.index(layer) + 1]
    states = [file for name in below for file in sources(top / "salt" / name) if _builds(file)]
    files = {*states, top / "conf/common.conf"}
    files |= {lock for name in below for lock in environment_locks(space, name)}
    # the last layer's files are all that a box carries, which includes all code that states can run
    files |= set(carried(top, space.target, space.locks).values()) if layer == LAYERS[-1] else _code(top, states)
    return sorted(files)


def _builds(file: Path) -> bool:
    """Return whether a file of a layer's folder affects the layer; documentation and checks do not."""
    return file.name != "README.md" and file.parent.name != "saltcheck-tests"


def _code(top: Path, states: Sequence[Path]) -> set[Path]:
    """Find the custom modules that state files name (`unit.enabled`, `salt['layer.check']`), and all their imports."""
    named: set[str] = set()
    for file in states:
        if file.suffix == ".sls":
            named |= set(re.findall(r"\b(\w+)\.\w+", file.read_text()))
    modules: set[Path] = set()
    seen: set[Path] = set()
    todo = [top / folder / f"{name}.py" for folder in ("_states", "_modules") for name in named]
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        if file.is_file():
            modules.add(file)
            todo += _imports(top, file)
    return modules


def _imports(top: Path, file: Path) -> list[Path]:
    """List the files of this package that a file imports, and the custom modules that it calls."""
    status = file.stat()
    imported, called = _names(file, status.st_mtime_ns, status.st_size)
    files = []
    for name in imported:
        parts = name.split(".")
        if parts[0] == "vault_cube":
            # importing a.b.c runs a, a.b and a.b.c
            files += [top.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
            files.append(top.joinpath(*parts).with_suffix(".py"))
    return files + [top / "_modules" / f"{name}.py" for name in called]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements below a node, and skip expressions, which cannot contain imports."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from _statements(child)


@lru_cache(maxsize=4096)
def _names(file: Path, _mtime_ns: int, _size: int) -> tuple[set[str], set[str]]:
    """Return the modules that a file imports, and the custom modules that it calls through Salt."""
    text = file.read_text()
    names: set[str] = set()
    for node in _statements(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names, set(re.findall(r"__salt__\[\"(\w+)\.", text))


def remember(space: Workspace, inputs: dict[str, dict[str, str]]) -> None:
    """Save the inputs of this build's keys, for `image.why`. inputs: layer -> inputs of its key."""
    space.build.mkdir(parents=True, exist_ok=True)
    write_json(space.build / "keys.json", {**last_build(space), **inputs})


def last_build(space: Workspace) -> dict[str, dict[str, str]]:
    """Read the inputs that each layer's key had when it was last built in this checkout: layer -> inputs."""
    try:
        inputs: dict[str, dict[str, str]] = json.loads((space.build / "keys.json").read_text())
    except (OSError, ValueError):
        return {}
    return inputs


def why(space: Workspace, layer: str, key: Key) -> list[str]:
    """List the inputs of a layer's key that changed since its last build for this target, one per line."""
    before = last_build(space).get(layer)
    if before is None:
        return [f"{layer}: never built in this checkout"]
    now = key.inputs
    changed = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    return [f"{name}: {_change(before.get(name), now.get(name))}" for name in changed] or [f"{layer}: nothing changed"]


def _change(before: str | None, now: str | None) -> str:
    if before is None:
        return "new"
    return "removed" if now is None else f"{before[:12]} → {now[:12]}"
