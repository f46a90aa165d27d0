"""Write the image's manifest of its own files into its last layer (docs/decisions/image-carries-its-manifest.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from vault_cube import tree_manifest
from vault_cube.drift import manifest, packages
from vault_cube.drift.manifest import Entry, Header
from vault_cube.image.workspace import Workspace
from vault_cube.tree_manifest import Line

SCRIPT = Path(__file__).with_name("drift_program.sh")
COMPRESS = f"gzip -n -9 < /run/vault-cube/image-manifest > /{manifest.PLACE}"
"""Runs in the tree, whose gzip is locked: another builder's zlib could write other bytes."""
WRITERS = ("file.", "shared.", "keyring.", "uv.", "checkout.")
"""States whose name is the path that they write."""
OPAQUE = "trusted.overlay.opaque"


def write(
    space: Workspace, layers: Mapping[str, tuple[Path, Iterable[Line]]], *, results: Path, epoch: int, target: Path
) -> None:
    """Write the text of the manifest to a file.

    layers: name of each layer → its folder and manifest, bottom first. results: Salt's result of the last layer.
    epoch: the time of all files, seconds since 1970.
    """
    trees = [tree for tree, _ in layers.values()]
    merged = merge(trees, [lines for _, lines in layers.values()])
    del merged[manifest.PLACE]  # a manifest cannot contain its own digest

    def text(path: str) -> str:
        return (trees[merged[path].layer] / path).read_text(errors="surrogateescape") if path in merged else ""

    owners = owners_of_files(merged, text)
    settings = space.settings
    image, disk = settings.image, settings.image.disk
    drift = settings.validation.drift
    header: Header = {
        "format": manifest.FORMAT,
        "name": image.name,
        "version": image.version,
        "target": space.target,
        "epoch": epoch,
        "layers": list(layers),
        "cmdline": f"root=PARTUUID={disk.root_uuid} ro {disk.kernel_cmdline}",
        "packages": {key: package.version for key, package in packages.read(text(packages.STATUS)).items()},
        "tables": {place: text(place) for place in manifest.TABLES if place in merged},
        "expected": dict(drift.expected),
        "listen": [*(f"tcp {port}" for port in settings.base.firewall.allow_tcp), *drift.listen],
        "states": states(json.loads(results.read_text())["local"]),
        "signers": list(drift.signers),
    }
    entries = (entry._replace(package=owners.get(path, "")) for path, entry in sorted(merged.items()))
    target.write_text(manifest.text(header, entries))


def merge(trees: Sequence[Path], lines: Sequence[Iterable[Line]]) -> dict[str, Entry]:
    """Return the manifest of an overlay: path → entry, without files that a higher layer removed.

    Hard links are replaced by the file that they name: a higher layer may have replaced that one only.
    """
    merged: dict[str, Entry] = {}
    for number, (tree, layer) in enumerate(zip(trees, lines, strict=True)):
        own = {unquote(line.path): line for line in layer}
        hidden = {path for path, line in own.items() if _hides(tree, path, line, merged)}
        if hidden:
            below = tuple(f"{path}/" for path in hidden)
            merged = {path: entry for path, entry in merged.items()
                      if path not in hidden and not path.startswith(below)}  # fmt: skip
        for path, line in own.items():
            if not _whiteout(line):
                content = own[unquote(line.content[1:])].content if line.is_hard_link else line.content
                merged[path] = Entry(number, "", line._replace(content=content))
    return merged


def _whiteout(line: Line) -> bool:
    return line.type == "c" and line.content == "0,0"


def _hides(tree: Path, path: str, line: Line, merged: Mapping[str, Entry]) -> bool:
    """Whether a layer's entry hides what the lower layers have at and below its path."""
    if path not in merged or path == ".":
        return False
    if not line.is_folder:
        return True
    place = tree / path
    return OPAQUE in os.listxattr(place) and os.getxattr(place, OPAQUE) == b"y"


def owners_of_files(merged: Mapping[str, Entry], text: Callable[[str], str]) -> dict[str, str]:
    """Return path → name of the package that has it. text: reads a file of the image."""
    links = {path: unquote(entry.line.content).strip("/") for path, entry in merged.items()
             if entry.line.type == "l" and "/" not in path}  # fmt: skip
    owners = {}
    for path in merged:
        if path.startswith(f"{packages.INFO}/") and path.endswith(".list"):
            name = path.rpartition("/")[2].removesuffix(".list").partition(":")[0]
            for place in text(path).splitlines():
                real = packages.merged_usr(place.lstrip("/"), links)
                # folders have several owners
                if real in merged and not merged[real].line.is_folder:
                    owners[real] = name
    return owners


def states(results: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Return path → state that writes it. results: Salt's result of all states."""
    writers = {}
    for key, result in results.items():
        module, _, name, function = key.split("_|-")
        if f"{module}.{function}".startswith(WRITERS) and name.startswith("/"):
            writers[name] = f"{result['__sls__']}: {result['__id__']}"
    return writers


def layer_lines(tree: Path) -> list[Line]:
    """Make the manifest of a layer that is not in the cache yet."""
    return tree_manifest.parse(tree_manifest.entries(tree))
