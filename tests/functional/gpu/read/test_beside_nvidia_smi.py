"""gpu.detect agrees with `nvidia-smi -q -x`: on this machine's own GPUs, and in what was recorded on others.

`VAULT_CUBE_RECORD=1 pytest tests/functional/gpu/read/test_beside_nvidia_smi.py` on a machine with a GPU
writes the output of both to recorded/, named after model, driver and date. Once committed, it is compared in every run.
"""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from smi import FIELDS, disagreements

from vault_cube.gpu.nvml.session import Session
from vault_cube.gpu.read.detail import details
from vault_cube.gpu.read.facts import facts

RECORDED = Path(__file__).parent / "recorded"


def detected():
    with Session() as session:
        result = facts(session)
        return result | {"devices": details(session)} if result["devices"] else result


def nameless(text, result):
    """A recording is published: whose card it was is nobody's business."""
    for number, card in enumerate(result["devices"]):
        text = text.replace(card["uuid"], f"GPU-00000000-0000-0000-0000-{number:012}")
        text = text.replace(card.get("serial", card["uuid"]), f"{number:013}")
    return text.rstrip("\n")


@pytest.mark.skipif(not shutil.which("nvidia-smi"), reason="this machine has no nvidia-smi: no real GPU to ask")
def test_on_this_machine():
    ran = subprocess.run(["nvidia-smi", "-q", "-x"], capture_output=True, text=True, timeout=60, check=False)
    if ran.returncode:
        pytest.skip(f"nvidia-smi does not answer: {ran.stdout.strip().splitlines()[-1:]}")
    result = detected()
    assert "simulated" not in result
    lines, compared = disagreements(ran.stdout, result)
    if os.environ.get("VAULT_CUBE_RECORD"):
        model = re.sub(r"\W+", "-", result["devices"][0]["name"]).lower()
        name = f"{result['count']}x-{model}-{result['driver_version']}-{time.strftime('%Y-%m-%d')}"
        RECORDED.mkdir(exist_ok=True)
        for ending, text in (("xml", ran.stdout), ("json", json.dumps(result, indent=1))):
            (RECORDED / f"{name}.{ending}").write_text(nameless(text, result) + "\n")
    assert lines == []
    assert compared > 20


def test_in_what_was_recorded():
    recordings = sorted(RECORDED.glob("*.xml"))
    if not recordings:
        pytest.skip("nothing was recorded yet: no machine with a GPU was at hand")
    for file in recordings:
        lines, _ = disagreements(file.read_text(), json.loads(file.with_suffix(".json").read_text()))
        assert lines == [], file.name


def document(result):
    """nvidia-smi's document for what the fake says, so that the comparison itself is tried without a GPU."""
    units = {"memory_mib": "{} MiB", "power_limit_w": "{:.2f} W", "pcie/width_max": "{}x", "temperature_c": "{} C"}
    evidence = {"enabled": "Enabled", "disabled": "Disabled", "default": "Default", "none": "None"}
    gpus = []
    for card in result["devices"]:
        tags = []
        for theirs, ours, read, _ in FIELDS:
            value = card
            for part in ours.split("/"):
                value = value.get(part) if isinstance(value, dict) else None
            if read.__name__ == "word" and value in (0, 1):
                value = ("No", "Yes")[value]
            text = "N/A" if value is None else units.get(ours, "{}").format(evidence.get(value, value))
            *parents, last = theirs.split("/")
            inner = f"<{last}>{text}</{last}>"
            for parent in reversed(parents):
                inner = f"<{parent}>{inner}</{parent}>"
            tags.append(inner)
        gpus.append(f'<gpu id="{card["pcie"]["bus_id"]}">{"".join(tags)}</gpu>')
    return (
        f"<nvidia_smi_log><driver_version>{result['driver_version']}</driver_version>"
        f"<cuda_version>{result['cuda_driver_version']}</cuda_version>"
        f"<attached_gpus>{result['count']}</attached_gpus>{''.join(gpus)}</nvidia_smi_log>"
    )


@pytest.mark.parametrize("profile", ["4x5090", "h200", "8 mixed"])
def test_the_comparison_sees_every_field(nvml, profile):
    nvml.profile(profile)
    result = detected()
    text = document(result)
    lines, compared = disagreements(text, result)
    assert lines == []
    assert compared > 25 * result["count"]
    # whatever is changed in one of them is seen
    changed = json.loads(json.dumps(result))
    for card in changed["devices"]:
        card |= {"memory_mib": 1, "vbios": "another", "persistence": "disabled", "power_limit_w": 1.0}
        card["pcie"]["width_max"] = 1
        card["serial"] = "another"
    lines, _ = disagreements(text, changed)
    assert len(lines) == 6 * result["count"]
