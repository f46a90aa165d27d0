"""The steps that build a golden image, in order. Each step reads the results of earlier steps, never changes them."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from vault_cube import __version__, tree_manifest
from vault_cube.drift.manifest import ENDING, PLACE
from vault_cube.errors import VaultCubeError
from vault_cube.image import preflight, store
from vault_cube.image.attest import manifest, signature
from vault_cube.image.attest.finished import basename, image_key, proven, unproven
from vault_cube.image.attest.manifest import Manifest
from vault_cube.image.cache import evict, keys, layer_cache
from vault_cube.image.disk import converted, formats, raw_disk
from vault_cube.image.download import relock
from vault_cube.image.download.fetch import fetch
from vault_cube.image.guest.qemu import Qemu
from vault_cube.image.inputs import Inputs, Locks
from vault_cube.image.layers import overlay, root, tools
from vault_cube.image.progress import note, read_times, step
from vault_cube.image.workspace import Workspace
from vault_cube.process import log_tail


def build(space: Workspace) -> Manifest:
    """Run all stages of the build; stages that are up to date are skipped. Returns the image's manifest."""
    with space.exclusive():
        preflight.check(space)
        make_fetch(space)
        inputs = Inputs.read(space)
        make_tools(space, inputs)
        make_layers(space, inputs)
        make_disk(space, inputs)
        return prove(space, inputs)


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
        locks = Locks.read(space)
        try:
            fetched = fetch(space, locks)
        except store.Unavailable as err:
            if space.locked or not err.gone:
                raise
            note(f"[yellow]{err}: re-resolving the files that are no longer available[/]")
            for line in relock.renew(space, locks, {failure.wanted.sha256 for failure in err.failures}):
                note(f"moved: {line}")
            try:
                fetched = fetch(space, Locks.read(space))
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
        ) from err


def make_tools(space: Workspace, inputs: Inputs) -> layer_cache.Entry:
    """Make the tools tree, unless it is up to date. Returns its cache entry."""
    entry = layer_cache.sound(tools.find(space))
    if entry is None:
        with _stage(space, "tools: tree with mmdebstrap, mke2fs, ukify and QEMU", space.logs / "tools.log"):
            entry = tools.make(space, inputs.tools)
    return entry


def make_layers(space: Workspace, inputs: Inputs, last: str = keys.ORDER[-1]) -> list[layer_cache.Entry]:
    """Make the root tree and the layers up to `last`; cached layers with a matching key are reused.

    Returns the cache entries, bottom first.
    """
    wanted = inputs.keys
    entries: list[layer_cache.Entry] = []
    for name in keys.ORDER[: keys.ORDER.index(last) + 1]:
        entry = layer_cache.find(space.layers, wanted[name].key)
        # verify a cached layer only if a layer above it has to be rebuilt
        above = keys.ORDER[keys.ORDER.index(name) + 1 : keys.ORDER.index(last) + 1]
        if entry and any(layer_cache.find(space.layers, wanted[layer].key) is None for layer in above):
            entry = layer_cache.sound(entry)
        if entry is None:
            with _stage(space, f"{name}: {_title(name)}", space.logs / f"{name}.log"):
                entry = root.make(space, inputs) if name == keys.ROOT else overlay.make(space, inputs, name, entries)
                # read the inputs again: an edit during the build must not be cached under the old key
                now = Inputs.read(space).keys[name]
                entry = of_its_key(name, wanted[name], now, entry)
        entries.append(entry)
    keys.remember(space, {name: wanted[name].inputs for name in keys.ORDER[: len(entries)]})
    return entries


def _title(name: str) -> str:
    return "essential packages, Python and Salt" if name == keys.ROOT else f"salt-call --local state.apply {name}"


def of_its_key(name: str, key: keys.Key, now: keys.Key, entry: layer_cache.Entry) -> layer_cache.Entry:
    """Return the entry of a layer that was just built, if the layer's inputs have not changed since its key was made.

    now: the layer's key after the build. Raises VaultCubeError if an input was edited during the build: either version
    may have been used, so the entry is removed.
    """
    # ignore edits to the builder itself: this process already loaded the version recorded in the key
    changed = sorted(
        item
        for item in key.inputs.keys() | now.inputs.keys()
        if item != "parent" and not item.startswith(keys.BUILDER) and key.inputs.get(item) != now.inputs.get(item)
    )
    if changed:
        shutil.rmtree(entry.folder)
        raise VaultCubeError(f"layer {name}: {changed[0]} changed while the layer was built: build again")
    return entry


def make_disk(space: Workspace, inputs: Inputs) -> Manifest:
    """Make the image's formats, attestations and manifest in build/<target>/image, unless the image is up to date.

    Returns the manifest. The manifest is written last: an interrupted build leaves no image that counts as complete.
    """
    finished = proven(space, inputs) or unproven(space, inputs)
    if finished:
        note(f"{basename(space)} is up to date; nothing to do")
        return finished
    entries = make_layers(space, inputs)
    while not all(layer_cache.sound(entry) for entry in entries):
        entries = make_layers(space, inputs)
    raw_sha256, files = make_formats(space, entries, inputs.packages.epoch)
    files |= copy_file_manifest(space, entries[-1])
    files |= make_attestations(space, inputs, raw_sha256, files)
    result = _manifest(space, inputs, entries, raw_sha256, files)
    manifest.write(space.build / "image", result)
    for line in evict.limit(space, [result["tools"], *result["layers"].values()]):
        note(f"evicted, because the cache exceeds image:cache_gib: {line}")
    return result


def make_formats(
    space: Workspace, entries: Sequence[layer_cache.Entry], epoch: int
) -> tuple[str, dict[str, manifest.File]]:
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
            own = {form: file for form, file in packed.items() if form in formats.FORMS}
            earlier = {form: _earlier(space, form) for form in own}
            raw_sha256 = formats.make(disk, own, earlier, space.build / "pieces.json", log)
            for form in packed.keys() - own.keys():
                qemu = Qemu.of_tree(tools.tree(space))
                raw = converted.Raw(disk, raw_sha256, basename(space), epoch)
                converted.make(raw, packed[form], qemu.image, {**os.environ, **qemu.environment}, log)
            # in the background: removing gigabytes takes seconds
            pool.submit(disk.unlink)
            pool.submit(shutil.rmtree, folder, ignore_errors=True)
            described = pool.map(manifest.described, packed.values())
            files = {file.name: entry for file, entry in zip(packed.values(), described, strict=True)}
        folder.mkdir(parents=True)
        for file in packed.values():
            shutil.move(file, folder)
    return raw_sha256, files


def copy_file_manifest(space: Workspace, last: layer_cache.Entry) -> dict[str, manifest.File]:
    """Put the manifest of the image's files beside the image, so that SHA256SUMS and its signature cover it.

    last: the last layer. Returns the manifest's entry for it by its name.
    """
    file = space.build / "image" / f"{basename(space)}{ENDING}"
    shutil.copyfile(last.tree / PLACE, file)
    return {file.name: manifest.described(file)}


def make_attestations(
    space: Workspace, inputs: Inputs, raw_sha256: str, files: Mapping[str, manifest.File]
) -> dict[str, manifest.File]:
    """Write the SBOMs and the provenance of an image into build/<target>/image.

    files: the manifest's entries for the image's formats. Returns the manifest's entry for each written file by its
    name.
    """
    # imported here: the SBOM libraries double the start-up time, and only this step uses them
    from vault_cube.image.attest import attestations

    with step("attestations: SBOMs and provenance", times_file(space)):
        digests = {"raw": raw_sha256, **{file: entry["sha256"] for file, entry in files.items()}}
        layers = (layer_cache.find(space.layers, key.key) for key in inputs.keys.values())
        trees = [entry.tree for entry in layers if entry]
        folder, name = space.build / "image", basename(space)
        written = attestations.make(space, inputs, folder, name=name, digests=digests, trees=trees)
        return {file.name: manifest.described(file) for file in written}


def _manifest(
    space: Workspace,
    inputs: Inputs,
    entries: Sequence[layer_cache.Entry],
    raw_sha256: str,
    files: Mapping[str, manifest.File],
) -> Manifest:
    """Return the manifest of an image that is not yet boot-tested."""
    return {
        "name": basename(space),
        "target": space.target,
        "version": space.settings.image.version,
        "builder": __version__,
        "key": image_key(space, inputs),
        "layers": {name: key.key for name, key in inputs.keys.items()},
        "sizes": {name: _size(entry) for name, entry in zip(inputs.keys, entries, strict=True)},
        "tools": inputs.tools_key,
        "epoch": inputs.packages.epoch,
        "matches_lock": not inputs.moved,
        "moved": list(inputs.moved),
        "raw_sha256": raw_sha256,
        "files": dict(files),
    }


def _size(entry: layer_cache.Entry) -> manifest.Size:
    return {"bytes": entry.meta["bytes"], "linked_bytes": tree_manifest.linked_bytes(entry.lines())}


def _earlier(space: Workspace, form: str) -> Path:
    """Return the path of the previous image in a format, whatever its inputs were; the file may be missing."""
    file = f"{basename(space)}.{form}"
    unproven = space.build / "image" / file
    return unproven if unproven.exists() else space.dist / file


def prove(space: Workspace, inputs: Inputs) -> Manifest:
    """Boot the image, check it from outside, and move it to dist/ if all checks pass. Returns its manifest.

    Raises VaultCubeError if there is no up-to-date image or a check fails.
    """
    from vault_cube.image.guest import boot_check

    finished = proven(space, inputs)
    if finished:
        return finished
    result = unproven(space, inputs)
    if result is None:
        raise VaultCubeError(
            f"{basename(space)}: no up-to-date image in {space.build / 'image'}: run `salt-call image.disk` first"
        )
    folder = space.build / "image"
    with step(f"boot test: {basename(space)}.qcow2", times_file(space)):
        result["boot_test"] = boot_check.prove(space, folder / f"{basename(space)}.qcow2").as_dict()
    result["seconds"] = read_times(times_file(space))
    manifest.write(folder, result)
    publish(space, folder, result)
    note(f"dist/{basename(space)}.qcow2: sha256 {result['files'][f'{basename(space)}.qcow2']['sha256']}")
    return result


def verdict(image: Manifest) -> str | None:
    """Return a warning about an image with files that differ from the lock; None if all files are as locked."""
    moved = image.get("moved")
    if not moved:
        return None
    return (
        f"[yellow]matches_lock: false[/]: {len(moved)} locked files were re-resolved (`make lock` updates the lock): "
        f"{'; '.join(moved)}"
    )


def publish(space: Workspace, folder: Path, image: Manifest) -> None:
    """Move a tested image to dist/. The manifest is moved last: an image without one is incomplete."""
    space.dist.mkdir(exist_ok=True)
    name = image["name"]
    sums = space.dist / f"{name}.SHA256SUMS"
    manifest.path(space.dist, name).unlink(missing_ok=True)
    signature.of(sums).unlink(missing_ok=True)
    for file in image["files"]:
        shutil.move(folder / file, space.dist / file)
    sums.write_text("".join(f"{entry['sha256']}  {file}\n" for file, entry in image["files"].items()))
    shutil.move(manifest.path(folder, name), space.dist)
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
