"""Checks of layer 5: the image's manifest, the box's own checkout, and monitoring."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from vault_cube.box import Place, read_json
from vault_cube.paths import CHECKOUT
from vault_cube.verdicts import Check, Verdict, verdict


def image_manifest(place: Place) -> Verdict:
    """Check that the image's manifest on the box has the pillar's name, version and target."""
    settings = place.settings
    manifest = read_json(Path(settings.validation.manifest)) or {}
    wanted = {"name": settings.image.name, "version": settings.image.version, "target": settings.target.name}
    wrong = [f"{key} is {manifest.get(key)}" for key, value in wanted.items() if manifest.get(key) != value]
    return verdict(not wrong, "; ".join(wrong) or f"{wanted['name']} {wanted['version']}", "image, target")


def own_checkout(place: Place) -> Verdict:
    """Check that the box carries the files with which it applies its own states."""
    checkout = Path(CHECKOUT)
    parts = [
        "conf/common.conf",
        "salt/top.sls",
        "pillar/box.sls",
        f"pillar/targets/{place.settings.target.name}.sls",
        "vault_cube/__init__.py",
    ]
    missing = [part for part in parts if not (checkout / part).is_file()]
    return verdict(not missing, f"missing: {', '.join(missing)}" if missing else str(checkout))


def alerts_and_dashboards(place: Place) -> Verdict:
    """Check that alert rules, the configuration of Prometheus and dashboards are installed."""
    folder = Path(place.settings.validation.monitoring.files)
    missing = [name for name in ("alerts.yml", "prometheus.yml", "dashboards") if not (folder / name).exists()]
    evidence = f"missing: {', '.join(missing)}" if missing else str(folder)
    return verdict(not missing, evidence, "validation:monitoring:files")


def exported_readings(place: Place) -> Iterator[Verdict]:
    """Check that the readings that the node exporter serves are at most two intervals old."""
    place.require_running_system()
    chosen = place.settings.validation.monitoring
    intervals = {"disks": chosen.disks_every_s}
    if place.settings.target.accelerator == "nvidia":
        intervals["gpus"] = chosen.gpus_every_s
    metrics, problem = scraped(chosen.address, chosen.port)
    for name, every_s in intervals.items():
        written = re.search(rf'node_textfile_mtime_seconds{{file="[^"]*/vault-cube-{name}.prom"}} (\S+)', metrics)
        age = time.time() - float(written[1]) if written else None
        evidence = (problem or "the node exporter has none") if age is None else f"{age:.0f} s old"
        threshold = f"at most {2 * every_s} s (validation:monitoring:{name}_every_s)"
        yield verdict(age is not None and age <= 2 * every_s, evidence, threshold, check=f"readings of {name}")


def scraped(address: str, port: int) -> tuple[str, str | None]:
    """Read the metrics of the node exporter. Returns them and None; if it does not answer, "" and the reason."""
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        # an answer takes a tenth of a second, on an emulated box many seconds
        with urllib.request.urlopen(f"http://{place}/metrics", timeout=60) as answer:
            return str(answer.read().decode(errors="replace")), None
    except OSError as err:
        reason = getattr(err, "reason", err)
        return "", f"the node exporter does not answer at {place}: {getattr(reason, 'strerror', None) or reason}"


CHECKS: tuple[Check, ...] = (image_manifest, own_checkout, alerts_and_dashboards, exported_readings)
