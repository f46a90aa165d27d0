"""`make lock`: resolve everything anew, and say in words what moved."""

from __future__ import annotations

import time
from pathlib import Path

from vault_cube.image import aptlock, pylock, vendors
from vault_cube.image.keys import KEYRINGS, ROOT
from vault_cube.image.progress import step
from vault_cube.image.store import Store
from vault_cube.image.workspace import LAYERS, Workspace


def make(space: Workspace) -> list[str]:
    """Resolve the target's packages, its Python environments and the tools tree; write the locks all together.

    Returns what moved, a line each. Nothing is written when anything cannot be resolved.
    """
    settings = space.settings
    # later than the files of every package that can be had, earlier than every build: newer times are clamped to it
    epoch = int(time.time())
    texts: dict[Path, str] = {}
    with step("tools.lock"):
        made = settings.image.tools
        tools = aptlock.resolve([("tools", made.packages)], made.sources, settings.image.mirrors, "amd64", epoch)
        texts[space.checkout / "locks/tools.lock"] = tools.text()
    with step(f"{space.target}/apt.lock"):
        wanted = [
            (ROOT, settings.image.root_packages),
            *((layer, getattr(settings, layer).packages) for layer in LAYERS),
        ]
        vendor = vendors.repositories(space)
        keyrings = vendors.lock(space)
        if keyrings:
            texts[space.locks / KEYRINGS] = vendors.text(keyrings)
        with space.scratch("keyrings") as folder:
            vendors.lay_out(Store(space.store), keyrings, folder)
            sources = [*settings.archive.sources, *vendors.sources(space, folder)]
            pins = vendors.preferences(vendor)
            lock = aptlock.resolve(
                wanted, sources, settings.image.mirrors, settings.target.architecture, epoch, pins=pins
            )
        texts[space.locks / "apt.lock"] = lock.text()
    with space.scratch("lock") as work:
        for name, environment in {"salt": settings.image.salt, **settings.frameworks.environments}.items():
            with step(f"{space.target}/python-{name}.lock"):
                texts[space.locks / f"python-{name}.lock"] = pylock.text(
                    pylock.resolve(settings, space.uv, environment, work)
                )
    moved = [line for file, text in texts.items() for line in difference(file, text)]
    gone = {*space.locks.glob("python-*.lock"), *space.locks.glob(KEYRINGS)} - set(texts)
    # an unchanged lock keeps its moment: a new one would rebuild everything for nothing
    if not moved and not gone:
        return ["nothing moved"]
    for file, text in texts.items():
        if difference(file, text):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_suffix(".new").write_text(text)
            file.with_suffix(".new").replace(file)
    for file in gone:
        file.unlink()
    return moved


def difference(file: Path, text: str) -> list[str]:
    """What a new lock changes, a line a package: `pytorch: torch 2.12.0 → 2.13.0`; security updates are marked."""
    before, after = (_versions(file.name, body) for body in (file.read_text() if file.exists() else "", text))
    where = f"{file.parent.name}/{file.name}"
    lines = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        security = " (security)" if new and "security" in new[1] else ""
        lines.append(f"{where}: {name} {old[0] if old else '–'} → {new[0] if new else '–'}{security}")  # noqa: RUF001
    return lines


def _versions(name: str, text: str) -> dict[str, tuple[str, str]]:
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        parts = line.split(" ")
        if name.startswith("python-"):
            package, _, version = parts[0].partition("==")
            found[package] = (version, parts[1])
        elif name == KEYRINGS:
            found[parts[0]] = (parts[1][:12], parts[1])
        else:
            found[f"{parts[1]}:{parts[3]}"] = (parts[2], f"{parts[4]} {parts[0]} {parts[7]}")
    return found
