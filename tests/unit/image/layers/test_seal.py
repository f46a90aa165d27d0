"""Each step of the seal removes its files and no others, is idempotent, and changes nothing outside the tree."""

import os
import stat

import pytest

from vault_cube import tree_manifest
from vault_cube.image.layers import seal

EPOCH = 1_700_000_000


@pytest.fixture
def tree(tmp_path):
    """A folder with files as a layer may have written them."""
    top = tmp_path / "tree"
    for path, text in FILES.items():
        file = top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return top


REMOVED = {
    seal.machine_identity: [
        "etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_rsa_key.pub", "var/lib/dbus/machine-id",
        "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret", "etc/.pwd.lock", "etc/hostid",
    ],
    seal.build_residue: [
        "usr/sbin/policy-rc.d", "var/lib/apt/lists/host_Packages", "var/lib/apt/lists/partial/half",
        "var/cache/apt/pkgcache.bin", "var/cache/apt/archives/a.deb", "etc/apt/apt.conf.d/99mmdebstrap",
        "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "var/cache/salt/minion/x", "var/log/salt/minion", "etc/salt/minion_id",
        "etc/salt/pki/minion/minion.pem", "etc/salt/minion.d/_schedule.conf", "root/.cache/pip/x", "root/.bash_history",
        "var/lib/cloud/instance/x",
    ],
    seal.backups: [
        "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
        "var/lib/dpkg/status-old", "var/lib/dpkg/lock", "var/lib/dpkg/lock-frontend", "var/lib/dpkg/triggers/Lock",
        "var/cache/debconf/config.dat-old", "var/lib/ucf/hashfile.0", "etc/.resolv.conf.systemd-resolved.bak",
        "var/backups/dpkg.status.0",
    ],
    seal.caches: [
        "var/cache/ldconfig/aux-cache", "var/cache/man/index.db", "var/cache/fontconfig/x", "var/lib/mlocate/db",
        "var/lib/systemd/catalog/database", "tmp/x", "var/tmp/deep/y",
    ],
    seal.logs: ["var/log/dpkg.log", "var/log/apt/history.log", "var/log/journal/abc/system.journal"],
}  # fmt: skip

STAYS = [
    "etc/ssh/sshd_config", "etc/passwd", "etc/group", "etc/salt/minion", "etc/apt/sources.list", "var/lib/dpkg/status",
    "var/lib/dpkg/triggers/File", "var/cache/debconf/config.dat", "var/lib/ucf/hashfile", "usr/bin/tool",
    "root/.profile",
]  # fmt: skip

FILES = {
    **{path: "x" for paths in REMOVED.values() for path in paths},
    **dict.fromkeys(STAYS, "kept"),
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "var/log/wtmp": "somebody",
    "var/log/btmp": "somebody",
    "var/log/lastlog": "somebody",
    "etc/shadow": "root:*:19000:0:99999:7:::\nme:!:20000:0:99999:7:::\nforced:$y$x:0:0:99999:7:::\n",
    "opt/vault-cube/salt/lib/python3.11/site-packages/a-1.dist-info/uv_cache.json": '{"timestamp": 1}',
    "opt/vault-cube/salt/lib/python3.11/site-packages/a-1.dist-info/RECORD": (
        "a.py,sha256=x,1\na-1.dist-info/uv_cache.json,sha256=y,2\na-1.dist-info/RECORD,,\n"
    ),
}


@pytest.mark.parametrize("step", seal.STEPS, ids=lambda step: step.__name__)
def test_a_step_is_idempotent(tree, step):
    step(tree, EPOCH)
    once = tree_manifest.entries(tree)
    step(tree, EPOCH)
    assert changed(once, tree_manifest.entries(tree)) == []


def changed(before, after):
    """Return the differences except modification times, which only the last step sets."""
    return [line for line in tree_manifest.differences(before, after) if not line.endswith(": mtime")]


@pytest.mark.parametrize("step", seal.STEPS, ids=lambda step: step.__name__)
def test_a_step_leaves_a_folder_without_its_files_unchanged(tmp_path, step):
    (tmp_path / "usr").mkdir()
    step(tmp_path, EPOCH)
    assert [path.name for path in tmp_path.iterdir()] == ["usr"]


@pytest.mark.parametrize("step", seal.STEPS, ids=lambda step: step.__name__)
def test_a_step_has_a_reason(step):
    assert len(step.__doc__) > 30


@pytest.mark.parametrize("step", REMOVED, ids=lambda step: step.__name__)
def test_a_step_removes_its_files_and_no_other(tree, step):
    before = {path for path in FILES if (tree / path).exists()}
    step(tree, EPOCH)
    removed = {path for path in before if not (tree / path).exists()}
    # two steps remove Salt's log: build_residue and logs
    assert removed - {"var/log/salt/minion"} == set(REMOVED[step]) - {"var/log/salt/minion"}
    for path in REMOVED[step]:
        assert not (tree / path).exists()


def test_the_whole_seal_is_idempotent_and_keeps_all_other_files(tree):
    seal.seal(tree, EPOCH)
    once = tree_manifest.entries(tree)
    seal.seal(tree, EPOCH)
    assert tree_manifest.entries(tree) == once
    for path in STAYS:
        assert (tree / path).read_text() == "kept"


def test_the_machine_id_is_an_empty_file(tree):
    seal.machine_identity(tree, EPOCH)
    assert (tree / "etc/machine-id").read_text() == ""


def test_logs_that_daemons_require_stay_as_empty_files_and_log_folders_stay(tree):
    seal.logs(tree, EPOCH)
    assert {path.name: path.read_text() for path in (tree / "var/log").iterdir() if path.is_file()} == {
        "wtmp": "", "btmp": "", "lastlog": "",
    }  # fmt: skip
    assert (tree / "var/log/apt").is_dir()


def test_passwords_get_the_lock_s_day_except_those_that_must_be_changed(tree):
    (tree / "etc/shadow").chmod(0o640)
    seal.password_dates(tree, EPOCH)
    assert [line.split(":")[2] for line in (tree / "etc/shadow").read_text().splitlines()] == ["19675", "19675", "0"]
    assert (tree / "etc/shadow").read_text().startswith("root:*:19675:0:99999:7:::\n")
    assert stat.S_IMODE((tree / "etc/shadow").stat().st_mode) == 0o640


def test_the_lock_that_anybody_could_hold_is_removed(tmp_path):
    for folder in ("salt", "envs/pytorch"):
        (tmp_path / "opt/vault-cube" / folder).mkdir(parents=True)
        (tmp_path / "opt/vault-cube" / folder / ".lock").touch(mode=0o666)
    seal.seal(tmp_path, EPOCH)
    assert not (tmp_path / "opt/vault-cube/salt/.lock").exists()
    # the digest of an environment covers its lock, so only uv.environment may remove it
    assert (tmp_path / "opt/vault-cube/envs/pytorch/.lock").exists()


def test_uv_s_cache_file_is_removed_with_its_line_in_record(tree):
    seal.uv_traces(tree, EPOCH)
    info = tree / "opt/vault-cube/salt/lib/python3.11/site-packages/a-1.dist-info"
    assert [path.name for path in info.iterdir()] == ["RECORD"]
    assert (info / "RECORD").read_text() == "a.py,sha256=x,1\na-1.dist-info/RECORD,,\n"


def test_times_are_lowered_to_the_lock_s_timestamp_and_truncated_to_seconds(tree):
    new, old = tree / "usr/bin/tool", tree / "etc/passwd"
    os.utime(old, ns=(5, 1_000_000_000_500_000_000))
    (tree / "link").symlink_to("/nowhere")
    seal.times(tree, EPOCH)
    assert new.stat().st_mtime_ns == EPOCH * 10**9
    assert old.stat().st_mtime_ns == 1_000_000_000 * 10**9
    # access times must not depend on reads or on the mount option noatime
    assert old.stat().st_atime_ns == EPOCH * 10**9
    assert (tree / "link").lstat().st_mtime_ns == EPOCH * 10**9
    assert tree.stat().st_mtime_ns == EPOCH * 10**9


@pytest.mark.skipif(os.geteuid() != 0, reason="a whiteout is a device: needs root")
def test_a_file_that_the_layer_removed_stays_removed(tree):
    whiteout = tree / "var/cache/man/index.db"
    whiteout.unlink()
    os.mknod(whiteout, 0o000 | stat.S_IFCHR, 0)
    seal.seal(tree, EPOCH)
    assert stat.S_ISCHR(whiteout.lstat().st_mode)


LINKS = ("var/tmp", "tmp", "var/log", "var/backups", "etc", "var", "var/lib/dpkg", "root", "opt")


@pytest.mark.parametrize("place", LINKS)
def test_a_link_that_leads_out_of_the_tree_is_not_followed(tmp_path, place):
    """The link `/var/tmp -> /tmp` in a tree leads to this machine's /tmp."""
    outside = tmp_path / "machine"
    for path, text in FILES.items():
        file = outside / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    before = tree_manifest.entries(outside)
    link = tmp_path / "tree" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / place)
    seal.seal(tmp_path / "tree", EPOCH)
    assert tree_manifest.entries(outside) == before
    assert link.is_symlink()


@pytest.mark.parametrize("place", ["etc/machine-id", "etc/shadow", "var/log/wtmp", "etc/passwd-"])
def test_a_file_that_is_a_link_is_not_written_through(tmp_path, place):
    victim = tmp_path / "victim"
    victim.write_text("a:b:1:c\n")
    link = tmp_path / "tree" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    seal.seal(tmp_path / "tree", EPOCH)
    assert victim.read_text() == "a:b:1:c\n"
