"""The steps that build a golden image, in order. Each step reads the results of earlier steps, never changes them."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
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
"""Folders of the code that makes an image's files from finished layers; part of the image's key."""


def build(space: Workspace) -> dict[str, Any]:
    """Run all stages of the build; stages that are up to date are skipped. Returns the image's manifest."""
    with space.exclusive():
        preflight.check(space)
        make_fetch(space)
        make_tools(space)
        make_layers(space)
        make_disk(space)
        return prove(space)


def times_file(space: Workspace) -> Path:
    """Return the file that records the duration of each step."""
    return space.build / "times.json"


def make_fetch(space: Workspace) -> None:
    """Download all locked files that the store does not have yet.

    A locked file that is no longer available is re-resolved for this build, unless the workspace is `locked`.
    Raises VaultCubeError if a file can be neither downloaded nor re-resolved.
    """
    if space.locked:
        relock.forget(space)
    with step("fetch: download locked files into the store", times_file(space)):
        try:
            fetched = fetch(space)
        except store.Unavailable as err:
            if space.locked or not err.gone:
                raise
            note(f"[yellow]{err}: re-resolving the files that are no longer available[/]")
            for line in relock.renew(space, {failure.wanted.sha256 for failure in err.failures}):
                note(f"moved: {line}")
            try:
                fetched = fetch(space)
            except VaultCubeError:
                relock.forget(space)
                raise
        note(f"{fetched >> 20} MiB downloaded" if fetched else "all locked files are in the store")


@contextmanager
def _stage(space: Workspace, title: str, log: Path) -> Iterator[None]:
    """Run a step that writes a lot of data; if it fails because the disk is full, raise an error that says so."""
    try:
        with step(title, times_file(space), log):
            yield
    except (VaultCubeError, OSError) as err:
        # a command may print many more lines after its error
        messages = f"{err}\n{log_tail(log, 200)}"
        if getattr(err, "errno", None) != errno.ENOSPC and "No space left on device" not in messages:
            raise
        raise VaultCubeError(
            f"{title.partition(':')[0]}: the disk of {space.cache} or {space.checkout} is full: make room, or set "
            f"VAULT_CUBE_CACHE to a folder elsewhere (log: {log})"
        ) from None


def make_tools(space: Workspace) -> layer_cache.Entry:
    """Make the tools tree, unless it is up to date. Returns its cache entry."""
    entry = layer_cache.sound(tools.find(space))
    if entry is None:
        with _stage(space, "tools: tree with mmdebstrap, mke2fs, ukify and QEMU", space.logs / "tools.log"):
            entry = tools.make(space)
    return entry


def make_layers(space: Workspace, last: str = keys.ORDER[-1]) -> list[layer_cache.Entry]:
    """Make the root tree and the layers up to `last`; cached layers with a matching key are reused.

    Returns the cache entries, bottom first.
    """
    wanted = keys.layer_keys(space)
    entries: list[layer_cache.Entry] = []
    for name in keys.ORDER[: keys.ORDER.index(last) + 1]:
        entry = layer_cache.find(space.layers, wanted[name].key)
        # verify a cached layer only if a layer above it has to be rebuilt
        above = keys.ORDER[keys.ORDER.index(name) + 1 : keys.ORDER.index(last) + 1]
        if entry and any(layer_cache.find(space.layers, wanted[layer].key) is None for layer in above):
            entry = layer_cache.sound(entry)
        if entry is None:
            with _stage(space, f"{name}: {_title(name)}", space.logs / f"{name}.log"):
                entry = (
                    root.make(space, wanted[name])
                    if name == keys.ROOT
                    else overlay.make(space, name, wanted[name], entries)
                )
                entry = _of_its_key(space, name, wanted[name], entry)
        entries.append(entry)
    keys.remember(space, {name: wanted[name].inputs for name in keys.ORDER[: len(entries)]})
    return entries


def _title(name: str) -> str:
    return "essential packages, Python and Salt" if name == keys.ROOT else f"salt-call --local state.apply {name}"


def _of_its_key(space: Workspace, name: str, key: keys.Key, entry: layer_cache.Entry) -> layer_cache.Entry:
    """Return the entry of a layer that was just built, if the layer's inputs have not changed since its key was made.

    Raises VaultCubeError if an input was edited during the build: either version may have been used, so the entry is
    removed.
    """
    now = keys.layer_keys(space)[name].inputs
    # ignore edits to the builder itself: this process already loaded the version recorded in the key
    changed = sorted(
        item
        for item in key.inputs.keys() | now.keys()
        if item != "parent" and not item.startswith(keys.BUILDER) and key.inputs.get(item) != now.get(item)
    )
    if changed:
        shutil.rmtree(entry.folder)
        raise VaultCubeError(f"layer {name}: {changed[0]} changed while the layer was built: build again")
    return entry


def image_key(space: Workspace, wanted: dict[str, keys.Key]) -> str:
    """Return the key of the finished image, a digest of its layers, the disk's settings and the code in FINISH."""
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
    """Return the name of the image without file extension, such as `vault-cube-demo-box-1.0.0-debian-12`."""
    image = space.settings.image
    return f"{image.name}-{image.version}-{space.target}"


def make_disk(space: Workspace) -> dict[str, Any]:
    """Make the image's formats, attestations and manifest in build/<target>/image, unless the image is up to date.

    Returns the manifest. The manifest is written last: an interrupted build leaves no image that counts as complete.
    """
    finished = current(space) or unproven(space)
    if finished:
        note(f"{basename(space)} is up to date; nothing to do")
        return finished
    wanted = keys.layer_keys(space)
    entries = make_layers(space)
    while not all(layer_cache.sound(entry) for entry in entries):
        entries = make_layers(space)
    lock = AptLock.read(space.locks / "apt.lock")
    raw_sha256, files = make_formats(space, entries, lock.epoch)
    files |= make_attestations(space, raw_sha256, files, lock, wanted)
    manifest = _manifest(space, wanted, entries, epoch=lock.epoch, raw_sha256=raw_sha256, files=files)
    write_manifest(space.build / "image", manifest)
    for line in evict.limit(space, [manifest["tools"], *manifest["layers"].values()]):
        note(f"evicted, because the cache exceeds image:cache_gib: {line}")
    return manifest


def make_formats(
    space: Workspace, entries: Sequence[layer_cache.Entry], epoch: int
) -> tuple[str, dict[str, dict[str, Any]]]:
    """Make a disk from the layers and pack it into all formats of the pillar; they replace build/<target>/image.

    entries: the finished layers, bottom first. epoch: the time of all files, seconds since 1970.
    Returns the SHA-256 of the raw disk, and the manifest's entry for each file by its name.
    """
    folder, log = space.build / "image", space.logs / "disk.log"
    with space.scratch("disk") as work:
        disk = work / "disk.raw"
        with _stage(space, "disk: kernel image, partitions, file systems", log):
            raw_disk.make(space, entries, epoch, work)
        packed: dict[str, Path] = {form: work / f"{basename(space)}.{form}" for form in space.settings.image.formats}
        with _stage(space, f"formats: {', '.join(packed)}", log), ThreadPoolExecutor() as pool:
            earlier = {form: _earlier(space, form) for form in packed}
            raw_sha256 = formats.make(disk, packed, earlier, space.build / "pieces.json", log)
            # in the background: removing gigabytes takes seconds
            pool.submit(disk.unlink)
            pool.submit(shutil.rmtree, folder, ignore_errors=True)
            described_files = pool.map(described, packed.values())
            files = {file.name: entry for file, entry in zip(packed.values(), described_files, strict=True)}
        folder.mkdir(parents=True)
        for file in packed.values():
            shutil.move(file, folder)
    return raw_sha256, files


def make_attestations(
    space: Workspace,
    raw_sha256: str,
    files: Mapping[str, Mapping[str, Any]],
    lock: AptLock,
    wanted: Mapping[str, keys.Key],
) -> dict[str, dict[str, Any]]:
    """Write the SBOMs and the provenance of an image into build/<target>/image.

    files: the manifest's entries for the image's formats. wanted: the keys of all layers.
    Returns the manifest's entry for each written file by its name.
    """
    # imported here: the SBOM libraries double the start-up time, and only this step uses them
    from vault_cube.image.attest import attestations

    with step("attestations: SBOMs and provenance", times_file(space)):
        digests = {"raw": raw_sha256, **{file: entry["sha256"] for file, entry in files.items()}}
        name = basename(space)
        written = attestations.make(space, space.build / "image", name=name, digests=digests, lock=lock, wanted=wanted)
        return {file.name: described(file) for file in written}


def _manifest(
    space: Workspace,
    wanted: dict[str, keys.Key],
    entries: Sequence[layer_cache.Entry],
    *,
    epoch: int,
    raw_sha256: str,
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the manifest of an image that is not yet boot-tested."""
    moved = relock.moved(space)
    return {
        "name": basename(space),
        "target": space.target,
        "version": space.settings.image.version,
        "builder": __version__,
        "key": image_key(space, wanted),
        "layers": {name: wanted[name].key for name in keys.ORDER},
        # bytes: the layer's share of the disk; linked_bytes: saved by hard links (environments share files)
        "sizes": {
            name: {"bytes": entry.meta["bytes"], "linked_bytes": layer_cache.linked_bytes(entry.manifest())}
            for name, entry in zip(keys.ORDER, entries, strict=True)
        },
        "tools": keys.tools_key(space).key,
        "epoch": epoch,
        "matches_lock": not moved,
        "moved": moved,
        "raw_sha256": raw_sha256,
        "files": dict(files),
    }


def _earlier(space: Workspace, form: str) -> Path:
    """Return the path of the previous image in a format, whatever its inputs were; the file may be missing."""
    file = f"{basename(space)}.{form}"
    unproven = space.build / "image" / file
    return unproven if unproven.exists() else space.dist / file


def described(file: Path) -> dict[str, Any]:
    """Return a manifest's entry for a file: its SHA-256 and its size in bytes."""
    return {"sha256": store.sha256_of(file), "bytes": file.stat().st_size}


def prove(space: Workspace) -> dict[str, Any]:
    """Boot the image, check it from outside, and move it to dist/ if all checks pass. Returns its manifest.

    Raises VaultCubeError if there is no up-to-date image or a check fails.
    """
    from vault_cube.image.guest import boot_check

    finished = current(space)
    if finished:
        return finished
    manifest = unproven(space)
    if manifest is None:
        raise VaultCubeError(
            f"{basename(space)}: no up-to-date image in {space.build / 'image'}: run `salt-call image.disk` first"
        )
    folder = space.build / "image"
    with step(f"boot test: {basename(space)}.qcow2", times_file(space)):
        manifest["boot_test"] = boot_check.prove(space, folder / f"{basename(space)}.qcow2").as_dict()
    manifest["seconds"] = read_times(times_file(space))
    write_manifest(folder, manifest)
    publish(space, folder, manifest)
    note(f"dist/{basename(space)}.qcow2: sha256 {manifest['files'][f'{basename(space)}.qcow2']['sha256']}")
    return manifest


def verdict(manifest: dict[str, Any]) -> str | None:
    """Return a warning about an image with files that differ from the lock; None if all files are as locked."""
    moved = manifest.get("moved")
    if not moved:
        return None
    return (
        f"[yellow]matches_lock: false[/]: {len(moved)} locked files were re-resolved (`make lock` updates the lock): "
        f"{'; '.join(moved)}"
    )


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest beside the image, atomically."""
    write_json(folder / f"{manifest['name']}.manifest.json", manifest)


def publish(space: Workspace, folder: Path, manifest: dict[str, Any]) -> None:
    """Move a tested image to dist/. The manifest is moved last: an image without one is incomplete."""
    space.dist.mkdir(exist_ok=True)
    name = manifest["name"]
    sums = space.dist / f"{name}.SHA256SUMS"
    (space.dist / f"{name}.manifest.json").unlink(missing_ok=True)
    signature.of(sums).unlink(missing_ok=True)
    for file in manifest["files"]:
        shutil.move(folder / file, space.dist / file)
    sums.write_text("".join(f"{entry['sha256']}  {file}\n" for file, entry in manifest["files"].items()))
    shutil.move(folder / f"{name}.manifest.json", space.dist)
    prune(space)


def prune(space: Workspace) -> None:
    """Remove all images of a target from dist/ except the newest `image:keep`."""
    image = space.settings.image
    manifests = sorted(
        space.dist.glob(f"{image.name}-*-{space.target}.manifest.json"),
        key=lambda file: file.stat().st_mtime,
        reverse=True,
    )
    for old in manifests[image.keep :]:
        for file in space.dist.glob(old.name.removesuffix("manifest.json") + "*"):
            file.unlink()


def current(space: Workspace) -> dict[str, Any] | None:
    """Return the manifest of the image in dist/ if the image is up to date, else None."""
    return _fresh(space, space.dist)


def unproven(space: Workspace) -> dict[str, Any] | None:
    """Like `current`, for an image that is built but not yet boot-tested."""
    return _fresh(space, space.build / "image")


def _fresh(space: Workspace, folder: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads((folder / f"{basename(space)}.manifest.json").read_text())
        fresh = manifest["key"] == image_key(space, keys.layer_keys(space))
        # the lock may have been updated since: then the same files match it now, and the manifest's verdict is stale
        fresh = fresh and manifest["moved"] == relock.moved(space)
        damaged = _damaged(folder, manifest) if fresh else []
    except (OSError, ValueError, KeyError, TypeError, VaultCubeError):
        return None
    for name in damaged:
        note(f"[yellow]{folder / name} differs from its manifest: rebuilding[/]")
    return manifest if fresh and not damaged else None


def _damaged(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return the names of an image's files that differ from its manifest in size or SHA-256.

    Hashes only files that were modified after the manifest was written; `image.check` hashes all files.
    """
    manifest_file = folder / f"{manifest['name']}.manifest.json"
    written = manifest_file.stat().st_mtime_ns
    status = {name: (folder / name).stat() for name in manifest["files"]}
    wrong = [name for name, file in manifest["files"].items() if status[name].st_size != file["bytes"]]
    later = [name for name in status if name not in wrong and status[name].st_mtime_ns > written]
    wrong += [name for name in later if store.sha256_of(folder / name) != manifest["files"][name]["sha256"]]
    if later and not wrong:
        manifest_file.touch()  # the files were only copied or touched: do not hash them again next time
    return wrong
