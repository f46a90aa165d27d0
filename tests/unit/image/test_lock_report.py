"""The report at the end of `make lock`."""

import json

import pytest

from vault_cube.image import lock_report, needs
from vault_cube.image.locks import pylock
from vault_cube.image.locks.aptlock import AptLock, Deb
from vault_cube.image.locks.contract import Contract
from vault_cube.image.locks.resolve import Resolved


def deb(name, layer):
    return Deb(layer, name, "1", "amd64", "noble", "ubuntu", 1, name.ljust(64, "0"), "pool/x.deb")


@pytest.fixture
def resolved():
    """Three packages, and three wheels, one of them in two environments."""
    debs = (deb("a", "root"), deb("b", "base"), deb("c", "base"))
    x, y, z = (pylock.Wheel(name, "1", name * 64, f"{name}.whl", 1) for name in "xyz")
    return Resolved(
        ["debian-12/apt.lock: a 1 → 2"],
        AptLock(1, debs, {d.sha256: "main" for d in debs}),
        {"salt": [x], "vllm": [x, y, z]},
    )


@pytest.fixture(autouse=True)
def _needed(monkeypatch):
    monkeypatch.setattr(needs, "of", lambda *_: needs.Needs(9_000_000_000, 7_460_000_000, 70_000_000_000))


@pytest.fixture
def expected():
    entry = {
        "name": "zz",
        "archive": "ubuntu",
        "component": "main",
        "version": None,
        "source": None,
        "date": None,
        "note": "n",
    }
    return Contract.model_validate_json(json.dumps({"packages": [entry], "elsewhere": []}))


def test_the_report_ends_with_downloads_disk_and_the_next_command(workspace, resolved, expected):
    assert lock_report.lines(workspace("debian-12"), resolved, expected) == [
        "moved: debian-12/apt.lock: a 1 → 2",
        "resolved: 3 packages (root 1, base 2, driver 0, runtime 0, frameworks 0, validation 0)",
        "resolved: 3 wheels (salt 1, vllm 3; a wheel in several environments counts once)",
        "differs from the contract: zz: not in the lock; expected from ubuntu main",
        "to download: 7.5 GB of 9.0 GB; the store has the rest",
        "disk needed: 70.0 GB free, downloads included",
        "next: make image TARGET=debian-12",
    ]


def test_no_change_and_no_contract(workspace, resolved):
    lines = lock_report.lines(workspace("debian-12"), Resolved([], resolved.packages, resolved.wheels), None)
    assert lines[0] == "moved: nothing"
    assert lines[3] == "to download: 7.5 GB of 9.0 GB; the store has the rest"


def test_no_differences_from_the_contract_is_reported(workspace, expected):
    resolved = Resolved([], AptLock(1, (deb("zz", "base"),), {"zz".ljust(64, "0"): "main"}), {})
    assert "differs from the contract: nothing" in lock_report.lines(workspace("debian-12"), resolved, expected)
