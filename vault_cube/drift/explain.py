"""Show which package, layer and state own a path, and what differs from the image."""

from __future__ import annotations

import os
from pathlib import Path

from vault_cube.drift import accepted, manifest
from vault_cube.drift.scan import Scan


def explain(root: Path, path: str) -> dict[str, str]:
    """Explain a path. Returns path, layer, package, state, expected and difference, as far as each exists.

    Raises ManifestError if there is no usable manifest.
    """
    place = os.path.normpath(path).strip("/")
    parent, _, name = place.rpartition("/")
    # the folder of a path may be reached through a link such as /lib
    real = os.path.relpath((root / parent).resolve(), root.resolve())
    place = name if real == "." else f"{real}/{name}"
    image = manifest.read(root / manifest.PLACE)
    result = {"path": f"/{place}"}
    if entry := image.entries.get(place):
        result["layer"] = image.header["layers"][entry.layer]
        if entry.package:
            result["package"] = entry.package
    states = image.header["states"]
    owners = [state for name, state in states.items() if name == f"/{place}" or f"/{place}".startswith(f"{name}/")]
    if owners:
        result["state"] = states.get(f"/{place}", owners[-1])
    if reason := manifest.Patterns(image.header["expected"]).reason(place):
        result["expected"] = reason
    differences = [d for d in Scan(root, image, {}, lambda _: True, full=True).run([place]) if d.path == place]
    result["difference"] = differences[0].change() if differences else "none"
    if not entry and not differences:
        result["difference"] = "neither in the image nor on this box"
    if place.startswith(accepted.GUARDED):
        result["guarded"] = "states are applied only if it is as in the image, or accepted"
    return result
