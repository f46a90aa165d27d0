"""`salt-call` prints only its answer, and reports an unwritable cache in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from copied import TOP

SALT_CALL = Path(sys.executable).parent / "salt-call"
NOBODY = 65534


@pytest.fixture
def salt_call(tmp_path):
    """salt_call(*words) runs salt-call with a checkout's configuration and a temporary cache."""
    conf = yaml.safe_load((TOP / "conf/minion").read_text())
    conf |= {"include": str(TOP / "conf/common.conf"), "vault_cube": {"target": "debian-12", "checkout": str(TOP)}}
    conf |= {"root_dir": str(tmp_path)} | {
        name: str(tmp_path / name) for name in ("cachedir", "pki_dir", "sock_dir", "log_file")
    }
    conf |= {name: [str(TOP / folder) for folder in conf[name]] for name in conf if name.endswith("_dirs")}
    conf |= {name: {"base": [str(TOP / conf[name]["base"][0])]} for name in ("file_roots", "pillar_roots")}
    (tmp_path / "minion").write_text(yaml.safe_dump(conf))

    def run(*words):
        return subprocess.run(
            [SALT_CALL, "--local", "-c", tmp_path, *words],
            check=False, cwd=TOP, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("test.ping",), "local:\n    True\n"),
        (("user.info", "no_such_user"), "local:\n    ----------\n"),  # loads the module shadow, which imports crypt
        (("shadow.info", "no_such_user", "--out=txt"), "local: {"),
        (("grains.get", "no_such_grain"), "local:\n"),
        (("config.get", "id"), "local:\n    checkout\n"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_call_prints_only_its_answer(salt_call, words, answer):
    ran = salt_call(*words)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(answer)
    assert len(ran.stdout.splitlines()) == answer.count("\n") or answer.endswith("{")


@pytest.mark.chroot
@pytest.mark.parametrize("states", ["base.users", "frameworks.vllm", "validation.exporters"])
def test_a_dry_run_prints_no_warning(salt_call, states):
    """Salt used to warn about the shell nologin, a group in two lists, and a user that does not exist yet."""
    if states != "base.users" and not shutil.which("systemctl"):
        pytest.skip("its units are compared by systemctl, which is not installed")
    ran = salt_call("state.apply", states, "test=True")
    assert ran.stderr == ""
    assert "Total states run" in ran.stdout


@pytest.fixture
def nobody(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/salt-call", "test.ping"])
    if os.geteuid():
        pytest.skip("needs root to become another user")
    os.seteuid(NOBODY)
    yield
    os.seteuid(0)


@pytest.fixture
def cache(tmp_path):
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    cache = tmp_path / ".salt/cache"
    (cache / "roots").mkdir(parents=True)
    (cache / "roots/mtime_map").touch()
    for path in (tmp_path, tmp_path / ".salt", cache, cache / "roots", cache / "roots/mtime_map"):
        os.chown(path, NOBODY, NOBODY)
    return cache


# read as root: the checkout may be in a folder that others may not enter
SOURCE = (TOP / "_grains/quiet.py").read_text()


def writable_cache(cache):
    module = {"__opts__": {"cachedir": str(cache)}}
    exec(SOURCE, module)
    return module["writable_cache"]()


@pytest.mark.parametrize("path", ["", "roots", "roots/mtime_map"])
def test_a_cache_of_root_is_reported_in_one_line_to_another_user(cache, nobody, path):
    os.seteuid(0)
    os.chown(cache / path, 0, 0)
    os.seteuid(NOBODY)
    with pytest.raises(SystemExit) as stopped:
        writable_cache(cache)
    blocked = str(cache / path)
    assert stopped.value.code == (
        f"salt-call: cannot write {blocked} as user nobody: it belongs to root. "
        "Run salt-call as root; in a checkout you can remove .salt instead"
    )


def test_a_cache_in_a_folder_without_access_is_reported_in_one_line(cache, nobody):
    os.seteuid(0)
    folder = cache.parent
    os.chown(folder, 0, 0)
    folder.chmod(0o700)
    os.seteuid(NOBODY)
    with pytest.raises(SystemExit, match=f"cannot write {folder} as user nobody"):
        writable_cache(cache)


@pytest.mark.parametrize("options", ["ro", "size=4k"])
def test_temporary_files_are_below_the_cache_if_no_other_folder_can_be_written(tmp_path, options):
    if os.geteuid():
        pytest.skip("needs root to mount")
    code = (
        # the mounts may hide the file
        (TOP / "_grains/quiet.py").read_text()
        + "\n__opts__ = {'cachedir': '/run/cache'}\ntemporary_folder()\nprint(tempfile.gettempdir())"
    )
    script = (
        "mount -t tmpfs tmpfs /run; mkdir -p /run/cache; for folder in /var/tmp /usr/tmp /tmp; do "
        f"[ ! -d $folder ] || {{ mount -t tmpfs -o {options} tmpfs $folder; cat /dev/zero >$folder/x 2>/dev/null; }}; "
        'done; cd /proc; exec "$0" -I -c "$1"'
    )
    words = ["unshare", "--mount", "sh", "-c", script, "/usr/bin/python3", code]
    environ = {"PATH": os.environ["PATH"]}
    ran = subprocess.run(words, capture_output=True, text=True, check=False, env=environ, cwd="/")
    assert ran.stdout.strip() == "/run/cache", ran.stderr


def test_a_minion_is_not_stopped(cache, nobody, monkeypatch):
    os.seteuid(0)
    os.chown(cache, 0, 0)
    os.seteuid(NOBODY)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/salt-minion"])
    assert writable_cache(cache) == {}


def test_an_own_and_a_missing_cache_are_accepted(cache, nobody):
    assert writable_cache(cache) == {}
    assert writable_cache(cache / "new/deeper") == {}
