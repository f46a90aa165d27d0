"""`image.rebuild_check`: which images can be rebuilt, what is compared, and when a statement is signed.

The build is replaced by a function that writes a small image; `make verify` builds a real one with the same code.
"""

import json
import subprocess

import pytest
from small_image import NAME, make

from vault_cube.errors import VaultCubeError
from vault_cube.image import checkout, store
from vault_cube.image.inspect import check
from vault_cube.image.release import rebuild
from vault_cube.image.release.verify import Built
from vault_cube.image.workspace import Workspace


@pytest.fixture
def received(space, tmp_path):
    """The provenance of an image that was built elsewhere from the same commit."""
    image, _ = make(space, tmp_path / "received")
    return image.with_name(f"{NAME}.provenance.json")


def builder(seen=None, content=None, pillar=None):
    """Return a build function. seen: list that gets the copy's files. content: of the image, if it differs."""

    def build(space, other, work, report):
        if seen is not None:
            seen.extend(str(file.relative_to(other)) for file in other.rglob("*") if file.is_file())
        inner = Workspace(other, space.settings, pillar or space.pillar, cache=work / "cache", store=space.store)
        image, sums = make(inner, other / "image", content)
        files = {name: {"sha256": digest} for name, digest in check.read(sums).items()}
        return Built({"name": NAME, "raw_sha256": "d" * 64, "files": files}, image.parent, work), {"umask": "077"}

    return build


def test_an_equal_rebuild_is_signed_and_counted(space, received, key):
    statement = rebuild.reproduce(space, received, key("anna"), builder())
    assert statement.parent == received.parent
    image = received.with_name(f"{NAME}.qcow2")
    assert check.check(image, None, key.folder / "anna.pub", 1)[-1] == "reproduced: by anna, 1 required"


def test_the_commit_is_rebuilt_and_not_the_working_tree(space, received, key):
    commit = subprocess.check_output(["git", "-C", space.checkout, "rev-parse", "HEAD"], text=True).strip()
    (space.checkout / "later").write_text("not committed")
    (space.checkout / "pillar").mkdir(exist_ok=True)
    (space.checkout / "pillar/local.sls").write_text("{}")
    seen = []
    statement = rebuild.reproduce(space, received, key("anna"), builder(seen))
    assert "locks/debian-12/apt.lock" in seen
    assert not {"later", "pillar/local.sls"} & set(seen)
    assert json.loads(statement.read_text())["predicate"]["commit"] == commit


def refused(space, received, key, build, message):
    before = sorted(received.parent.iterdir())
    with pytest.raises(VaultCubeError, match=message) as error:
        rebuild.reproduce(space, received, key("anna"), build)
    assert "\n" not in str(error.value)
    assert sorted(received.parent.iterdir()) == before, "a refused rebuild left a file"


def test_a_rebuild_with_other_bytes_is_not_signed(space, received, key):
    refused(space, received, key, builder(content=b"other"), f"not reproduced from its commit: {NAME}.qcow2: SHA-256 ")


def test_an_image_with_a_local_pillar_is_reported_as_such(space, received, key):
    build = builder(content=b"other", pillar={**space.pillar, "local": 1})
    refused(space, received, key, build, r"its pillar is not the commit's: it was built with a pillar/local.sls; ")


def edit(provenance, change):
    statement = json.loads(provenance.read_text())
    change(statement["predicate"]["buildDefinition"])
    provenance.write_text(json.dumps(statement))


def checkout_of(definition):
    return definition["resolvedDependencies"][0]


@pytest.mark.parametrize(("change", "message"), [
    (lambda made: checkout_of(made).pop("digest"), "the commit is unknown, so nobody can rebuild"),
    (lambda made: checkout_of(made).update(annotations={"dirty": True}), "built with uncommitted changes"),
    (lambda made: checkout_of(made).update(digest={"gitCommit": "1" * 40}), "is not in this checkout: run `git"),
    (lambda made: checkout_of(made).update(digest={"gitCommit": "--output=x"}), "'--output=x' is not a commit"),
    (lambda made: made.pop("externalParameters"), "not a provenance statement of this project"),
])  # fmt: skip
def test_an_image_that_cannot_be_rebuilt_is_refused(space, received, key, change, message):
    edit(received, change)
    refused(space, received, key, builder(), message)


def test_a_commit_with_another_environment_is_refused(space, received, key):
    (space.checkout / "locks/checkout.lock").write_text("uv==2\n")
    refused(space, received, key, builder(), "locks/checkout.lock of this checkout differs from that of commit")


def test_a_missing_key_is_refused_before_the_build(space, received, tmp_path):
    with pytest.raises(VaultCubeError, match="nowhere: no such file"):
        rebuild.reproduce(space, received, tmp_path / "nowhere", builder())


def test_the_provenance_is_found_beside_the_image_and_must_be_its_own(received, tmp_path):
    image = received.with_name(f"{NAME}.qcow2")
    assert rebuild.provenance_of(image) == received
    assert rebuild.provenance_of(received) == received
    with pytest.raises(VaultCubeError, match="no such file"):
        rebuild.provenance_of(tmp_path / "nothing.qcow2")
    image.write_bytes(b"other")
    with pytest.raises(VaultCubeError, match=r"provenance\.json: for another image"):
        rebuild.provenance_of(image)


def test_a_copy_of_a_commit_has_its_files_and_modes(space, tmp_path):
    (space.checkout / "run").write_text("#!/bin/sh\n")
    (space.checkout / "run").chmod(0o755)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", space.checkout]
    for command in (["add", "run"], ["commit", "-qm", "two"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    (space.checkout / "run").unlink()
    checkout.copy_of_commit(space.checkout, commit, tmp_path / "copy")
    assert (tmp_path / "copy/run").stat().st_mode & 0o777 == 0o755
    lock = "locks/debian-12/apt.lock"
    assert (tmp_path / "copy" / lock).stat().st_mode & 0o777 == 0o644
    assert store.sha256_of(tmp_path / "copy" / lock) == store.sha256_of(space.checkout / lock)
