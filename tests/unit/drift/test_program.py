"""The program that compares a box with its image, run by a Python without this environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import box
import pytest

from vault_cube.drift import accepted, manifest, program
from vault_cube.drift.comparison import ACCEPTED, FOLDER, guard
from vault_cube.drift.explain import explain
from vault_cube.drift.program import applies

TOP = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(not box.is_root(), reason="only root's files are accepted")


@pytest.fixture
def carried(copy: Path) -> Path:
    """Return a tree that carries its manifest."""
    (copy / manifest.PLACE).write_bytes((copy.parent / "manifest.gz").read_bytes())
    return copy


@pytest.mark.parametrize(
    ("call", "is_applied"),
    [
        ("--local state.apply", True),
        ("state.apply base", True),
        ("--local --out=json state.highstate", True),
        ("state.sls base.ssh", True),
        ("state.single file.absent name=/etc/x", True),
        ("state.apply test=True", False),
        ("state.apply test=true", False),
        ("state.apply test=False", True),
        ("drift.report", False),
        ("grains.items", False),
        ("state.show_sls base", False),
        ("test.echo state.applying", False),
        ("", False),
    ],
)
def test_calls_that_apply_states_are_recognised(call: str, is_applied: bool) -> None:
    assert applies(call.split()) is is_applied


def test_a_pristine_tree_passes_the_guard(carried: Path) -> None:
    assert guard(carried) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("opt/vault-cube/checkout/salt/base/ssh.sls", "PermitRootLogin yes"),
        ("opt/vault-cube/checkout/_modules/evil.py", "x = 1"),
        ("opt/vault-cube/salt/lib/python3/site-packages/evil.pth", "import os"),
        ("etc/salt/minion", "include: /tmp/x"),
        ("etc/salt/minion.d/evil.conf", "file_roots: {}"),
        ("usr/lib/vault-cube/vault_cube/drift/scan.py", "SCAN = 0"),
    ],
)
def test_what_salt_runs_from_stops_the_guard_until_it_is_accepted(carried: Path, path: str, text: str) -> None:
    (carried / path).parent.mkdir(exist_ok=True)
    (carried / path).write_text(text)
    differences = guard(carried)
    assert path in {difference.path for difference in differences}
    lists = carried / FOLDER / ACCEPTED
    lists.mkdir(parents=True)
    (lists / "mine.files").write_text(accepted.lines(carried, differences))
    assert guard(carried) == []
    (carried / path).write_text(f"{text} # changed again")
    assert [difference.path for difference in guard(carried)] == [path]


def test_a_removed_file_can_be_accepted_and_one_that_others_can_write_cannot(carried: Path) -> None:
    removed, open_to_all = "opt/vault-cube/checkout/salt/top.sls", "opt/vault-cube/checkout/conf/common.conf"
    (carried / removed).unlink()
    (carried / open_to_all).chmod(0o666)
    lists = carried / FOLDER / ACCEPTED
    lists.mkdir(parents=True)
    (lists / "mine.files").write_text(accepted.lines(carried, guard(carried)))
    assert [difference.path for difference in guard(carried)] == [open_to_all]


def test_a_list_never_replaces_another(tmp_path: Path) -> None:
    lists = tmp_path / "accepted"
    file = accepted.add(lists, "mine", "first\n")
    with pytest.raises(accepted.NameRefusedError, match=r"mine\.files: exists, and is kept: choose another name"):
        accepted.add(lists, "mine", "second\n")
    (lists / "update-7.files.sig").write_text("signature")
    with pytest.raises(accepted.NameRefusedError, match="a signed update"):
        accepted.add(lists, "update-7", "second\n")
    (lists / "link.files").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(accepted.NameRefusedError, match="exists"):
        accepted.add(lists, "link", "second\n")
    other = accepted.add(lists, "mine-2", "second\n")
    assert (file.read_text(), other.read_text()) == ("first\n", "second\n")
    # no temporary file is left
    assert {item.name for item in lists.iterdir()} == {
        "mine.files", "mine-2.files", "update-7.files.sig", "link.files",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["../evil", "", ".", "a/b", ".hidden", "a\nb", "-x"])
def test_a_list_has_a_plain_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(accepted.NameRefusedError, match="not a name"):
        accepted.add(tmp_path, name, "x")
    assert list(tmp_path.iterdir()) == []


def test_accept_keeps_both_lists_of_an_owner(carried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = "opt/vault-cube/checkout/salt/base/ssh.sls", "etc/salt/minion"
    monkeypatch.setattr(program, "ROOT", carried)
    (carried / first).write_text("PermitRootLogin yes")
    assert program.main(["accept", "mine"]) == 0
    (carried / second).write_text("include: /etc/mine")
    assert program.main(["accept", "mine"]) == 1
    assert [difference.path for difference in guard(carried)] == [second]
    # a rollout accepts without a name, maybe twice in one second
    assert program.main(["accept"]) == 0
    (carried / second).write_text("include: /etc/mine/2")
    assert program.main(["accept"]) == 0
    assert guard(carried) == []
    assert len(list((carried / FOLDER / ACCEPTED).glob("*.files"))) == 3


def test_files_outside_of_what_salt_runs_from_do_not_stop_it(carried: Path) -> None:
    (carried / "etc/pam.d/su").write_text("x")
    (carried / "opt/vault-cube/checkout/pillar/local.sls").write_text("base: {}")
    (carried / "etc/salt/pki").mkdir()
    (carried / "etc/salt/pki/minion.pem").write_text("key")
    assert [difference.path for difference in guard(carried)] == []


def signed(folder: Path, key: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", accepted.NAMESPACE, "-f", key, folder / name]
    subprocess.run(command, check=True, capture_output=True)


def test_only_an_update_with_a_signature_of_the_image_s_key_counts_as_signed(carried: Path, tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    path = "opt/vault-cube/checkout/salt/base/ssh.sls"
    (carried / path).write_text("updated")
    image = manifest.read(carried / manifest.PLACE)
    image.header["signers"].append((tmp_path / "ours.pub").read_text().strip())
    (difference,) = guard(carried)
    lines = accepted.lines(carried, [difference])
    lists = tmp_path / "lists"
    signed(lists, tmp_path / "theirs", "update-7.files", lines)
    assert accepted.load(lists, image).reason(carried, difference) == ""
    (lists / "update-7.files.sig").unlink()
    signed(lists, tmp_path / "ours", "update-7.files", lines)
    assert accepted.load(lists, image).reason(carried, difference) == "accepted by the signed update update-7"
    (lists / "update-7.files").write_text(f"{lines}\n{'0' * 64}  etc/salt/minion\n")
    assert accepted.load(lists, image).reason(carried, difference) == ""


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program with a Python that has neither this checkout nor its environment on its path."""
    start = "from vault_cube.drift.program import main; sys.exit(main(sys.argv[1:]))"
    code = f"import sys; sys.path.insert(0, {str(TOP)!r}); {start}"
    isolated = ["/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable, "-I", "-S", "-B"]
    return subprocess.run([*isolated, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_program_needs_only_the_standard_library_and_ends_with_2_on_drift(carried: Path) -> None:
    ran = run("compare", "--root", carried, "--json")
    # the ssh key of the pillar is not known without Salt
    assert {finding["what"] for finding in json.loads(ran.stdout)["findings"]} == {
        "/home/vaultadmin/.ssh/authorized_keys2"
    }
    (carried / "home/vaultadmin/.ssh/authorized_keys2").unlink()
    ran = run("compare", "--root", carried, "--full")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("no drift; ")
    (carried / "etc/pam.d/su").write_text("x")
    ran = run("compare", "--root", carried)
    assert (ran.returncode, ran.stderr) == (2, "")
    assert "/etc/pam.d/su: content" in ran.stdout


def test_errors_of_the_program_are_one_line(tmp_path: Path) -> None:
    ran = run("compare", "--root", tmp_path)
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert "was not made from an image" in ran.stderr


def test_explain_names_package_layer_state_and_difference(carried: Path) -> None:
    (carried / "usr/sbin/sshd").write_text("evil")
    assert explain(carried, "/usr/sbin/sshd") == {
        "path": "/usr/sbin/sshd", "layer": "root", "package": "openssh-server", "difference": "content",
    }  # fmt: skip
    assert explain(carried, "/lib/systemd/system/ssh.service")["package"] == "openssh-server"
    state = "state: etc/ssh/sshd_config.d/00-vault-cube.conf"
    assert explain(carried, "/etc/ssh/../ssh/sshd_config.d/00-vault-cube.conf")["state"] == state
    assert explain(carried, "/etc/machine-id")["expected"] == "made at first boot"
    assert "states are applied only" in explain(carried, "/opt/vault-cube/checkout/salt/top.sls")["guarded"]
    assert explain(carried, "/etc/nothing")["difference"] == "neither in the image nor on this box"
    (carried / "etc/evil").write_text("x")
    assert "not in the image" in explain(carried, "/etc/evil")["difference"]
