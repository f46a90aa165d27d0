"""Checks of layer 5: the image's manifest, the box's own checkout, and monitoring."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vault_cube.box import Place, read_json
from vault_cube.paths import CHECKOUT
from vault_cube.verdicts import Verdict, not_applicable, verdict


def cases(place: Place) -> Iterator[Verdict]:
    """Run all checks of the layer."""
    pillar = place.pillar
    manifest = read_json(Path(pillar["validation"]["manifest"])) or {}
    wanted = {
        "name": pillar["image"]["name"],
        "version": pillar["image"]["version"],
        "target": pillar["target"]["name"],
    }
    wrong = [f"{key} is {manifest.get(key)}" for key, value in wanted.items() if manifest.get(key) != value]
    yield verdict("manifest", not wrong, "; ".join(wrong) or f"{wanted['name']} {wanted['version']}", "image, target")
    checkout = Path(CHECKOUT)
    parts = [
        "conf/common.conf",
        "salt/top.sls",
        "pillar/box.sls",
        f"pillar/targets/{wanted['target']}.sls",
        "vault_cube/__init__.py",
    ]
    missing = [part for part in parts if not (checkout / part).is_file()]
    yield verdict("own checkout", not missing, f"missing: {', '.join(missing)}" if missing else str(checkout))
    yield from monitoring(place)


def monitoring(place: Place) -> Iterator[Verdict]:
    """Check that alert rules and dashboards are installed and, on a live box, that the exported readings are fresh."""
    chosen = place.pillar["validation"]["monitoring"]
    folder = Path(chosen["files"])
    missing = [name for name in ("alerts.yml", "prometheus.yml", "dashboards") if not (folder / name).exists()]
    evidence = f"missing: {', '.join(missing)}" if missing else str(folder)
    yield verdict("alerts and boards", not missing, evidence, "validation:monitoring:files")
    exporters = ["disks"] + (["gpus"] if place.pillar["target"]["accelerator"] == "nvidia" else [])
    metrics, problem = scraped(chosen) if place.live else ("", None)
    for name in exporters:
        case, limit = f"readings of {name}", 2 * chosen[f"{name}_every_s"]
        if not place.live:
            yield not_applicable(case, "needs a running system")
            continue
        written = re.search(rf'node_textfile_mtime_seconds{{file="[^"]*/vault-cube-{name}.prom"}} (\S+)', metrics)
        age = time.time() - float(written[1]) if written else None
        evidence = (problem or "the node exporter has none") if age is None else f"{age:.0f} s old"
        good = age is not None and age <= limit
        yield verdict(case, good, evidence, f"at most {limit} s (validation:monitoring:{name}_every_s)")


def scraped(chosen: Mapping[str, Any]) -> tuple[str, str | None]:
    """Read the metrics of the node exporter. Returns them and None; if it does not answer, "" and the reason."""
    address = f"[{chosen['address']}]" if ":" in chosen["address"] else chosen["address"]
    place = f"{address}:{chosen['port']}"
    try:
        # an answer takes a tenth of a second, on an emulated box many seconds
        with urllib.request.urlopen(f"http://{place}/metrics", timeout=60) as answer:
            return str(answer.read().decode(errors="replace")), None
    except OSError as err:
        reason = getattr(err, "reason", err)
        return "", f"the node exporter does not answer at {place}: {getattr(reason, 'strerror', None) or reason}"
