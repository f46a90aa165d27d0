"""Files of trusted signers: one or many public keys, or an allowed_signers file, as people have them."""

import subprocess

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image.attest import signature


@pytest.fixture
def sums(tmp_path):
    (tmp_path / "a.SHA256SUMS").write_text("x\n")
    return tmp_path / "a.SHA256SUMS"


@pytest.fixture
def key(tmp_path):
    """key(name, comment) makes a key. Returns the path of its private half."""

    def make(name, comment="", kind="ed25519"):
        private = tmp_path / name
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", private], check=True)
        return private

    return make


def public(private):
    return private.with_suffix(".pub").read_text().strip()


def test_any_key_of_a_file_counts_and_the_name_is_the_file_s(sums, key, tmp_path):
    """As code hosts give the keys of a person: several lines without comments."""
    first, second = key("first"), key("second")
    signers = tmp_path / "anna.keys"
    signers.write_text(f"{public(first)}\n{public(second)}\n")
    for private in (first, second):
        signature.sign(sums, private)
        assert signature.verify(sums, signers).startswith("anna.keys with ED25519 key SHA256:")
    signature.sign(sums, key("third"))
    with pytest.raises(VaultCubeError, match=r"not made with a key in .*anna\.keys"):
        signature.verify(sums, signers)


@pytest.mark.parametrize("text", [
    "{key}", "{key}\r\n", "\ufeff{key}\n", "\n# of Anna\n  {key}\n\n", "{kind}\t{blob}\n", "{kind}   {blob}",
    "anna@example.org {key}\n", 'anna@example.org,a namespaces="vault-cube-image,file"\t{key}\r\n',
    "# comment\n\nanna@example.org {key}\nbob@example.org {other}\n", "{other}\nanna@example.org {key}\n",
])  # fmt: skip
def test_white_space_comments_and_both_formats_are_read(sums, key, tmp_path, text):
    private, other = key("mine"), key("other")
    signature.sign(sums, private)
    kind, blob = public(private).split(" ")
    signers = tmp_path / "team"
    signers.write_text(text.format(key=f"{kind} {blob}", kind=kind, blob=blob, other=public(other)), newline="")
    name = "anna@example.org" if "anna@" in text else "team"
    assert signature.verify(sums, signers).startswith(f"{name} with ED25519 key SHA256:")


@pytest.mark.parametrize(("comment", "name"), [
    ("anna@laptop", "anna@laptop"), ("Anna of the team", "Anna_of_the_team"), ("a,b", "a_b"), ("*", "_"),
    ("!x?", "_x_"),
    ("Jürgen", "Jürgen"), ("", "signers"),
])  # fmt: skip
def test_the_name_is_the_comment_s(sums, key, tmp_path, comment, name):
    private = key("mine", comment)
    signature.sign(sums, private)
    (tmp_path / "signers").write_text(public(private))
    assert signature.verify(sums, tmp_path / "signers").split(" with ")[0] == name


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_other_types_of_keys_sign_as_well(sums, key, tmp_path, kind):
    private = key("mine", "anna", kind)
    signature.sign(sums, private)
    assert signature.verify(sums, private.with_suffix(".pub")).startswith(f"anna with {kind.upper()} key SHA256:")


@pytest.mark.parametrize(("text", "reason"), [
    ("", "contains no key"),
    ("# nothing\n", "contains no key"),
    ("\n{half}\n", "line 2: the key"),
    ("hello\n", "line 1: an ssh public key begins with its type"),
    ("---- BEGIN SSH2 PUBLIC KEY ----\n", "line 1: this is a key in the format of RFC 4716"),
    ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "line 1: this is an OpenPGP key"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "this is a private key"),
])  # fmt: skip
def test_a_file_without_a_usable_key_is_refused_for_the_true_reason(sums, key, tmp_path, text, reason):
    private = key("mine")
    signature.sign(sums, private)
    (tmp_path / "signers").write_text(text.format(half=public(private)[:50]))
    with pytest.raises(VaultCubeError, match=reason) as error:
        signature.verify(sums, tmp_path / "signers")
    assert "\n" not in str(error.value)
