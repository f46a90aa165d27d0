"""The recipe: a golden image, step by step. Each step reads what the steps before it left, and never reaches back."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vault_cube import __version__
from vault_cube.carried import sources
from vault_cube.errors import VaultCubeError
from vault_cube.image import preflight, relock, store
from vault_cube.image.attest import signature
from vault_cube.image.cache import evict, keys, layer_cache
from vault_cube.image.disk import formats, raw_disk
from vault_cube.image.fetch import fetch
from vault_cube.image.layers import overlay, root, tools
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.progress import log_tail, note, read_times, step, write_json
from vault_cube.image.workspace import Workspace

FINISH = ("vault_cube/image/disk", "vault_cube/image/attest")
"""the code that makes the files of an image from finished layers"""


def build(space: Workspace) -> dict[str, Any]:
    """Make the image, whatever of it is missing. Returns its manifest."""
    with space.exclusive():
        preflight.check(space)
        make_fetch(space)
        make_tools(space)
        make_layers(space)
        make_disk(space)
        return prove(space)


def times_file(space: Workspace) -> Path:
    return space.build / "times.json"


def make_fetch(space: Workspace) -> None:
    """Everything that the locks name is in the store."""
    if space.locked:
        relock.forget(space)
    with step("fetch: bring what the locks name into the store", times_file(space)):
        try:
            fetched = fetch(space)
        except store.Unavailable as err:
            if space.locked or not err.gone:
                raise
            note(f"[yellow]{err}: resolving anew what nobody serves any more[/]")
            for line in relock.renew(space, {failure.wanted.sha256 for failure in err.failures}):
                note(f"moved: {line}")
            try:
                fetched = fetch(space)
            except VaultCubeError:
                relock.forget(space)
                raise
        note(f"{fetched >> 20} MiB fetched" if fetched else "all of it is there")


@contextmanager
def _stage(space: Workspace, title: str, log: Path) -> Iterator[None]:
    """A step that fills the disk; says that the disk is full where that is what its failure comes down to."""
    try:
        with step(title, times_file(space), log):
            yield
    except (VaultCubeError, OSError) as err:
        # a command's own error line may stand far above its last ones
        said = f"{err}\n{log_tail(log, 200)}"
        if getattr(err, "errno", None) != errno.ENOSPC and "No space left on device" not in said:
            raise
        raise VaultCubeError(
            f"{title.partition(':')[0]}: the disk of {space.cache} or {space.checkout} is full: make room, or set "
            f"VAULT_CUBE_CACHE to a folder elsewhere (log: {log})"
        ) from None


def make_tools(space: Workspace) -> layer_cache.Entry:
    """The tools tree is there."""
    entry = layer_cache.sound(tools.find(space))
    if entry is None:
        with _stage(space, "tools: the tree that makes and boots disks", space.logs / "tools.log"):
            entry = tools.make(space)
    return entry


def make_layers(space: Workspace, last: str = keys.ORDER[-1]) -> list[layer_cache.Entry]:
    """The root and the layers up to `last` are there; what is kept under the right key is not made again."""
    wanted = keys.layer_keys(space)
    entries: list[layer_cache.Entry] = []
    for name in keys.ORDER[: keys.ORDER.index(last) + 1]:
        entry = layer_cache.find(space.layers, wanted[name].key)
        # what nothing is built on needs no reading
        above = keys.ORDER[keys.ORDER.index(name) + 1 : keys.ORDER.index(last) + 1]
        if entry and any(layer_cache.find(space.layers, wanted[layer].key) is None for layer in above):
            entry = layer_cache.sound(entry)
        if entry is None:
            with _stage(space, f"{name}: {_title(name)}", space.logs / f"{name}.log"):
                made = (
                    root.make(space, wanted[name])
                    if name == keys.ROOT
                    else overlay.make(space, name, wanted[name], entries)
                )
                entry = _of_its_key(space, name, wanted[name], made)
        entries.append(entry)
    keys.remember(space, {name: wanted[name].inputs for name in keys.ORDER[: len(entries)]})
    return entries


def _title(name: str) -> str:
    return "essential packages, Python and Salt" if name == keys.ROOT else f"salt-call --local state.apply {name}"


def _of_its_key(space: Workspace, name: str, key: keys.Key, made: layer_cache.Entry) -> layer_cache.Entry:
    """The entry that was just made, if the checkout is still what its key was made of.

    Raises VaultCubeError when somebody edited a file of the layer meanwhile: nobody knows which content was used.
    """
    now = keys.layer_keys(space)[name].inputs
    # the running builder is the one that the key names, whatever happened to its files since
    changed = sorted(
        item
        for item in key.inputs.keys() | now.keys()
        if item != "parent" and not item.startswith(keys.BUILDER) and key.inputs.get(item) != now.get(item)
    )
    if changed:
        shutil.rmtree(made.folder)
        raise VaultCubeError(f"layer {name}: {changed[0]} changed while the layer was built: build again")
    return made


def image_key(space: Workspace, wanted: dict[str, keys.Key]) -> str:
    """The key of the finished image: its layers, the disk's settings and the code that makes it."""
    settings = space.settings.image
    inputs = [
        wanted[keys.ORDER[-1]].key,
        settings.disk.model_dump_json(),
        settings.formats,
        formats.made_by(),
        *(keys.file_digest(file) for folder in FINISH for file in sorted(sources(space.checkout / folder))),
        __version__,
    ]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()


def basename(space: Workspace) -> str:
    """`vault-cube-demo-box-<version>-<target>`"""
    image = space.settings.image
    return f"{image.name}-{image.version}-{space.target}"


def make_disk(space: Workspace) -> dict[str, Any]:
    """Disk, forms, papers and manifest are in build/<target>/image, all together or not at all."""
    # its libraries take as long to import as all else here, and most stages make no papers
    from vault_cube.image.attest import attestations

    finished = current(space) or unproven(space)
    if finished:
        note(f"{basename(space)} is what its inputs say: nothing to do")
        return finished
    wanted = keys.layer_keys(space)
    entries = make_layers(space)
    while not all(layer_cache.sound(entry) for entry in entries):
        entries = make_layers(space)
    lock = AptLock.read(space.locks / "apt.lock")
    folder, name = space.build / "image", basename(space)
    with space.scratch("disk") as work:
        with _stage(space, "disk: kernel image, partitions, file systems", space.logs / "disk.log"):
            raw_disk.make(space, entries, lock.epoch, work)
        packed: dict[str, Path] = {form: work / f"{name}.{form}" for form in space.settings.image.formats}
        packing = _stage(space, f"forms: {', '.join(packed)}", space.logs / "disk.log")
        with packing, ThreadPoolExecutor() as pool:
            earlier = {form: _earlier(space, form) for form in packed}
            raw = formats.make(work / "disk.raw", packed, earlier, space.build / "pieces.json", space.logs / "disk.log")
            # gigabytes take seconds to go
            pool.submit((work / "disk.raw").unlink)
            pool.submit(shutil.rmtree, folder, ignore_errors=True)
            files = {
                file.name: found
                for file, found in zip(packed.values(), pool.map(described, packed.values()), strict=True)
            }
        folder.mkdir(parents=True)
        for file in packed.values():
            shutil.move(file, folder)
    with step("papers: SBOMs and provenance", times_file(space)):
        digests = {"raw": raw, **{file: form["sha256"] for file, form in files.items()}}
        made = attestations.make(space, folder, name=name, digests=digests, lock=lock, wanted=wanted)
        files |= {file.name: described(file) for file in made}
    manifest: dict[str, Any] = {
        "name": name,
        "target": space.target,
        "version": space.settings.image.version,
        "builder": __version__,
        "key": image_key(space, wanted),
        "layers": {name: wanted[name].key for name in keys.ORDER},
        # bytes: what the layer adds to the disk; linked_bytes: what its hard links save (environments share files)
        "sizes": {
            name: {"bytes": entry.meta["bytes"], "linked_bytes": layer_cache.linked_bytes(entry.manifest())}
            for name, entry in zip(keys.ORDER, entries, strict=True)
        },
        "tools": keys.tools_key(space).key,
        "epoch": lock.epoch,
        "matches_lock": not relock.moved(space),
        "moved": relock.moved(space),
        "raw_sha256": raw,
        "files": files,
    }
    write_manifest(folder, manifest)
    for line in evict.limit(space, [manifest["tools"], *manifest["layers"].values()]):
        note(f"beyond image:cache_gib, removed: {line}")
    return manifest


def _earlier(space: Workspace, form: str) -> Path:
    """The last image's file of a form, whatever that was made of; it may be missing."""
    file = f"{basename(space)}.{form}"
    unproven = space.build / "image" / file
    return unproven if unproven.exists() else space.dist / file


def described(file: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"sha256": store.sha256_of(file), "bytes": file.stat().st_size}


def prove(space: Workspace) -> dict[str, Any]:
    """The image has been booted and judged from outside; only then is it in dist/. Returns its manifest."""
    from vault_cube.image.guest import boot_check

    finished = current(space)
    if finished:
        return finished
    manifest = unproven(space)
    if manifest is None:
        raise VaultCubeError(f"{basename(space)}: no image of today's inputs to boot: run `salt-call image.disk`")
    folder = space.build / "image"
    with step(f"boot test: {basename(space)}.qcow2", times_file(space)):
        manifest["boot_test"] = boot_check.as_json(boot_check.prove(space, folder / f"{basename(space)}.qcow2"))
    manifest["seconds"] = read_times(times_file(space))
    write_manifest(folder, manifest)
    publish(space, folder, manifest)
    note(f"dist/{basename(space)}.qcow2: sha256 {manifest['files'][f'{basename(space)}.qcow2']['sha256']}")
    return manifest


def verdict(manifest: dict[str, Any]) -> str | None:
    """The last line about an image that is not what the lock says; None when it is."""
    moved = manifest.get("moved")
    if not moved:
        return None
    return f"[yellow]matches_lock: false[/] ({len(moved)} moved; `make lock` makes that the lock): {'; '.join(moved)}"


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """The manifest beside the image, written in one step."""
    write_json(folder / f"{manifest['name']}.manifest.json", manifest)


def publish(space: Workspace, folder: Path, manifest: dict[str, Any]) -> None:
    """Move a proven image into dist/, the manifest last: it is what says that the image is complete."""
    space.dist.mkdir(exist_ok=True)
    name = manifest["name"]
    sums = space.dist / f"{name}.SHA256SUMS"
    (space.dist / f"{name}.manifest.json").unlink(missing_ok=True)
    signature.of(sums).unlink(missing_ok=True)
    for file in manifest["files"]:
        shutil.move(folder / file, space.dist / file)
    sums.write_text("".join(f"{made['sha256']}  {file}\n" for file, made in manifest["files"].items()))
    shutil.move(folder / f"{name}.manifest.json", space.dist)
    prune(space)


def prune(space: Workspace) -> None:
    """Keep the newest images of a target, as many as the pillar says."""
    image = space.settings.image
    found = sorted(
        space.dist.glob(f"{image.name}-*-{space.target}.manifest.json"),
        key=lambda file: file.stat().st_mtime,
        reverse=True,
    )
    for old in found[image.keep :]:
        for file in space.dist.glob(old.name.removesuffix("manifest.json") + "*"):
            file.unlink()


def current(space: Workspace) -> dict[str, Any] | None:
    """The manifest of the finished image when it is what its inputs say today; None when something has to be made."""
    return _fresh(space, space.dist)


def unproven(space: Workspace) -> dict[str, Any] | None:
    """The same of an image that has been made and not yet booted."""
    return _fresh(space, space.build / "image")


def _fresh(space: Workspace, folder: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads((folder / f"{basename(space)}.manifest.json").read_text())
        fresh = manifest["key"] == image_key(space, keys.layer_keys(space))
        # the same bytes may match the lock today and not have matched it when they were made
        fresh = fresh and manifest["moved"] == relock.moved(space)
        damaged = _damaged(folder, manifest) if fresh else []
    except (OSError, ValueError, KeyError, TypeError, VaultCubeError):
        return None
    for name in damaged:
        note(f"[yellow]{folder / name} is not what was made: it is made again[/]")
    return manifest if fresh and not damaged else None


def _damaged(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """The files of an image that are not what its manifest says.

    Only those are read that were written after the manifest was; `image.check` reads them all.
    """
    made = folder / f"{manifest['name']}.manifest.json"
    written = made.stat().st_mtime_ns
    status = {name: (folder / name).stat() for name in manifest["files"]}
    wrong = [name for name, file in manifest["files"].items() if status[name].st_size != file["bytes"]]
    later = [name for name in status if name not in wrong and status[name].st_mtime_ns > written]
    wrong += [name for name in later if store.sha256_of(folder / name) != manifest["files"][name]["sha256"]]
    if later and not wrong:
        made.touch()  # copied, or touched: read once, not each time
    return wrong
