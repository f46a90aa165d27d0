"""Releases on a box: installed at once or not at all, and the way back."""

import hashlib
import json
import subprocess
import tarfile

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.fleet import release
from vault_cube.image.attest import signature

COMMIT = "c" * 40


@pytest.fixture
def place(tmp_path):
    checkout = tmp_path / "opt/checkout"
    (checkout / "pillar").mkdir(parents=True)
    (checkout / "marker").write_text("old")
    (checkout / "pillar/local.sls").write_text("fleet: {id: b1}\n")
    (checkout / "pillar/local.sls").chmod(0o600)
    return release.Place(checkout)


def archive(tmp_path, name="release.tar", files=None):
    """A release with its SHA-256."""
    top = tmp_path / f"{name}.files"
    defaults = {"pillar/targets/debian-12.sls": "target: {}", "salt/top.sls": "new", "pillar/targets/other.sls": "x"}
    for path, text in (files or defaults).items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(text)
    file = tmp_path / name
    with tarfile.open(file, "w") as tar:
        for path in files or defaults:
            tar.add(top / path, path)
    return file, hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_release_takes_the_place_of_the_image_s(place, tmp_path):
    file, sha256 = archive(tmp_path)
    result = release.update(place, "debian-12", COMMIT, sha256, file)
    assert result == {
        "commit": COMMIT, "applied": False, "accepted": False, "previous": "image", "changed": True,
    }  # fmt: skip
    assert (place.checkout / "salt/top.sls").read_text() == "new"
    assert not (place.checkout / "pillar/targets/other.sls").exists()
    assert (place.checkout / "pillar/local.sls").read_text() == "fleet: {id: b1}\n"
    assert (place.checkout / "pillar/local.sls").stat().st_mode & 0o777 == 0o600
    assert (place.previous / "marker").read_text() == "old"
    assert not place.new.exists()


def test_the_same_release_changes_nothing(place, tmp_path):
    file, sha256 = archive(tmp_path)
    release.update(place, "debian-12", COMMIT, sha256, file)
    release.record(place, applied=True)
    result = release.update(place, "debian-12", COMMIT, sha256, tmp_path / "is-not-read")
    assert result["changed"] is False
    assert result["applied"] is True


def test_back_and_forth(place, tmp_path):
    file, sha256 = archive(tmp_path)
    release.update(place, "debian-12", COMMIT, sha256, file)
    release.record(place, applied=True, accepted=True)
    back = release.rollback(place)
    assert back == {"commit": "image", "applied": False, "accepted": False, "previous": COMMIT}
    assert (place.checkout / "marker").read_text() == "old"
    again = release.rollback(place)
    assert (again["commit"], again["applied"]) == (COMMIT, False)


def test_no_way_back_without_a_previous_release(place):
    with pytest.raises(VaultCubeError, match="no previous release"):
        release.rollback(place)


def test_a_second_release_replaces_the_previous_one(place, tmp_path):
    for number, commit in enumerate(("1" * 40, "2" * 40)):
        file, sha256 = archive(tmp_path, f"{number}.tar")
        release.update(place, "debian-12", commit, sha256, file)
    assert release.version(place) == {
        "commit": "2" * 40, "applied": False, "accepted": False, "previous": "1" * 40,
    }  # fmt: skip


def damaged(file):
    file.write_bytes(file.read_bytes()[:100])
    return hashlib.sha256(file.read_bytes()).hexdigest()


BAD = {
    "another digest": (lambda file, sha256: "0" * 64, "another SHA-256"),
    "no archive": (lambda file, sha256: file.unlink() or sha256, "No such file"),
    "no tar": (lambda file, sha256: damaged(file), "cannot unpack"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_archive_leaves_the_box_as_it_is(place, tmp_path, case):
    change, message = BAD[case]
    file, sha256 = archive(tmp_path)
    sha256 = change(file, sha256)
    with pytest.raises(VaultCubeError, match=message):
        release.update(place, "debian-12", COMMIT, sha256, file)
    assert (place.checkout / "marker").read_text() == "old"
    assert release.version(place)["commit"] == "image"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two ssh keys: the path of the private one, and the public line."""
    folder = tmp_path_factory.mktemp("keys")
    pairs = []
    for name in ("anna", "mallory"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
        pairs.append((folder / name, (folder / f"{name}.pub").read_text().strip()))
    return pairs


def test_a_signed_release_is_installed(place, tmp_path, keys):
    (key, public), (_, other) = keys
    file, sha256 = archive(tmp_path)
    signature.sign(file, key, release.NAMESPACE)
    assert release.update(place, "debian-12", COMMIT, sha256, file, signers=[other, public])["changed"]


def unsigned(file, keys):
    pass


def by_somebody_else(file, keys):
    signature.sign(file, keys[1][0], release.NAMESPACE)


def for_an_image(file, keys):
    signature.sign(file, keys[0][0])


def of_another_file(file, keys):
    other = file.with_name("other.tar")
    other.write_text("x")
    signature.sign(other, keys[0][0], release.NAMESPACE).rename(signature.of(file))


def no_signature(file, keys):
    signature.of(file).write_text("x")


@pytest.mark.parametrize("sign", [unsigned, by_somebody_else, for_an_image, of_another_file, no_signature])
def test_a_release_without_a_valid_signature_is_not_installed(place, tmp_path, keys, sign):
    file, sha256 = archive(tmp_path)
    sign(file, keys)
    with pytest.raises(VaultCubeError, match="release not installed") as caught:
        release.update(place, "debian-12", COMMIT, sha256, file, signers=[keys[0][1]])
    assert "/tmp" not in str(caught.value)
    assert (place.checkout / "marker").read_text() == "old"


def test_a_release_without_the_box_s_target(place, tmp_path):
    file, sha256 = archive(tmp_path)
    with pytest.raises(VaultCubeError, match=r"does not have this box's target, ubuntu-24\.04"):
        release.update(place, "ubuntu-24.04", COMMIT, sha256, file)
    assert (place.checkout / "marker").read_text() == "old"


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped-by-a-release", "salt/../../escaped"])
def test_a_file_outside_of_the_release_is_not_unpacked(place, tmp_path, name):
    file, _ = archive(tmp_path)
    with tarfile.open(file, "a") as tar:
        member = tarfile.TarInfo(name)
        tar.addfile(member)
    release.update(place, "debian-12", COMMIT, hashlib.sha256(file.read_bytes()).hexdigest(), file)
    assert not list(tmp_path.rglob("escaped*"))


def test_a_link_in_a_release_is_not_unpacked(place, tmp_path):
    file, _ = archive(tmp_path)
    with tarfile.open(file, "a") as tar:
        member = tarfile.TarInfo("salt/link.sls")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(member)
    release.update(place, "debian-12", COMMIT, hashlib.sha256(file.read_bytes()).hexdigest(), file)
    assert not (place.checkout / "salt/link.sls").is_symlink()


@pytest.mark.parametrize("text", ["", "[]", '{"commit": "x"}', "{"])
def test_an_unreadable_record_means_the_image_s_release(place, text):
    (place.checkout / release.RECORD).write_text(text)
    assert release.version(place)["commit"] == "image"


def test_the_record_is_no_source_of_the_checkout(place):
    release.record(place, applied=True)
    assert json.loads((place.checkout / release.RECORD).read_text())["applied"] is True
    from vault_cube.carried import sources

    assert release.RECORD not in {file.name for file in sources(place.checkout)}


@pytest.fixture
def guarded(place, tmp_path):
    """A box with a stand-in for the drift program, which refuses while the file `changed` exists, and its calls."""
    calls = tmp_path / "calls"
    program = tmp_path / "drift"
    program.write_text(
        f"#!/bin/sh\necho $1 >>{calls}\n"
        f"[ $1 != guard ] || [ ! -e {tmp_path}/changed ] || {{ echo 'refused: 1 files' >&2; exit 2; }}\n"
    )
    program.chmod(0o755)
    return place._replace(drift=program), calls


def test_a_release_is_accepted_after_it_was_installed_and_after_the_way_back(guarded, tmp_path):
    place, calls = guarded
    file, sha256 = archive(tmp_path)
    release.update(place, "debian-12", COMMIT, sha256, file)
    release.rollback(place)
    assert calls.read_text().split() == ["guard", "accept"] * 2


@pytest.mark.parametrize("step", ["update", "rollback"])
def test_a_box_that_somebody_changed_is_refused_and_stays_as_it_is(guarded, tmp_path, step):
    place, calls = guarded
    file, sha256 = archive(tmp_path)
    if step == "rollback":
        release.update(place, "debian-12", COMMIT, sha256, file)
    before = release.version(place)
    (tmp_path / "changed").touch()
    calls.unlink(missing_ok=True)
    with pytest.raises(VaultCubeError, match="refused: 1 files"):
        release.update(place, "debian-12", COMMIT, sha256, file) if step == "update" else release.rollback(place)
    assert release.version(place) == before
    assert calls.read_text().split() == ["guard"]


class PowerCut(BaseException):
    """The process ends here."""


def entries(place):
    """What lies beside the checkout."""
    return {path.name for path in place.checkout.parent.iterdir()}


@pytest.fixture
def installed(place, tmp_path):
    """A box with the release 111…, whose previous one is the image's; and a way to install another one."""

    def install(commit):
        file, sha256 = archive(tmp_path, f"{commit[:1]}.tar", {"pillar/targets/debian-12.sls": commit})
        return release.update(place, "debian-12", commit, sha256, file)

    install("1" * 40)
    release.record(place, applied=True, accepted=True)
    return place, install


def not_exchanged(*_):
    raise VaultCubeError("cannot exchange: Invalid cross-device link")


def exchanged_then_cut(one, other, exchange=release.exchange):
    exchange(one, other)
    raise PowerCut


def cut_before_exchange(*_):
    raise PowerCut


@pytest.mark.parametrize("step", ["update", "rollback"])
def test_a_failed_exchange_leaves_the_box_as_it_is(installed, monkeypatch, step):
    place, install = installed
    before = release.version(place), entries(place)
    with monkeypatch.context() as patch:
        patch.setattr(release, "exchange", not_exchanged)
        with pytest.raises(VaultCubeError, match="cannot exchange"):
            install("2" * 40) if step == "update" else release.rollback(place)
    assert (release.version(place), entries(place)) == before
    # and nothing of it stands in the way of the next one
    assert install("2" * 40)["previous"] == "1" * 40


def test_a_full_disk_leaves_the_box_as_it_is_with_one_line(installed, monkeypatch):
    place, install = installed
    before = release.version(place), entries(place)

    def full(source, target):
        raise OSError(28, "No space left on device", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(release.shutil, "copy2", full)
        (place.checkout / "pillar/local.sls").write_text("x")
        with pytest.raises(VaultCubeError, match="No space left on device"):
            install("2" * 40)
    assert (release.version(place), entries(place)) == before


def test_after_a_power_cut_at_the_exchange_the_former_release_is_the_previous_one(installed, monkeypatch):
    place, install = installed
    with monkeypatch.context() as patch:
        patch.setattr(release, "exchange", exchanged_then_cut)
        with pytest.raises(PowerCut):
            install("2" * 40)
    assert release.version(place)["commit"] == "2" * 40
    result = install("2" * 40)
    assert (result["changed"], result["previous"]) == (False, "1" * 40)
    assert entries(place) == {"checkout", "previous"}
    assert release.rollback(place)["commit"] == "1" * 40


def test_after_a_power_cut_before_the_exchange_the_former_release_is_still_there(installed, monkeypatch):
    place, install = installed
    with monkeypatch.context() as patch:
        patch.setattr(release, "exchange", cut_before_exchange)
        with pytest.raises(PowerCut):
            install("2" * 40)
    assert release.rollback(place)["previous"] == "1" * 40
    assert release.version(place)["commit"] == "image"
    assert entries(place) == {"checkout", "previous"}


def test_after_a_power_cut_during_the_way_back_both_releases_are_there(installed, monkeypatch):
    place, install = installed
    with monkeypatch.context() as patch:
        patch.setattr(release, "exchange", exchanged_then_cut)
        with pytest.raises(PowerCut):
            release.rollback(place)
    assert (release.version(place)["commit"], release.version(place)["previous"]) == ("image", "1" * 40)
    assert install("2" * 40)["previous"] == "image"


def test_a_half_unpacked_release_is_not_taken_for_the_former_one(installed):
    place, install = installed
    (place.checkout.with_name(".incoming") / "salt").mkdir(parents=True)
    release.settle(place)
    assert release.version(place)["previous"] == "image"
    assert (place.previous / "marker").exists()
    install("2" * 40)
    assert entries(place) == {"checkout", "previous"}


@pytest.mark.parametrize("step", ["update", "rollback"])
def test_a_release_that_lost_power_before_it_was_accepted_is_accepted_afterwards(guarded, tmp_path, monkeypatch, step):
    place, calls = guarded
    file, sha256 = archive(tmp_path)
    if step == "rollback":
        release.update(place, "debian-12", COMMIT, sha256, file)
    with monkeypatch.context() as patch:
        patch.setattr(release, "exchange", exchanged_then_cut)
        with pytest.raises(PowerCut):
            release.update(place, "debian-12", COMMIT, sha256, file) if step == "update" else release.rollback(place)
    calls.unlink()
    release.guard(place)
    release.guard(place)
    assert calls.read_text().split() == ["accept", "guard", "guard"]


def test_a_guard_that_fails_to_accept_is_asked_again(guarded, tmp_path):
    place, calls = guarded
    file, sha256 = archive(tmp_path)
    program = place.drift.read_text()
    place.drift.write_text(program + "[ $1 != accept ] || { echo 'drift: read-only' >&2; exit 1; }\n")
    with pytest.raises(VaultCubeError, match="read-only"):
        release.update(place, "debian-12", COMMIT, sha256, file)
    place.drift.write_text(program)
    calls.unlink()
    assert release.update(place, "debian-12", COMMIT, sha256, file)["changed"] is False
    assert calls.read_text().split() == ["accept"]
