"""`image.check` with builders and threshold: how many signed statements that an image was reproduced are valid."""

import json
import shutil

import pytest
from small_image import NAME, make, space_in

from vault_cube.errors import VaultCubeError
from vault_cube.image.attest import signature
from vault_cube.image.inspect import check, origin, statements


class Received:
    """A received image, and builders who sign statements about it."""

    def __init__(self, folder, image, key):
        self.folder, self.image, self.key = folder, image, key
        self.provenance = image.with_name(f"{NAME}.provenance.json")
        self.builders = folder / "allowed_signers"

    def trust(self, *names):
        """Write the builders' public keys to an allowed_signers file."""
        lines = [f"{name} {self.key(name).with_suffix('.pub').read_text()}" for name in names]
        self.builders.write_text("".join(lines))

    def state(self, name, **changed):
        """Sign a statement; `changed` replaces fields of the provenance that it is made from."""
        source = origin.read(self.provenance)
        source = origin.Origin(**{**vars(source), **changed})
        return statements.write(self.provenance, source, {"umask": "077"}, self.folder / name, self.image.parent)

    def check(self, threshold):
        return check.check(self.image, None, self.builders, threshold)[-1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return make(space_in(folder), folder / "dist")[0]


@pytest.fixture
def received(finished, tmp_path, key):
    shutil.copytree(finished.parent, tmp_path / "received")
    return Received(tmp_path, tmp_path / "received" / finished.name, key)


def refusal(received, threshold):
    """Return the error of a check, which must be one line."""
    with pytest.raises(VaultCubeError) as error:
        received.check(threshold)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_statements_of_two_builders_are_accepted(received):
    received.trust("anna", "ben")
    received.state("anna")
    received.state("ben")
    assert received.check(2) == "reproduced: by anna, ben, 2 required"
    assert received.check(1) == "reproduced: by anna, ben, 1 required"


def test_a_statement_describes_the_rebuild_and_names_no_machine(received):
    received.trust("anna")
    file = received.state("anna")
    statement = json.loads(file.read_text())
    source = origin.read(received.provenance)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "urn:vault-cube:reproduced:1"
    assert {entry["name"]: entry["digest"]["sha256"] for entry in statement["subject"]} == source.subjects
    assert statement["predicate"]["result"] == "reproduced"
    assert statement["predicate"]["commit"] == source.commit
    assert statement["predicate"]["varied"] == {"umask": "077"}
    assert str(received.folder) not in file.read_text()
    assert received.state("anna") == file, "a second statement of a builder replaces the first"
    assert [path.name for path in file.parent.glob("*.reproduced.*")].count(file.name) == 1


def test_statements_that_are_not_verified_are_mentioned(received):
    received.trust("anna")
    assert len(check.check(received.image)) == 3
    received.state("anna")
    assert check.check(received.image)[-1].startswith("statements of rebuilds: 1 present, not verified: ")


def test_statements_about_the_image_of_another_target_are_ignored(received):
    received.trust("anna")
    file = received.state("anna")
    other = file.with_name(file.name.replace("debian-12", "debian-13"))
    file.rename(other)
    assert other.name not in refusal(received, 1)
    assert len(check.check(received.image)) == 3


def test_a_missing_statement_is_refused(received):
    received.trust("anna", "ben")
    received.state("anna")
    assert "reproduced by anna: 1 of 2 required builders" in refusal(received, 2)


def test_an_image_without_any_statement_is_refused(received):
    received.trust("anna")
    assert "reproduced by nobody: 0 of 1 required builders" in refusal(received, 1)


def test_a_statement_about_another_hash_is_refused(received):
    received.trust("anna", "ben")
    received.state("anna")
    file = received.state("ben", subjects={f"{NAME}.qcow2": "e" * 64})
    message = refusal(received, 2)
    assert "1 of 2 required builders" in message
    assert f"{file.name}: for another image: SHA-256 {'e' * 64}" in message


def test_a_statement_about_another_file_is_refused(received):
    received.trust("anna")
    received.state("anna", subjects={"other.qcow2": "e" * 64})
    assert "for another image: SHA-256 none" in refusal(received, 1)


def test_the_same_signer_counts_once(received):
    received.trust("anna", "ben")
    file = received.state("anna")
    copy = file.with_name(f"{NAME}.reproduced.copy.json")
    copy.write_bytes(file.read_bytes())
    signature.of(copy).write_bytes(signature.of(file).read_bytes())
    message = refusal(received, 2)
    assert "reproduced by anna: 1 of 2" in message
    assert "anna has also signed" in message


def test_two_keys_of_one_builder_count_once(received):
    received.trust("anna", "second")
    text = received.builders.read_text().replace("second ssh", "anna ssh")
    received.builders.write_text(text)
    received.state("anna")
    received.state("second")
    assert "reproduced by anna: 1 of 2" in refusal(received, 2)


def test_one_key_under_two_names_counts_once(received):
    received.trust("anna")
    received.builders.write_text(
        received.builders.read_text() * 2 + received.builders.read_text().replace("anna", "x", 1)
    )
    received.state("anna")
    assert "reproduced by anna: 1 of 2" in refusal(received, 2)


def test_a_tampered_statement_is_refused(received):
    received.trust("anna")
    file = received.state("anna")
    file.write_text(file.read_text().replace('"077"', '"022"'))
    message = refusal(received, 1)
    assert f"{file.name}.sig: not a signature of this {file.name}, which was changed after it was signed" in message


def test_a_statement_for_another_commit_is_refused(received):
    received.trust("anna")
    received.state("anna", commit="1" * 40)
    assert f"for commit {'1' * 40} of debian-12, and the image's provenance names commit" in refusal(received, 1)


def test_a_statement_for_another_target_is_refused(received):
    received.trust("anna")
    received.state("anna", target="debian-13")
    assert "of debian-13, and the image's provenance names commit" in refusal(received, 1)


def test_an_unsigned_statement_is_refused(received):
    received.trust("anna")
    signature.of(received.state("anna")).unlink()
    assert ".json.sig: missing, so " in refusal(received, 1)


def test_a_stranger_does_not_count(received):
    received.trust("anna")
    received.key("eve")
    received.state("anna")
    received.state("eve")
    assert "not made with a key in" in refusal(received, 2)
    assert received.check(1).startswith("reproduced: by anna, 1 required; not counted; ")


def test_the_signature_of_an_image_is_no_statement(received):
    """A key that may sign images, and signed the checksums, has not vouched for a rebuild."""
    received.trust("anna")
    file = received.state("anna")
    signature.sign(file, received.folder / "anna")
    assert "0 of 1 required builders" in refusal(received, 1)


@pytest.mark.parametrize("content", ["{", "[]", '{"_type": "x", "predicateType": "y"}', "null"])
def test_signed_nonsense_is_refused(received, content):
    received.trust("anna")
    file = received.state("anna")
    file.write_text(content)
    signature.sign(file, received.folder / "anna", statements.NAMESPACE)
    assert f"{file.name}: not a statement about a rebuild" in refusal(received, 1)


def test_a_statement_with_another_result_is_refused(received):
    received.trust("anna")
    file = received.state("anna")
    file.write_text(file.read_text().replace('"result": "reproduced"', '"result": "differs"'))
    signature.sign(file, received.folder / "anna", statements.NAMESPACE)
    assert f"{file.name}: not a statement about a rebuild" in refusal(received, 1)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"builders": None, "threshold": 2}, "builders and threshold belong together"),
    ({"threshold": None}, "builders and threshold belong together"),
    ({"threshold": 0}, "threshold=0: at least 1 builder"),
])  # fmt: skip
def test_incomplete_arguments_are_refused(received, arguments, message):
    received.trust("anna")
    with pytest.raises(VaultCubeError, match=message):
        check.check(received.image, **{"builders": received.builders, "threshold": 1, **arguments})


def test_a_key_that_cannot_sign_leaves_no_file(received):
    before = sorted(received.image.parent.iterdir())
    (received.folder / "noise").write_text("noise")
    with pytest.raises(VaultCubeError, match="cannot sign with this key"):
        received.state("noise")
    assert sorted(received.image.parent.iterdir()) == before
