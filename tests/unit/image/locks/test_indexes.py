"""What is set for pip or for uv (indexes, certificates) applies to both, in scripts/venv.sh and in `make lock`."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mirror as servers
import pytest

from vault_cube.image.locks import indexes, pylock

TOP = Path(__file__).parents[4]
MINE = "http://127.0.0.1:8902/simple"
RELEVANT = (
    "PIP_",
    "UV_",
    "SSL_",
    "REQUESTS_",
    "CURL_",
    "http",
    "HTTP",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
)


def only(own, pip):
    """Return the variables that concern places, without those for certificates and the strategy."""
    wanted = indexes.environment(own, pip)
    return {name: value for name, value in wanted.items() if name not in {"SSL_CERT_FILE", "UV_INDEX_STRATEGY"}}


@pytest.mark.parametrize(("own", "pip", "expected"), [
    ({}, {"index-url": MINE}, {"UV_DEFAULT_INDEX": MINE}),
    ({}, {"extra-index-url": "http://a/s http://b/s"}, {"UV_INDEX": "http://a/s http://b/s"}),
    ({}, {"find-links": "/a /b"}, {"UV_FIND_LINKS": "/a,/b"}),
    ({}, {"no-index": "1", "find-links": "/a"}, {"UV_NO_INDEX": "1", "UV_FIND_LINKS": "/a"}),
    ({}, {"no-index": "false"}, {}),
    ({}, {"trusted-host": "a b"}, {"UV_INSECURE_HOST": "a b"}),
    ({}, {"proxy": "http://p:1"}, {"ALL_PROXY": "http://p:1"}),
    ({"UV_DEFAULT_INDEX": MINE}, {}, {"PIP_INDEX_URL": MINE}),
    ({"UV_INDEX_URL": MINE}, {}, {"PIP_INDEX_URL": MINE}),
    ({"UV_INDEX": "torch=http://t/whl http://b/s?a=b"}, {}, {"PIP_EXTRA_INDEX_URL": "http://t/whl http://b/s?a=b"}),
    ({"UV_EXTRA_INDEX_URL": "http://a/s"}, {}, {"PIP_EXTRA_INDEX_URL": "http://a/s"}),
    ({"UV_FIND_LINKS": "/a,/b"}, {}, {"PIP_FIND_LINKS": "/a /b"}),
    # who sets both means both
    ({"UV_DEFAULT_INDEX": "http://uv/s"}, {"index-url": "http://pip/s"}, {}),
    ({}, {}, {}),
])  # fmt: skip
def test_a_setting_of_one_tool_is_given_to_the_other(own, pip, expected):
    assert only(own, pip) == expected


@pytest.mark.parametrize(("own", "pip", "expected"), [
    ({"SSL_CERT_FILE": "/ca"}, {}, {"PIP_CERT": "/ca"}),
    ({}, {"cert": "/ca"}, {"SSL_CERT_FILE": "/ca"}),
    ({"REQUESTS_CA_BUNDLE": __file__}, {}, {"SSL_CERT_FILE": __file__}),
    ({"CURL_CA_BUNDLE": __file__}, {}, {"SSL_CERT_FILE": __file__}),
])  # fmt: skip
def test_certificates_are_those_of_either_tool(own, pip, expected):
    wanted = indexes.environment(own, pip)
    assert {name: wanted[name] for name in wanted if "CERT" in name} == expected


@pytest.fixture
def bare(tmp_path):
    """An environment without any setting of pip, uv or a proxy."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(RELEVANT)}
    return {**own, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}


def printed(environment):
    """Return the variables that scripts/venv.sh gets: name -> value."""
    ran = subprocess.run(
        [sys.executable, "-m", "vault_cube.image.locks.indexes"], cwd=TOP, capture_output=True, text=True, check=True,
        env=environment,
    )  # fmt: skip
    words = (shlex.split(line)[1].partition("=") for line in ran.stdout.splitlines())
    return {name: value for name, _, value in words}


@pytest.mark.parametrize(("text", "expected"), [
    (f"[global]\nindex-url = {MINE}\n", {"UV_DEFAULT_INDEX": MINE}),
    (f"[global]\nindex-url = http://other/s\n[install]\nindex-url = {MINE}\n", {"UV_DEFAULT_INDEX": MINE}),
    ("[global]\nextra-index-url =\n    http://a/s\n    http://b/s\n", {"UV_INDEX": "http://a/s http://b/s"}),
    ("[global]\nindex-url = https://me:it's%40me@host/s\n", {"UV_DEFAULT_INDEX": "https://me:it's%40me@host/s"}),
    # pip ignores folders that do not exist; for uv they would be an error
    ("[global]\nfind-links = /nowhere/wheels\nextra-index-url = file:///nowhere/simple\n", {}),
])  # fmt: skip
def test_pip_s_files_are_read_as_pip_reads_them(bare, tmp_path, text, expected):
    (tmp_path / "pip.conf").write_text(text)
    got = printed({**bare, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
    assert {name: value for name, value in got.items() if name in indexes.PLACES} == expected


def test_pip_s_environment_comes_before_its_files(bare, tmp_path):
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = http://file/s\n[install]\nindex-url = http://install/s\n")
    got = printed({**bare, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_INDEX_URL": MINE})
    assert got["UV_DEFAULT_INDEX"] == MINE


CONFLICT = """\
error: No solution found when resolving dependencies
  cause: Because demo==1 depends on numpy<2 and you require numpy==2.1, we can conclude that your requirements
      are unsatisfiable.
"""


TRACEBACK = 'Traceback (most recent call last):\n  File "/x/base_command.py", line 105, in _run\n    return run()\n'


@pytest.mark.parametrize(("output", "parts"), [
    (CONFLICT, ["No solution found", "Because demo==1 depends on numpy<2 and you require numpy==2.1"]),
    ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE\n", ["PIP_INDEX_URL to another"]),
    ("error: Failed to fetch: `https://i/uv.whl`\n  cause: Hash mismatch for uv\n", ["https://i/uv.whl: Hash"]),
    ("ERROR: Could not install packages: [Errno 28] No space left on device\n", [": make room"]),
    ("ERROR: something new\n", ["something new"]),
    ("note\nerror: this\n  cause: that\n", ["this cause: that"]),
    ("", ["no reason given"]),
    (f"ERROR: Exception:\n{TRACEBACK}ValueError: check_hostname requires server_hostname\n",
     ["check_hostname requires server_hostname: pip verifies certificates of names only: set PIP_INDEX_URL"]),
    (f"ERROR: Exception:\n{TRACEBACK}KeyError: 'name'\n", ["KeyError: 'name'"]),
    (f"WARNING: retrying\n{TRACEBACK}OSError: [Errno 28] No space left on device\n", [": make room"]),
])  # fmt: skip
def test_a_failure_is_explained_in_one_line(output, parts):
    line = indexes.explained(output)
    assert "\n" not in line
    assert [part for part in parts if part not in line] == []
    assert "Traceback" not in line


@pytest.fixture
def index(tmp_path):
    (tmp_path / "served").mkdir()
    with servers.running(tmp_path / "served") as mirror:
        yield mirror


@pytest.fixture
def no_settings(bare, monkeypatch):
    for name in set(os.environ) - set(bare):
        monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, bare[name])


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_EXTRA_INDEX_URL"])
def test_uv_asks_the_index_of_this_machine_when_wheels_are_located(index, no_settings, monkeypatch, tmp_path, name):
    monkeypatch.setenv(name, f"{index.url}/simple")
    if name == "PIP_EXTRA_INDEX_URL":
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/first")
    archive = SimpleNamespace(wheel_index=None, extra_wheel_indexes=[])
    settings = SimpleNamespace(archive=archive, target=SimpleNamespace(python="3.11", glibc="2.36"))
    wheel = pylock.Wheel("demo", "1.0", "a" * 64, "demo-1.0-py3-none-any.whl", 1)
    uv = Path(sys.executable).parent / "uv"
    assert pylock.locate(settings, uv, [wheel], tmp_path) == {}
    assert "simple/demo/" in [path for path, _ in index.asked]


def test_an_index_of_the_pillar_is_the_only_one(index, no_settings, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_INDEX", "http://127.0.0.1:9/simple")
    archive = SimpleNamespace(wheel_index=f"{index.url}/simple", extra_wheel_indexes=[])
    settings = SimpleNamespace(archive=archive, target=SimpleNamespace(python="3.11", glibc="2.36"))
    wheel = pylock.Wheel("demo", "1.0", "a" * 64, "demo-1.0-py3-none-any.whl", 1)
    assert pylock.locate(settings, Path(sys.executable).parent / "uv", [wheel], tmp_path) == {}
    assert [path for path, _ in index.asked] == ["simple/demo/"]


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "UV_DEFAULT_INDEX"])
def test_the_environment_of_the_checkout_comes_from_one_index(index, bare, tmp_path, name):
    """scripts/venv.sh installs uv with pip and the rest with uv; both ask the index of either setting."""
    got = printed({**bare, name: f"{index.url}/simple"})
    own = {**bare, name: f"{index.url}/simple", **got}
    for command in (
        [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", tmp_path, "demo==1.0"],
        [Path(sys.executable).parent / "uv", "pip", "install", "-q", "--target", tmp_path / "t", "demo==1.0"],
    ):
        index.asked.clear()
        assert subprocess.run(command, env=own, cwd=tmp_path, capture_output=True, check=False).returncode
        assert {path for path, _ in index.asked} == {"simple/demo/"}
    # the script takes the variables before it runs pip
    script = (TOP / "scripts/wheels.sh").read_text()
    assert script.index('eval "$variables"') < script.index('/bin/pip" install')
