"""`image.release`: what is refused, and what a release folder contains; the image is a small file."""

import json
import subprocess

import pytest
from small_image import NAME, make

from vault_cube import __version__
from vault_cube.errors import VaultCubeError
from vault_cube.image import store
from vault_cube.image.inspect import check
from vault_cube.image.release import release

CHANGELOG = f"""\
# Changelog

## Unreleased

## {__version__} - 2026-11-28

### Added

- A box.

## 0.9.0 - 2026-01-01

Old.
"""


class Finished:
    """A committed checkout with an image in dist/ that has been verified, and a key."""

    def __init__(self, space, key):
        self.space, self.key = space, key
        (space.checkout / ".gitignore").write_text("/dist/\n/build/\n/pillar/local.sls\n")
        (space.checkout / "CHANGELOG.md").write_text(CHANGELOG)
        self.commit()
        self.build()
        self.verify()

    def commit(self):
        git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", self.space.checkout]
        for command in (["add", "-A"], ["commit", "-qm", "change"]):
            subprocess.run([*git, *command], check=True)

    def build(self, **manifest):
        _, sums = make(self.space, self.space.dist)
        files = {file: {"sha256": digest, "bytes": 1300} for file, digest in check.read(sums).items()}
        self.manifest = {
            "name": NAME, "target": "debian-12", "version": __version__, "raw_sha256": "d" * 64, "files": files,
            "matches_lock": True, "moved": [], **manifest,
        }  # fmt: skip
        (self.space.dist / f"{NAME}.manifest.json").write_text(json.dumps(self.manifest))

    def verify(self, **result):
        folder = self.space.build / "verify"
        folder.mkdir(parents=True, exist_ok=True)
        files = {file: entry["sha256"] for file, entry in self.manifest["files"].items()}
        varied = {"folder": "/secret/elsewhere", "umask": "077"}
        verified = {"same": True, "raw_sha256": "d" * 64, "files": files, "varied": varied, **result}
        (folder / "verify.json").write_text(json.dumps(verified))

    def release(self):
        return release.make(self.space, self.key, lambda _: self.manifest)


@pytest.fixture
def finished(space, key):
    return Finished(space, key("maintainer"))


def refused(finished, message):
    with pytest.raises(VaultCubeError, match=message) as error:
        finished.release()
    assert "\n" not in str(error.value)
    folder = finished.space.dist / "release"
    assert not folder.exists() or not list(folder.iterdir()), "a refused release left files"


def test_a_release_can_be_checked_by_whoever_receives_it(finished, tmp_path):
    folder = finished.release()
    assert folder == finished.space.dist / "release" / NAME
    assert {file.name for file in folder.iterdir()} == {f"{NAME}.{end}" for end in (
        "qcow2", "cdx.json", "spdx.json", "provenance.json", "manifest.json", "verify.json", "notes.md", "SHA256SUMS",
        "SHA256SUMS.sig",
    )}  # fmt: skip
    checksum, signed, origin = check.check(folder / f"{NAME}.qcow2", tmp_path / "maintainer.pub")
    assert checksum.count(NAME) == 8
    assert signed.startswith("signature: maintainer ")
    assert "uncommitted" not in origin


def test_the_notes_have_the_changes_the_checksums_and_the_varied_conditions(finished):
    folder = finished.release()
    notes = (folder / f"{NAME}.notes.md").read_text()
    assert "- A box." in notes
    assert "Old." not in notes
    assert store.sha256_of(folder / f"{NAME}.qcow2") in notes
    assert "* umask: 077" in notes
    for file in (f"{NAME}.notes.md", f"{NAME}.verify.json"):
        assert "/secret" not in (folder / file).read_text()


def test_a_dirty_tree_is_refused(finished):
    (finished.space.checkout / "locks/tools.lock").write_text("changed")
    refused(finished, "the checkout has uncommitted changes, first locks/tools.lock: ")


def test_a_file_that_is_not_committed_is_refused(finished):
    (finished.space.checkout / "new").touch()
    refused(finished, "the checkout has uncommitted changes, first new: ")


def test_a_local_pillar_is_refused(finished):
    (finished.space.checkout / "pillar").mkdir(exist_ok=True)
    (finished.space.checkout / "pillar/local.sls").touch()
    refused(finished, "pillar/local.sls is not part of the commit")


def test_files_that_differ_from_the_lock_are_refused(finished):
    finished.build(matches_lock=False, moved=["bash 1 -> 2"])
    refused(finished, f"{NAME}: 1 files differ from the lock: run `make lock`, commit locks/")


def test_an_image_of_an_older_commit_is_refused(finished):
    (finished.space.checkout / "new").touch()
    finished.commit()
    refused(finished, f"{NAME}: its provenance names commit [0-9a-f]{{40}}, this is commit [0-9a-f]{{40}}: remove ")


def test_an_image_of_a_dirty_tree_is_refused(finished):
    (finished.space.checkout / "new").touch()
    finished.build()
    (finished.space.checkout / "new").unlink()
    refused(finished, "with uncommitted changes, this is commit")


def test_an_image_that_is_not_up_to_date_is_refused(finished):
    finished.manifest = None
    refused(finished, f"{NAME}: no up-to-date image in dist/: run `make image LOCKED=1`")


def test_an_unverified_image_is_refused(finished):
    (finished.space.build / "verify/verify.json").unlink()
    refused(finished, f"{NAME}: not verified: run `make verify TARGET=debian-12`")


@pytest.mark.parametrize("result", [
    {"raw_sha256": "e" * 64}, {"same": False}, {"files": {}}, {"files": {f"{NAME}.qcow2": "e" * 64}},
])  # fmt: skip
def test_the_verification_of_another_image_is_refused(finished, result):
    finished.verify(**result)
    refused(finished, f"{NAME}: another image was verified: run `make verify")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_verification_is_refused(finished, content):
    (finished.space.build / "verify/verify.json").write_text(content)
    refused(finished, r"verify\.json: damaged: run `make verify")


def test_a_changed_image_is_refused(finished):
    (finished.space.dist / f"{NAME}.qcow2").write_bytes(b"changed")
    refused(finished, rf"dist/{NAME}\.qcow2: changed after it was built")


def test_a_version_is_released_once(finished):
    finished.release()
    with pytest.raises(VaultCubeError, match=r"is released already: raise image:version"):
        finished.release()


@pytest.mark.parametrize(("text", "message"), [
    ("# Changelog\n\n## Unreleased\n\n- New.\n", "Unreleased is not empty: move its entries below"),
    ("# Changelog\n\n## Unreleased\n", "no heading `## 1.0.0 - YYYY-MM-DD`"),
    ("# Changelog\n\n## 1.0.0\n\n- New.\n", "no heading `## 1.0.0 - YYYY-MM-DD`"),
    ("# Changelog\n\n## 1.0.0 - 2026-11-28\n\n## 0.9.0 - 2026-01-01\n\n- Old.\n", "the section of 1.0.0 is empty"),
    ("# Changelog\n\n## 11.0.0 - 2026-11-28\n\n- New.\n", "no heading"),
])  # fmt: skip
def test_a_changelog_without_the_version_is_refused(tmp_path, text, message):
    file = tmp_path / "CHANGELOG.md"
    file.write_text(text)
    with pytest.raises(VaultCubeError, match=message):
        release.changes(file, "1.0.0")


def test_versions_that_differ_are_refused(finished):
    settings = finished.space.settings
    image = settings.image.model_copy(update={"version": "9.9.9"})
    object.__setattr__(finished.space, "settings", settings.model_copy(update={"image": image}))
    with pytest.raises(VaultCubeError, match=rf"image:version is 9\.9\.9, vault_cube\.__version__ is {__version__}: "):
        finished.release()


def test_a_key_that_cannot_sign_leaves_no_folder(finished, tmp_path):
    finished.key = tmp_path / "nowhere"
    refused(finished, "nowhere: no such file: name your ssh key")
    finished.key = tmp_path / "noise"
    finished.key.write_text("noise")
    refused(finished, "noise: ssh-keygen cannot sign with this key")
