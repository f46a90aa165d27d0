"""Section base of the pillar: rejected and accepted values, error messages, and their effect on salt-call."""

import base64
import re
import subprocess

import pytest
import yaml
from broken_pillars import BROKEN, SECRETS
from copied import TOP, minion
from copied import salt_call as salt_run

from vault_cube.settings import PillarError
from vault_cube.settings.secrets import public_key

TARGETS = sorted(path.name.removesuffix(".sls") for path in (TOP / "pillar/targets").glob("*.sls"))


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_valid_and_has_no_ssh_key(checked, target):
    base = checked(target).base
    assert base.kernel.package in base.packages
    assert not [key for user in base.users.values() for key in user.ssh_keys], "the image must contain no key"


@pytest.mark.parametrize("name", BROKEN)
def test_the_error_for_an_invalid_pillar_is_one_line_with_file_and_key(checked, name):
    local, key, words = BROKEN[name]
    with pytest.raises(PillarError) as error:
        checked("debian-12", local)
    lines = str(error.value).splitlines()
    assert len(lines) == 1, lines
    # a rule about several sections has no file of its own
    where = rf"pillar/local\.sls: line \d+: {re.escape(key)}: " if key else "pillar/"
    assert re.match(where, lines[0]), lines[0]
    assert words in lines[0]
    assert not [secret for secret in SECRETS if secret in lines[0]]


def test_at_least_twenty_invalid_pillars_are_tested():
    assert len(BROKEN) >= 20


def test_each_problem_has_its_own_line(checked):
    with pytest.raises(PillarError) as error:
        checked("debian-12", {"base": {"colour": "red", "ssh": {"port": 0}}})
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("local", "asked_for", "line"),
    [
        (
            None,
            "mybox",
            "pillar/targets/debian-12.sls: line 3: target:name: must be the name of the target's file, mybox, ",
        ),
        (
            None,
            "debian-12 ",
            "pillar/targets/debian-12.sls: line 3: target:name: must be the name of the target's file, ",
        ),
        (
            {"target": {"name": "other"}},
            "debian-12",
            "pillar/local.sls: line 2: target:name: must be the name of the target's ",
        ),
    ],
)
def test_a_target_must_be_named_like_its_file(checked, local, asked_for, line):
    with pytest.raises(PillarError) as error:
        checked("debian-12", local, asked_for)
    assert str(error.value).startswith(line)
    assert len(str(error.value).splitlines()) == 1


def test_salt_call_rejects_a_copied_target_with_an_unchanged_name(salt_call, pillar_root):
    """Its values equal those of the original, whose check has passed and is cached."""
    assert salt_call()[0] == 0
    salt_call.canary.unlink()
    (pillar_root / "targets/debian-12.sls").rename(pillar_root / "targets/mybox.sls")
    status, printed = salt_call(target="mybox")
    assert status != 0
    line = (
        "pillar/targets/mybox.sls: line 3: target:name: must be the name of the target's file, mybox, found 'debian-12'"
    )
    assert line in printed
    assert "Traceback" not in printed
    assert not salt_call.canary.exists()


@pytest.mark.parametrize(("target", "kernel", "ssh"), [
    ("ubuntu-24.04", "linux-image-generic", "ssh.socket"),
    ("debian-13", "linux-image-cloud-amd64", "ssh.service"),
    ("debian-13-nvidia", "linux-image-amd64", "ssh.service"),
    ("debian-12", "linux-image-cloud-amd64", "ssh.service"),
])  # fmt: skip
def test_a_target_has_its_distribution_s_names(checked, target, kernel, ssh):
    settings = checked(target)
    assert (settings.base.kernel.package, settings.base.ssh.service) == (kernel, ssh)
    # Debian 13 has a separate package for Docker's command; the other releases have not
    assert ("docker-cli" in settings.base.packages) == (settings.target.codename == "trixie")
    assert all(settings.target.os in origin or "distro_id" in origin for origin in settings.base.updates.origins)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Real keys, created by ssh-keygen: type and size → public key."""
    folder = tmp_path_factory.mktemp("keys")
    lines = {}
    for kind, bits in (("ed25519", 256), ("rsa", 3072), ("rsa", 1024), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521)):
        file = folder / f"{kind}{bits}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-b", str(bits), "-N", "", "-f", file], check=True)
        lines[f"{kind}{bits}"] = file.with_suffix(".pub").read_text().strip()
    return lines


def test_real_keys_are_accepted(checked, keys):
    good = [line for name, line in keys.items() if name != "rsa1024"]
    assert len(good) == 5
    account = checked("debian-12", {"base": {"users": {"vaultadmin": {"ssh_keys": good}}}}).base.users["vaultadmin"]
    assert account.ssh_keys == good


def test_a_short_rsa_key_is_refused(keys):
    with pytest.raises(ValueError, match="2048 bits"):
        public_key(keys["rsa1024"])


@pytest.mark.parametrize("name", ["ed25519256", "rsa3072", "ecdsa256", "ecdsa521"])
def test_a_key_cut_off_anywhere_is_rejected(keys, name):
    kind, blob, *_ = keys[name].split(" ")
    raw = base64.b64decode(blob)
    for length in range(0, len(raw), 3):
        with pytest.raises(ValueError, match="incomplete"):
            public_key(f"{kind} {base64.b64encode(raw[:length]).decode()} me")
    for length in range(1, len(blob) - 1, 7):
        with pytest.raises(ValueError, match=r"incomplete|not base64"):
            public_key(f"{kind} {blob[:length]} me")


def test_security_keys_are_accepted():
    def field(text):
        return len(text).to_bytes(4, "big") + text

    kind = b"sk-ssh-ed25519@openssh.com"
    blob = field(kind) + field(bytes(32)) + field(b"ssh:")
    assert public_key(f"{kind.decode()} {base64.b64encode(blob).decode()} me")


@pytest.fixture
def salt_call(pillar_root, tmp_path):
    """salt_call() applies a state that writes `canary`, with the test's pillar. Returns (exit status, output)."""
    (tmp_path / "salt").mkdir()
    canary = tmp_path / "canary"
    state = {"canary": {"file.managed": [{"name": str(canary)}, {"contents_pillar": "base:hostname"}]}}
    (tmp_path / "salt/canary.sls").write_text(yaml.safe_dump(state))

    def call(target="debian-12"):
        conf = minion(tmp_path / f"own-{target}", target, pillar=pillar_root, states=tmp_path / "salt")
        ran = salt_run(conf, "--out=highstate", "state.apply", "canary")
        return ran.returncode, ran.stdout + ran.stderr

    call.canary = canary
    return call


def test_the_local_pillar_overrides_all_others(salt_call, pillar_root):
    (pillar_root / "local.sls").write_text("base: {hostname: mine}")
    status, output = salt_call()
    assert status == 0, output
    assert salt_call.canary.read_text().strip() == "mine"


def test_the_local_pillar_is_optional(salt_call):
    assert salt_call()[0] == 0
    assert salt_call.canary.read_text().strip() == "vault-cube"


@pytest.mark.parametrize(
    "name", ["an unknown key", "a string for a number", "a password", "a private key", "a key that was cut off",
             "two listeners on a port", "a list for a section"],
)  # fmt: skip
def test_salt_call_rejects_an_invalid_pillar_before_the_first_change(salt_call, pillar_root, name):
    local, key, words = BROKEN[name]
    (pillar_root / "local.sls").write_text(yaml.safe_dump(local))
    status, output = salt_call()
    assert status != 0
    lines = [line.strip() for line in output.splitlines() if line.strip().startswith("pillar/")]
    assert len(lines) == 1, output
    assert key in lines[0]
    assert words in lines[0]
    assert "Traceback" not in output
    assert not [secret for secret in SECRETS if secret in output]
    assert not salt_call.canary.exists()


def test_a_missing_box_sls_is_an_error(salt_call, pillar_root):
    (pillar_root / "box.sls").unlink()
    status, output = salt_call()
    assert status != 0
    assert "box" in output
    assert not salt_call.canary.exists()


@pytest.mark.parametrize(("text", "words"), [
    ("base: [1", "line 2: did not find expected"),
    ("base: hostname: mine", "line 1: mapping values are not allowed"),
    ("base:\n  hostname: {{ mine", "line 2: unexpected end of template"),
    ("base:\n  hostname: {{ nothing.here }}", "line 2: Jinja variable 'nothing' is undefined (key base:hostname)"),
    ("{% include 'nope.sls' %}", "line 1: Jinja error: nope.sls"),
    ("base: {hostname: a, hostname: b}", "line 1: key hostname is set twice"),
])  # fmt: skip
def test_a_syntax_error_in_the_pillar_is_reported_in_one_line_without_a_traceback(salt_call, pillar_root, text, words):
    (pillar_root / "local.sls").write_text(text)
    status, output = salt_call()
    assert status != 0
    assert [line for line in output.splitlines() if f"pillar/local.sls: {words}" in line], output
    assert "Traceback" not in output
    assert not salt_call.canary.exists()
