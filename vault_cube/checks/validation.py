"""Gate of layer 5: the box knows what it is and carries what it needs to prove it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vault_cube.checks import Place, Verdict, read_json, verdict


def cases(place: Place) -> Iterator[Verdict]:
    """All cases of the layer."""
    pillar = place.pillar
    manifest = read_json(Path(pillar["validation"]["manifest"])) or {}
    want = {"name": pillar["image"]["name"], "version": pillar["image"]["version"], "target": pillar["target"]["name"]}
    wrong = [f"{key} is {manifest.get(key)}" for key, value in want.items() if manifest.get(key) != value]
    yield verdict("manifest", not wrong, "; ".join(wrong) or f"{want['name']} {want['version']}", "image, target")
    checkout = Path(pillar["validation"]["checkout"])
    parts = [
        "conf/common.conf",
        "salt/top.sls",
        "pillar/box.sls",
        f"pillar/targets/{want['target']}.sls",
        "vault_cube/__init__.py",
    ]
    missing = [part for part in parts if not (checkout / part).is_file()]
    yield verdict(
        "own checkout",
        not missing,
        f"missing: {', '.join(missing)}" if missing else str(checkout),
        "validation:checkout",
    )
