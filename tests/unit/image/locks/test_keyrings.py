"""The keyrings of the checkout: apt uses one only if it contains exactly the pillar's keys."""

from pathlib import Path

import pytest
import yaml

from vault_cube import openpgp
from vault_cube.errors import VaultCubeError
from vault_cube.image.locks import keyrings

TOP = Path(__file__).parents[4]
DEBIAN = "/usr/share/keyrings/debian-archive-keyring.gpg"
UBUNTU = "/usr/share/keyrings/ubuntu-archive-keyring.gpg"
TARGETS = sorted(file.stem for file in (TOP / "pillar/targets").glob("*.sls"))


def files(space):
    return [Path(source.keyring) for source in keyrings.sources(space, space.settings.archive.sources)]


@pytest.mark.parametrize("target", TARGETS)
def test_no_target_needs_a_keyring_from_this_machine(workspace, target):
    space = workspace(target)
    wanted = [*space.settings.archive.sources, *space.settings.image.tools.sources]
    for source in keyrings.sources(space, wanted):
        assert Path(source.keyring).parent == space.checkout / "locks/keyrings"


@pytest.mark.parametrize("file", sorted((TOP / "locks/keyrings").iterdir()), ids=lambda file: file.name)
def test_every_keyring_of_the_checkout_is_in_the_pillar(file):
    listed = yaml.safe_load((TOP / "pillar/box.sls").read_text())["image"]["keyrings"]
    keys = {Path(name).stem: fingerprints for name, fingerprints in listed.items()}
    assert sorted(openpgp.primary_keys(file.read_bytes())) == sorted(keys[file.stem])


def test_debian_s_keys_are_in_this_machine_s_keyring_package():
    own = [Path(DEBIAN), Path(DEBIAN.replace("keyring.gpg", "removed-keys.gpg"))]
    if not own[0].exists():
        pytest.skip("debian-archive-keyring is not installed")
    listed = yaml.safe_load((TOP / "pillar/box.sls").read_text())["image"]["keyrings"][DEBIAN]
    assert set(listed) <= {key for file in own if file.exists() for key in openpgp.primary_keys(file.read_bytes())}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda own, other: other, "contains the keys .*, but pillar key image:keyrings:.* names"),
        (lambda own, other: own + other, "contains the keys .*, but pillar key image:keyrings:.* names"),
        (lambda own, other: own[:-900], "not a keyring .*: restore the file"),
        (lambda own, other: b"", "not a keyring .*: restore the file"),
        (lambda own, other: b"<html>not found</html>", "not a keyring .*: restore the file"),
        (None, "No such file or directory, but pillar key image:keyrings:.* lists it: restore the file"),
    ],
    ids=["a different keyring", "an additional key", "truncated", "empty", "a web page", "missing"],
)
def test_a_different_or_damaged_keyring_is_refused_in_one_line(workspace, spoil, reason):
    space = workspace("ubuntu-24.04")
    file = space.checkout / "locks/keyrings/ubuntu-archive-keyring.asc"
    other = (file.parent / "debian-archive-keyring.asc").read_bytes()
    file.write_bytes(spoil(file.read_bytes(), other)) if spoil else file.unlink()
    with pytest.raises(VaultCubeError, match=rf"locks/keyrings/ubuntu-archive-keyring.asc: {reason}") as caught:
        files(space)
    assert "\n" not in str(caught.value)


def test_a_keyring_that_is_not_in_the_pillar_comes_from_this_machine(workspace, tmp_path):
    company = tmp_path / "company.gpg"
    local = workspace("debian-12", edit=lambda pillar: pillar["archive"]["sources"][0].update(keyring=str(company)))
    with pytest.raises(
        VaultCubeError, match=f"{company}: keyring of archive debian is missing on this machine: install"
    ):
        files(local)
    company.touch()
    assert files(local)[0] == company


def test_a_box_uses_the_keyring_of_its_own_package(workspace):
    assert {source.keyring for source in workspace("ubuntu-24.04").settings.archive.sources} == {UBUNTU}
