"""What drift.report makes of Salt's result and of the program's; the program is a script of the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from vault_cube.box import drift
from vault_cube.drift.classes import EXPECTED, REPAIRED, UNKNOWN, UNMANAGED
from vault_cube.errors import VaultCubeError
from vault_cube.metrics import drift as metrics
from vault_cube.settings import Settings, check

TOP = Path(__file__).parents[3]
RAN = {
    "file_|-keys only_|-/etc/ssh/x_|-managed": {
        "__sls__": "base.ssh", "__id__": "keys only", "name": "/etc/ssh/x", "result": None,
        "changes": {"diff": "x"}, "comment": "The file\nwould be changed",
    },
    "pkg_|-tools_|-tools_|-installed": {
        "__sls__": "base.packages", "__id__": "tools", "name": "tools", "result": False, "changes": {},
        "comment": "no network",
    },
    "unit_|-ssh is on_|-ssh.service_|-enabled": {
        "__sls__": "base.units", "__id__": "ssh is on", "name": "ssh.service", "result": True, "changes": {},
        "comment": "is on",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def settings() -> Settings:
    pillar = yaml.safe_load((TOP / "pillar/box.sls").read_text())
    target = yaml.safe_load((TOP / "pillar/targets/debian-12.sls").read_text())
    return check(merged(pillar, target))


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            both[key] = merged(below[key], above[key])
    return both


def program(folder: Path, *lines: str) -> Path:
    file = folder / "program"
    file.write_text("\n".join(("#!/bin/sh", *lines)))
    file.chmod(0o755)
    return file


def test_salt_s_result_is_converted() -> None:
    managed, packages, unit = drift.states(RAN)
    assert managed == {
        "state": "base.ssh: keys only", "function": "file.managed", "name": "/etc/ssh/x", "differs": True,
        "failed": False, "would": "The file would be changed (diff)",
    }  # fmt: skip
    assert (packages["failed"], packages["function"]) == (True, "pkg.installed")
    assert (unit["differs"], unit["failed"]) == (False, False)


def test_without_the_program_the_states_alone_are_reported(settings: Settings, tmp_path: Path) -> None:
    result = drift.compare(settings, drift.states(RAN), full=False, program=tmp_path / "missing")
    assert (result["mode"], result["drifted"]) == ("states only", True)
    assert {finding["what"]: finding["class"] for finding in result["findings"]} == {
        "/etc/ssh/x": REPAIRED, "tools": UNKNOWN,
    }  # fmt: skip
    assert "was not made from an image" in result["notes"][0]


def test_the_program_gets_states_and_pillar(settings: Settings, tmp_path: Path) -> None:
    answer = {"drifted": False, "counts": {}, "findings": [], "notes": []}
    script = program(
        tmp_path, f'cat > "{tmp_path}/request"; echo "$@" > "{tmp_path}/arguments"', f"echo '{json.dumps(answer)}'"
    )
    assert drift.compare(settings, drift.states(RAN), full=True, program=script) == answer
    request = json.loads((tmp_path / "request").read_text())
    assert request["states"] == drift.states(RAN)
    assert request["expected"] == settings.validation.drift.expected
    assert f"tcp {settings.base.ssh.port}" in request["listen"]
    assert (tmp_path / "arguments").read_text().split() == ["compare", "--json", "--request", "--full"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["echo 'drift: manifest.gz: damaged' >&2; exit 1"], "manifest.gz: damaged"),
        (["exit 3"], "exit status 3"),
        (["echo not JSON"], "exit status 0"),
    ],
)
def test_a_program_that_fails_is_an_error_in_one_line(
    settings: Settings, tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(VaultCubeError, match=message):
        drift.compare(settings, [], full=False, program=program(tmp_path, *lines))


def test_only_two_classes_are_drift() -> None:
    findings = [{"class": kind, "what": kind} for kind in (REPAIRED, UNMANAGED, UNKNOWN, EXPECTED)]
    result = drift.separated({"findings": findings})
    assert [finding["what"] for finding in result["findings"]] == [REPAIRED, UNMANAGED]
    assert [result[name][0]["what"] for name in ("unjudged", "expected")] == [UNKNOWN, EXPECTED]


def test_the_last_result_is_stored_for_the_grain(tmp_path: Path) -> None:
    last = tmp_path / "drift/last.json"
    drift.remember({"drifted": True, "counts": {REPAIRED: 1}, "mode": "full", "findings": ["long"]}, last)
    record = json.loads(last.read_text())
    assert record.pop("at") > 1_700_000_000
    assert record == {"drifted": True, "counts": {REPAIRED: 1}, "mode": "full"}
    assert [file.name for file in last.parent.iterdir()] == ["last.json"]


def test_the_counts_are_metrics(tmp_path: Path) -> None:
    counts = {REPAIRED: 1, UNMANAGED: 2, UNKNOWN: 0, EXPECTED: 7}
    metrics.write({"counts": counts, "mode": "default"}, tmp_path)
    lines = (tmp_path / "vault-cube-drift.prom").read_text().splitlines()
    assert 'vault_cube_drift_findings{class="unmanaged"} 2' in lines
    assert 'vault_cube_drift_findings{class="unknown"} 0' in lines
    assert any(line.startswith('vault_cube_drift_checked_timestamp_seconds{mode="default"} 1') for line in lines)
    metrics.write({"counts": counts, "mode": "default"}, tmp_path / "no node exporter")


def test_explain_needs_the_program(tmp_path: Path) -> None:
    with pytest.raises(VaultCubeError, match="missing"):
        drift.explain("/etc/x", tmp_path / "missing")
    assert drift.explain("/etc/x", program(tmp_path, """echo '{"path": "/etc/x"}'""")) == {"path": "/etc/x"}
    with pytest.raises(VaultCubeError, match="damaged"):
        drift.explain("/etc/x", program(tmp_path, "echo 'drift: damaged' >&2; exit 1"))
