"""The URLs that preflight requests to check that a build can fetch its files."""

import mirror as servers
import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import preflight
from vault_cube.image.locks import mirrors
from vault_cube.image.locks.aptlock import AptLock

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


def test_apt_is_not_asked_for_mirrors_if_no_file_is_missing(workspace, monkeypatch):
    space = workspace("debian-12")
    monkeypatch.setattr(preflight.Store, "has", lambda *_: True)
    monkeypatch.setattr(mirrors, "of_machine", lambda: pytest.fail("starts apt-get"))
    assert preflight.can_fetch(preflight.Builder(space)) == "no network needed: the store has all packages"


@pytest.fixture
def mirror(tmp_path):
    (tmp_path / "served").mkdir()
    with servers.running(tmp_path / "served") as mirror:
        yield mirror


@pytest.fixture
def behind_a_proxy(mirror, tmp_path, monkeypatch):
    """Configure apt so that a small server is the only way to http://archive.example. Returns the server."""
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "apt.conf").write_text(f'Acquire::http::Proxy "{mirror.url}"; Dir::Etc::Parts "/dev/null";\n')
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    return mirror


LOCAL = {"image": {"mirrors": {"debian": "http://archive.example/debian"}}}


def test_archives_are_requested_through_apt_s_proxy_as_the_fetch_requests_them(workspace, behind_a_proxy):
    behind_a_proxy.answers["http://archive.example/debian/dists/bookworm/InRelease"] = [servers.status(200)]
    space = workspace("debian-12", {**LOCAL, "archive": {"sources": [source("debian", "bookworm")]}})
    keep_only(space, "debian")
    assert preflight.can_reach(preflight.Builder(space)) == "all archives answer"
    assert [path for path, _ in behind_a_proxy.asked] == ["http://archive.example/debian/dists/bookworm/InRelease"]


@pytest.mark.parametrize("code", [403, 407, 503])
def test_the_reason_is_that_of_the_server_or_proxy(workspace, behind_a_proxy, code):
    behind_a_proxy.answers["http://archive.example/debian/dists/bookworm/InRelease"] = [servers.status(code)]
    space = workspace("debian-12", {**LOCAL, "archive": {"sources": [source("debian", "bookworm")]}})
    keep_only(space, "debian")
    with pytest.raises(VaultCubeError, match=rf"InRelease \(the server returned status {code}\) from here: name a"):
        preflight.can_reach(preflight.Builder(space))


def source(archive, suite):
    return {
        "archive": archive, "mirror": f"http://archive.example/{archive}", "snapshot": None, "suites": [suite],
        "components": ["main"], "keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
    }  # fmt: skip


def keep_only(space, archive):
    """Remove the packages of all other archives from the lock."""
    file = space.locks / "apt.lock"
    lock = AptLock.read(file)
    file.write_text(AptLock(lock.epoch, tuple(deb for deb in lock.debs if deb.archive == archive)).text())
