"""The SBOMs name the source of each Debian package in the ways that syft, grype and trivy read."""

import json

import pytest
from packageurl import PackageURL

from vault_cube.image.attest import sbom, source_packages
from vault_cube.image.attest.source_packages import SourcePackage
from vault_cube.image.locks.aptlock import Deb

STATUS = """\
Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl
Version: 3.0.11-1~deb12u2
Description: Secure Sockets Layer toolkit
 Source: not a field, but a line of a description

Package: bash
Source: bash (5.2.15-2)
Version: 5.2.15-2+b7
Status: install ok installed

Package: sudo
Version: 1.9.13p3-1+deb12u1

Package: libgcc-s1
Source: gcc-12 (12.2.0-14)
Version: 12.2.0-14

Package: vim
Version: 2:9.0.1378-2

Package: tzdata-native
Version: 2026f


Package: half
"""
SOURCES = source_packages.of_status(STATUS)


@pytest.mark.parametrize(("package", "source"), [
    ("libssl3", SourcePackage("openssl", "3.0.11-1~deb12u2")),
    ("bash", SourcePackage("bash", "5.2.15-2")),
    ("sudo", SourcePackage("sudo", "1.9.13p3-1+deb12u1")),
    ("libgcc-s1", SourcePackage("gcc-12", "12.2.0-14")),
])  # fmt: skip
def test_sources_are_read_from_dpkg_s_status_file(package, source):
    assert SOURCES[package] == source
    assert "half" not in SOURCES


@pytest.mark.parametrize(("version", "parts"), [
    ("2:9.0.1378-2", ("2", "9.0.1378", "2")), ("2026f", ("", "2026f", "")), ("1.0-rc1-3", ("", "1.0-rc1", "3")),
    ("3.0.11-1~deb12u2", ("", "3.0.11", "1~deb12u2")),
])  # fmt: skip
def test_a_version_is_split_as_by_dpkg(version, parts):
    assert SourcePackage("x", version).parts == parts


def part(name, version):
    deb = Deb("base", name, version, "amd64", "bookworm", "debian", 1, "a" * 64, "x.deb")
    return sbom.parts([deb], {}, "Debian", "12", SOURCES)[0]


@pytest.mark.parametrize(("name", "version", "upstream"), [
    ("libssl3", "3.0.11-1~deb12u2", "openssl"),
    ("bash", "5.2.15-2+b7", "bash@5.2.15-2"),
    ("sudo", "1.9.13p3-1+deb12u1", None),
    ("libgcc-s1", "12.2.0-14", "gcc-12"),
    ("unknown", "1", None),
])  # fmt: skip
def test_the_purl_has_the_qualifiers_of_syft_and_grype(name, version, upstream):
    qualifiers = PackageURL.from_string(part(name, version).purl).qualifiers
    assert qualifiers.get("upstream") == upstream
    assert qualifiers["distro"] == "debian-12"


def test_the_sboms_have_trivy_s_properties_and_one_distribution(tmp_path):
    subject = sbom.Subject("image", "1.0.0", "d" * 64, 1_700_000_000, "Debian", "12")
    parts = [part("libssl3", "3.0.11-1~deb12u2"), part("vim", "2:9.0.1378-2"), part("unknown", "1")]
    sbom.cyclonedx(subject, parts, tmp_path / "cdx")
    bom = json.loads((tmp_path / "cdx").read_text())
    properties = {
        component["name"]: {entry["name"]: entry["value"] for entry in component.get("properties", [])}
        for component in bom["components"]
    }
    assert properties["libssl3"] == {
        "vault-cube:in": "base", "aquasecurity:trivy:SrcName": "openssl", "aquasecurity:trivy:SrcVersion": "3.0.11",
        "aquasecurity:trivy:SrcRelease": "1~deb12u2",
    }  # fmt: skip
    assert properties["vim"]["aquasecurity:trivy:SrcEpoch"] == "2"
    assert properties["unknown"] == {"vault-cube:in": "base"}
    # trivy refuses a document with two components of this type
    systems = [
        entry for entry in (*bom["components"], bom["metadata"]["component"]) if entry["type"] == "operating-system"
    ]
    assert [(entry["name"], entry["version"]) for entry in systems] == [("debian", "12")]
    document = sbom.spdx_document(subject, parts)
    assert document.packages[1].source_info == "built package from: openssl 3.0.11-1~deb12u2"


def test_the_topmost_status_file_counts(tmp_path):
    for name, text in {"root": "Package: a\nVersion: 1\n", "base": "Package: a\nVersion: 2\n", "driver": None}.items():
        (tmp_path / name / "var/lib/dpkg").mkdir(parents=True)
        if text:
            (tmp_path / name / source_packages.STATUS).write_text(text)
    trees = [tmp_path / name for name in ("root", "base", "driver")]
    assert source_packages.of_trees(trees)["a"].version == "2"
    assert source_packages.of_trees([tmp_path / "driver"]) == {}
