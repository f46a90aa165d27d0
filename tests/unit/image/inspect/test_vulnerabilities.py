"""Reports for known packages and advisories, and the errors for files that are not vulnerability data."""

import json
import subprocess
import zipfile
from types import SimpleNamespace

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import store
from vault_cube.image.inspect import vulnerabilities
from vault_cube.image.locks import pylock
from vault_cube.image.locks.aptlock import AptLock, Deb

DEBS = {
    "bsdutils": ("1:2.38.1-5", "util-linux (2.38.1-5)"),
    "mount": ("2.38.1-5", "util-linux"),
    "bash": ("5.2.15-2+b7", ""),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Real empty packages, in a store."""
    top = tmp_path_factory.mktemp("debs")
    debs_store, debs = store.Store(top / "store"), []
    for name, (version, source) in DEBS.items():
        control = top / name / "DEBIAN/control"
        control.parent.mkdir(parents=True)
        text = (
            f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\n"
        )
        control.write_text(text + (f"Source: {source}\n" if source else ""))
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-b", top / name, top / f"{name}.deb"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        digest = store.sha256_of(top / f"{name}.deb")
        debs_store.path(digest).parent.mkdir(parents=True, exist_ok=True)
        (top / f"{name}.deb").rename(debs_store.path(digest))
        debs.append(Deb("root", name, version, "amd64", "bookworm", "debian", 1, digest, f"pool/{name}.deb"))
    return debs_store, tuple(debs)


@pytest.fixture
def report(packages):
    """report(data) reports on a target with these packages and three Python environments."""
    debs_store, debs = packages
    versions = {"salt": "3.1", "pytorch": "2.13.0+cpu", "vllm": "2.13.0+cpu"}
    wheels = {
        name: [pylock.Wheel("jinja2" if name == "salt" else "torch", version, "c" * 64, "x.whl", 1)]
        for name, version in versions.items()
    }
    target = SimpleNamespace(os="Debian", release="12", codename="bookworm")
    settings = SimpleNamespace(target=target)
    inputs = SimpleNamespace(packages=AptLock(1, debs), wheels=wheels)
    return lambda data, store=debs_store.root: vulnerabilities.report(
        SimpleNamespace(store=store, settings=settings), inputs, data
    )


def tracked(**releases):
    names = ("status", "fixed_version", "urgency")
    return {"releases": {release: dict(zip(names, values, strict=True)) for release, values in releases.items()}}


def test_advisories_of_the_security_tracker_are_reported(report, tmp_path):
    data = {
        "util-linux": {
            "CVE-1": tracked(bookworm=("open", None, "low")),
            "CVE-2": tracked(bookworm=("resolved", "2.38.1-5+deb12u1", "x")),
            "CVE-3": tracked(bookworm=("resolved", "2.38.1-5", "x")),
            "CVE-4": tracked(bookworm=("resolved", "0", "x")),
            "CVE-5": tracked(trixie=("open", None, "high")),
        },
        "bash": {"CVE-6": tracked(bookworm=("resolved", "5.2.15-2", "x"))},
        "elsewhere": {"CVE-7": tracked(bookworm=("open", None, "high"))},
    }
    (tmp_path / "tracker.json").write_text(json.dumps(data))
    assert report(tmp_path / "tracker.json") == [
        "util-linux 2.38.1-5 (bsdutils, mount): CVE-1: open, urgency low",
        "util-linux 2.38.1-5 (bsdutils, mount): CVE-2: fixed in 2.38.1-5+deb12u1",
        "2 advisories for 2 source packages in tracker.json",
    ]


def entry(name, ecosystem, events=(), versions=(), **more):
    affected = {"package": {"name": name, "ecosystem": ecosystem}, "versions": list(versions)}
    affected["ranges"] = [{"type": "ECOSYSTEM", "events": list(events)}]
    return {"affected": [affected], **more}


def test_advisories_of_osv_are_reported(report, tmp_path):
    entries = {
        "one": entry("Jinja2", "PyPI", [{"introduced": "0"}, {"fixed": "3.1.4"}], id="GHSA-1"),
        "two": entry("torch", "PyPI", [{"introduced": "2.13.0"}], id="GHSA-2"),
        "three": entry("torch", "PyPI", [{"introduced": "0"}, {"fixed": "2.13.0"}], id="GHSA-3"),
        "four": entry("torch", "PyPI", [{"introduced": "2.14"}], id="GHSA-4"),
        "five": entry("torch", "PyPI", [{"introduced": "0"}, {"last_affected": "2.13.0"}], id="GHSA-5"),
        "six": entry("torch", "PyPI", [{"introduced": "0"}], id="GHSA-6", withdrawn="2026-01-01T00:00:00Z"),
        "seven": entry("jinja2", "PyPI", versions=["3.1"], id="GHSA-7"),
        "eight": entry("bash", "Debian:12", [{"introduced": "0"}, {"fixed": "5.2.15-3"}], id="DSA-8"),
        "nine": entry("bash", "Debian:13", [{"introduced": "0"}], id="DSA-9"),
    }
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as out:
        for name, content in entries.items():
            out.writestr(f"{name}.json", json.dumps(content))
    assert report(tmp_path / "all.zip") == [
        "bash 5.2.15-2 (bash): DSA-8: fixed in 5.2.15-3",
        "jinja2 3.1 (salt): GHSA-1: fixed in 3.1.4",
        "jinja2 3.1 (salt): GHSA-7: open",
        "torch 2.13.0+cpu (pytorch, vllm): GHSA-2: open",
        "torch 2.13.0+cpu (pytorch, vllm): GHSA-5: open",
        "5 advisories for 2 source packages and 2 wheels in all.zip",
    ]


def test_without_data_the_report_asks_for_a_file(report):
    (line,) = report(None)
    assert line.startswith("no data: pass data=FILE")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "PK\x03\x04"])
def test_a_file_of_another_format_is_reported_in_one_line(report, tmp_path, content):
    (tmp_path / "data").write_text(content)
    with pytest.raises(VaultCubeError, match=r"data: unknown format: pass the JSON of Debian's security tracker, or"):
        report(tmp_path / "data")


def test_a_missing_file_and_a_missing_package_are_reported_in_one_line(report, tmp_path, packages):
    with pytest.raises(VaultCubeError, match="nowhere: cannot be read: No such file"):
        report(tmp_path / "nowhere")
    with pytest.raises(VaultCubeError, match=r"\.deb: not in the store"):
        report(tmp_path / "nowhere", tmp_path / "empty")
