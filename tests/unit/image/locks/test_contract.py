"""The pillar of ubuntu-24.04 names only packages of its contract, from components that its sources name."""

import json
import re
from pathlib import Path

import pytest
from copied import chosen, merged

from vault_cube.carried import carried
from vault_cube.errors import VaultCubeError
from vault_cube.image.inputs import Inputs
from vault_cube.image.locks import contract
from vault_cube.image.locks.aptlock import AptLock, Deb
from vault_cube.image.locks.contract import Contract
from vault_cube.image.workspace import locks_digest
from vault_cube.settings import check

TOP = Path(__file__).parents[4]
FILE = TOP / "locks/ubuntu-24.04/contract.json"


def breaches(edit=lambda pillar: None, known=None):
    """Compare the pillar of ubuntu-24.04, changed by `edit`, with the contract. Returns the mismatches."""
    pillar = merged(*chosen("ubuntu-24.04"))
    edit(pillar)
    return contract.breaches(known or contract.read(FILE), check(pillar))


def changed(edit):
    """Return the contract after `edit` has changed its JSON."""
    data = json.loads(FILE.read_text())
    edit(data)
    return Contract.model_validate_json(json.dumps(data))


# ---- the pillar


def test_the_pillar_matches_the_contract():
    assert breaches() == []


def adds(section, name):
    return lambda pillar: pillar[section]["packages"].append(name)


def holds(name):
    def edit(pillar):
        pillar["driver"]["packages"].append(name)
        pillar["driver"]["held"].append(name)

    return edit


def boots(name):
    def edit(pillar):
        pillar["base"]["packages"].append(name)
        pillar["base"]["kernel"]["package"] = name

    return edit


def without(component):
    def edit(pillar):
        for source in pillar["archive"]["sources"]:
            source["components"].remove(component)

    return edit


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (adds("validation", "nvtop"), r"nvtop \(validation:packages\): is in component multiverse of ubuntu; "),
        (holds("nvidia-utils-595"), r"nvidia-utils-595 \(driver:packages, driver:held\): is in component multiverse"),
        (
            holds("nvidia-headless-no-dkms-595-open"),
            r"nvidia-headless-no-dkms-595-open \(driver:packages, driver:held\): "
            r"is in component multiverse of ubuntu; ",
        ),
        (adds("base", "no-such-package"), r"no-such-package \(base:packages\): not in contract\.json: look it up"),
        (holds("linux-headers-generic"), r"linux-headers-generic \(driver:packages, driver:held\): not in"),
        (boots("linux-image-x"), r"linux-image-x \(base:kernel:package, base:packages\): not in contract\.json"),
        (lambda pillar: pillar["image"]["root_packages"].append("pip"), r"pip \(image:root_packages\): not in"),
        (without("universe"), r"tini \(base:packages\): is in component universe of ubuntu; the pillar names main, "),
        (without("restricted"), r"nvidia-utils-580 \(driver:packages, driver:held\): is in component restricted"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_one_line_with_its_key(edit, line):
    lines = "\n".join(breaches(edit))
    assert re.search(rf"^{line}", lines, re.M), lines


def test_multiverse_in_the_sources_allows_its_packages():
    def edit(pillar):
        for source in pillar["archive"]["sources"]:
            source["components"].append("multiverse")
        adds("validation", "nvtop")(pillar)

    assert breaches(edit) == []


def test_an_entry_that_no_key_names_is_an_error():
    def edit(pillar):
        pillar["base"]["packages"].remove("tini")

    assert breaches(edit) == ["tini: in contract.json, but no pillar key names it: remove the entry"]


def test_a_vendor_s_package_needs_the_vendor_s_repository():
    def edit(pillar):
        pillar["runtime"]["repositories"][0]["name"] = "another"

    assert breaches(edit) == [
        "nvidia-container-toolkit-base (runtime:packages): "
        "is in archive nvidia-container-toolkit, which the pillar does not name"
    ]


# ---- the file


def test_every_entry_has_a_source_or_a_note():
    for package in contract.read(FILE).packages:
        assert package.source or package.note, package.name


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda data: data["packages"][0].pop("component"),
            r": packages:0:component: Field required: correct the file$",
        ),
        (lambda data: data["packages"][3].update(date="soon"), r": packages:3:date: .*: correct the file$"),
        (
            lambda data: data["packages"][2].update(version=None),
            r": packages:2: version, source and date belong together",
        ),
        (
            lambda data: data["packages"][1].update(version=None, source=None, date=None, note=""),
            r": packages:1: a package without a source needs a note",
        ),
        (lambda data: data["packages"].append(data["packages"][0]), r": listed twice: python3: correct the file$"),
        (lambda data: data["elsewhere"].append(data["packages"][1]), r": listed twice: python3-venv"),
        (lambda data: data["packages"][0].update(source="ftp://x"), r": packages:0:source: "),
        (lambda data: data["packages"][0].update(compnent="main"), r": packages:0:compnent: "),
        (lambda data: data.pop("elsewhere"), r": elsewhere: Field required"),
    ],
)
def test_a_malformed_file_is_one_line_with_file_and_entry(tmp_path, edit, message):
    data = json.loads(FILE.read_text())
    edit(data)
    file = tmp_path / "contract.json"
    file.write_text(json.dumps(data))
    with pytest.raises(VaultCubeError, match=message) as caught:
        contract.read(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "\0"])
def test_invalid_json_is_one_line(tmp_path, text):
    file = tmp_path / "contract.json"
    file.write_text(text)
    with pytest.raises(VaultCubeError) as caught:
        contract.read(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_target_without_a_contract_has_none(workspace):
    assert contract.of(workspace("debian-12")) is None


def test_the_file_is_in_no_layer_key_and_in_no_image(workspace):
    space = workspace("debian-12")
    before = Inputs.read(space).keys, locks_digest(space.checkout / "locks", space.target)
    (space.locks / contract.FILE).write_bytes(FILE.read_bytes())
    assert (Inputs.read(space).keys, locks_digest(space.checkout / "locks", space.target)) == before
    assert not [place for place in carried(space.checkout, space.target) if place.endswith(contract.FILE)]
    assert contract.of(space) == contract.read(FILE)


# ---- the archive


def deb(name, version, *, archive="ubuntu", path="pool/main/x.deb"):
    return Deb("base", name, version, "amd64", "noble", archive, 1, name.ljust(64, "0"), path)


def locked(components, *debs):
    return AptLock(1, debs, {each.sha256: components[each.name] for each in debs if each.name in components})


@pytest.fixture
def two():
    """A contract of a package from main and one from a flat vendor repository."""

    def entry(name, archive, component):
        return {
            "name": name, "archive": archive, "component": component, "version": "1:2.0-1",
            "source": "https://packages.example/x", "date": "2026-11-29",
        }  # fmt: skip

    data = {"packages": [entry("ours", "ubuntu", "main"), entry("theirs", "vendor", None)], "elsewhere": []}
    return Contract.model_validate_json(json.dumps(data))


THEIRS = deb("theirs", "1:2.0-1", archive="vendor")


@pytest.mark.parametrize(
    ("debs", "components", "lines"),
    [
        ([deb("ours", "1:2.0-1"), THEIRS], {"ours": "main"}, []),
        ([deb("ours", "1:2.0-1ubuntu0.1"), THEIRS, deb("more", "1")], {"ours": "main", "more": "universe"}, []),
        ([THEIRS], {}, ["ours: not in the lock; expected from ubuntu main"]),
        (
            [deb("ours", "1:2.0-1"), THEIRS],
            {"ours": "universe"},
            ["ours: from ubuntu universe; expected from ubuntu main"],
        ),
        (
            [deb("ours", "1:2.0-1"), deb("theirs", "1:2.0-1")],
            {"ours": "main", "theirs": "universe"},
            ["theirs: from ubuntu universe; expected from vendor"],
        ),
        (
            [deb("ours", "9.0-1"), THEIRS],
            {"ours": "main"},
            ["ours: 9.0-1 is older than 1:2.0-1, seen at https://packages.example/x"],
        ),
        (
            [deb("ours", "1:2.0~rc1-1"), THEIRS],
            {"ours": "universe"},
            [
                "ours: from ubuntu universe; expected from ubuntu main",
                "ours: 1:2.0~rc1-1 is older than 1:2.0-1, seen at https://packages.example/x",
            ],
        ),
    ],
)  # fmt: skip
def test_each_difference_from_the_archive_is_one_line(two, debs, components, lines):
    assert contract.differences(two, locked(components, *debs)) == lines


def test_a_package_without_an_expected_version_is_not_compared():
    known = changed(lambda data: data.update(packages=[p for p in data["packages"] if p["name"] == "docker.io"]))
    assert known.packages[0].version is None
    assert contract.differences(known, locked({"docker.io": "universe"}, deb("docker.io", "1"))) == []
