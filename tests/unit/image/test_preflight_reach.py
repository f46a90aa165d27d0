"""The URLs that preflight requests to check that a build can fetch its files."""

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import preflight

VENDOR = "nvidia-container-toolkit"


@pytest.fixture
def reach(workspace, monkeypatch):
    """reach(mirrors, answering) runs the check with pillar key image:mirrors. Returns the URLs that it requested."""

    def run(mirrors, answering=""):
        asked = []
        monkeypatch.setattr(preflight, "_answers", lambda address: asked.append(address) or answering in address)
        preflight.can_reach(preflight.Builder(workspace("ubuntu-24.04", {"image": {"mirrors": mirrors}})))
        return asked

    return run


def test_without_a_mirror_in_the_pillar_the_vendor_s_url_is_requested(reach):
    assert "https://nvidia.github.io/libnvidia-container/stable/deb/amd64/InRelease" in reach({})


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_vendor_s_mirror_is_requested_instead_of_the_vendor_s_url(reach, slash):
    asked = reach({VENDOR: f"http://near.example/toolkit{slash}"})
    assert "http://near.example/toolkit/InRelease" in asked
    assert not [address for address in asked if "nvidia.github.io" in address]


def test_an_archive_s_mirror_is_the_only_url_that_is_requested(reach):
    asked = reach({"ubuntu": "http://near.example/ubuntu", VENDOR: "http://near.example/toolkit"})
    assert asked == ["http://near.example/toolkit/InRelease", "http://near.example/ubuntu/dists/noble/InRelease"]


def test_a_mirror_that_does_not_answer_is_reported(reach):
    with pytest.raises(VaultCubeError, match=r"cannot reach http://near\.example/toolkit/InRelease"):
        reach({VENDOR: "http://near.example/toolkit"}, answering="ubuntu")
