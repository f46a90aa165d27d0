"""Public keys in the pillar: taken as sshd takes them, and refused for the true reason, without showing the key."""

import base64
import subprocess

import pytest
import yaml

from vault_cube.settings.secrets import KEY_TYPES, public_key, public_keys


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """Return a public key made by ssh-keygen, without a comment."""
    file = tmp_path_factory.mktemp("key") / "k"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file], check=True)
    return file.with_suffix(".pub").read_text().strip()


@pytest.mark.parametrize("entry", [
    "{key} me", "{key}", "{key} me\n", "{key} me\r\n", "  {key} me", "\t{key} me  ", "{kind}\t{blob}\tme",
    "{kind}   {blob}   me", "# my laptop\n{key} me\n", "\n\n{key} me\n\n", "{key} me and my laptop", "{key} Jürgen",
    "  # indented\r\n\r\n\t{kind} \t{blob} me\r\n",
])  # fmt: skip
def test_white_space_is_read_as_by_sshd(key, entry, tmp_path):
    kind, blob = key.split(" ")
    text = entry.format(key=key, kind=kind, blob=blob)
    cleaned = public_keys(text)
    assert cleaned.startswith(f"{kind} {blob}")
    assert cleaned == " ".join(cleaned.split())
    # ssh-keygen reads an authorized_keys file as sshd does
    (tmp_path / "authorized_keys").write_text(text, newline="")
    assert subprocess.run(["ssh-keygen", "-lf", tmp_path / "authorized_keys"], check=False).returncode == 0


def test_blocks_of_yaml_are_taken(key):
    literal = yaml.safe_load(f"- |\n  {key} me\n- >\n  {key}\n  me\n- |+\n  {key} me\n\n")
    assert [public_keys(entry) for entry in literal] == [f"{key} me"] * 3


def test_an_entry_may_have_several_keys_as_a_code_host_lists_them(key):
    assert public_keys(f"{key}\n{key} second\n") == f"{key}\n{key} second"


@pytest.mark.parametrize(("entry", "reason"), [
    ('from="10.0.0.0/8" {key} me', "options before a key"),
    ('no-pty,command="/bin/date now" {key} me', "options before a key"),
    ("restrict {key} me", "options before a key"),
    ("{key} me\nrestrict {key} me", "options before a key"),
    ("---- BEGIN SSH2 PUBLIC KEY ----\nComment: x\n{blob}\n---- END SSH2 PUBLIC KEY ----", "RFC 4716"),
    ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none", "file of PuTTY"),
    ("-----BEGIN PUBLIC KEY-----\n{blob}\n-----END PUBLIC KEY-----", "PEM format"),
    ("-----BEGIN RSA PUBLIC KEY-----\n{blob}", "PEM format"),
    ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n{blob}", "OpenPGP key"),
    ("ssh-ed25519-cert-v01@openssh.com {blob} me", "certificate"),
    ("ssh-dss {blob} me", "DSA keys are not accepted"),
    ("{blob} me", "the key's type is missing"),
    ("/root/.ssh/id_ed25519.pub", "name of a file"),
    ("\ufeff{key} me", "U+FEFF"),
    ("{kind}", "incomplete"),
    ("", "is missing here"),
    ("# only a comment\n", "is missing here"),
    ("ssh-ed25519 {half}\n{rest} me", "was it wrapped?"),
])  # fmt: skip
def test_each_refusal_has_its_true_reason_and_does_not_show_the_key(key, entry, reason):
    kind, blob = key.split(" ")
    with pytest.raises(ValueError, match=r".") as error:
        public_keys(entry.format(key=key, kind=kind, blob=blob, half=blob[:30], rest=blob[30:]))
    assert reason in str(error.value)
    assert blob[20:] not in str(error.value)
    assert "\n" not in str(error.value)


def field(data):
    return len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize("kind", [kind for kind in KEY_TYPES if kind.startswith(("sk-", "ecdsa"))])
def test_keys_of_security_tokens_and_ecdsa_keys_are_taken(kind):
    curve = kind.rpartition("-")[2].split("@")[0]
    point = {"nistp256": 65, "nistp384": 97, "nistp521": 133}.get(curve)
    blob = field(kind.encode()) + (field(curve.encode()) + field(bytes(point)) if point else field(bytes(32)))
    blob += field(b"ssh:") if kind.startswith("sk-") else b""
    line = f"{kind} {base64.b64encode(blob).decode()} me"
    assert public_keys(f"{line}\r\n") == line


@pytest.mark.parametrize(
    ("bits", "reason"), [(2048, ""), (16384, ""), (1024, "at least 2048"), (16400, "at most 16384")]
)
def test_the_size_of_an_rsa_key_has_limits(bits, reason):
    number = (1 << (bits - 1)) | 1
    blob = field(b"ssh-rsa") + field(b"\1\0\1") + field(b"\0" + number.to_bytes((bits + 7) // 8, "big"))
    line = f"ssh-rsa {base64.b64encode(blob).decode()} me"
    if not reason:
        assert public_key(line) == line
    else:
        with pytest.raises(ValueError, match=reason):
            public_key(line)
