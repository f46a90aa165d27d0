"""uv.environment with the real uv and the system's Python, offline: create, repeat, repair, change, share."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from copied import minion, salt_call

from vault_cube.python_env import environments

PYTHON = "/usr/bin/python3"


@pytest.fixture
def box(tmp_path, wheels, monkeypatch):
    """Arguments of the state, with a lock of two packages; one of them exists in two versions."""
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels.folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")
    big = "DATA = " + repr("x" * 5000) + "\n"
    wheels("alpha", "1.0", {"alpha/__init__.py": "def main():\n    print('alpha 1.0')\n", "alpha/data.py": big})
    wheels("alpha", "2.0", {"alpha/__init__.py": "def main():\n    print('alpha 2.0')\n", "alpha/data.py": big})
    wheels("beta", "1.0", {"beta/__init__.py": "def main():\n    print('beta')\n"})
    lock = wheels.lock(tmp_path / "python-one.lock", ("alpha", "1.0"), ("beta", "1.0"))
    return {"name": str(tmp_path / "envs/one"), "lock": str(lock), "python": PYTHON}


def output_of(box, command="alpha-hello"):
    return subprocess.run([f"{box['name']}/bin/{command}"], capture_output=True, text=True, check=True).stdout.strip()


def site(box):
    return next(Path(box["name"]).glob("lib/python3.*/site-packages"))


def tree(box):
    return {
        str(file.relative_to(box["name"])): (file.read_bytes() if file.is_file() else b"", int(file.lstat().st_mtime))
        for file in sorted(Path(box["name"]).rglob("*"))
    }


def test_the_first_run_creates_an_environment_and_the_second_changes_nothing(box, load_state):
    uv = load_state("uv")
    planned = load_state("uv", test=True).environment(**box)
    assert planned["result"] is None
    assert not Path(box["name"]).exists()
    first = uv.environment(**box)
    assert first["result"] is True, first["comment"]
    assert first["changes"]
    assert output_of(box) == "alpha 1.0"
    for again in (uv.environment(**box), load_state("uv", test=True).environment(**box)):
        assert again["result"] is True
        assert again["changes"] == {}


def test_no_file_or_time_of_the_installation_remains(box, load_state):
    load_state("uv").environment(**box)
    assert [file.name for file in Path(box["name"]).parent.iterdir()] == ["one"]
    assert not list(Path(box["name"]).rglob("uv_cache.json"))
    for record in Path(box["name"]).rglob("RECORD"):
        assert "uv_cache.json" not in record.read_text()
    assert all(time == environments.EPOCH for _, time in tree(box).values())


def test_two_environments_from_one_lock_are_identical(box, load_state):
    load_state("uv").environment(**box)
    first = tree(box)
    subprocess.run(["rm", "-rf", box["name"]], check=True)
    load_state("uv").environment(**box)
    assert tree(box) == first


def alter(box):
    (site(box) / "alpha/__init__.py").write_text("def main():\n    print('altered!!')\n")


def cut(box):
    (site(box) / "alpha/data.py").unlink()


def add_file(box):
    (site(box) / "alpha/extra.py").write_text("x = 1\n")


def add_package(box):
    info = site(box) / "gamma-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gamma\nVersion: 1.0\n")
    (info / "RECORD").write_text("gamma.py,,\ngamma-1.0.dist-info/METADATA,,\ngamma-1.0.dist-info/RECORD,,\n")
    (site(box) / "gamma.py").write_text("x = 1\n")


def lose_record(box):
    (site(box) / "alpha-1.0.dist-info/RECORD").unlink()


def lose_bytecode(box):
    for file in (site(box) / "alpha/__pycache__").iterdir():
        file.unlink()


def forge_bytecode(box):
    file = next((site(box) / "alpha/__pycache__").glob("__init__*.pyc"))
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def change_mode(box):
    (Path(box["name"]) / "bin/alpha-hello").chmod(0o644)


def lose_interpreter(box):
    (Path(box["name"]) / "bin/python").unlink()


def lose_stamp(box):
    (Path(box["name"]) / environments.STAMP).unlink()


def lose_settings(box):
    (Path(box["name"]) / "pyvenv.cfg").unlink()


def comment_the_lock(box):
    lock = Path(box["lock"])
    lock.write_text("# a comment\n" + "\n".join(f"{line} # more" for line in reversed(lock.read_text().splitlines())))


def add_pth(box):
    (site(box) / "stray.pth").write_text("import sys; sys.exit('the stray file ran')\n")


def add_module_over_the_standard_library(box):
    (site(box) / "sitecustomize.py").write_text("raise SystemExit('the stray file ran')\n")


def lose_metadata(box):
    (site(box) / "alpha-1.0.dist-info/METADATA").unlink()


PACKAGES_NEEDED = [alter, cut, lose_record]
NOTHING_IS_MISSING = [
    add_file,
    add_pth,
    add_module_over_the_standard_library,
    add_package,
    lose_bytecode,
    forge_bytecode,
    change_mode,
    lose_stamp,
    lose_interpreter,
    lose_settings,
    comment_the_lock,
]


@pytest.fixture
def cut_off(wheels):
    """cut_off() takes all wheels away; returns the folder where they are then."""

    def cut():
        away = wheels.folder.with_name("supplies") / "wheels"
        away.parent.mkdir()
        wheels.folder.rename(away)
        wheels.folder.mkdir()
        return away.parent

    return cut


@pytest.mark.parametrize("harm", [*PACKAGES_NEEDED, *NOTHING_IS_MISSING])
def test_damage_is_reported_and_repaired_without_a_network_if_nothing_is_missing(box, load_state, cut_off, harm):
    load_state("uv").environment(**box)
    before = tree(box)
    harm(box)
    if harm in NOTHING_IS_MISSING:
        cut_off()
    planned = load_state("uv", test=True).environment(**box)
    assert bool(planned["changes"]) == (harm is not comment_the_lock)
    repaired = load_state("uv").environment(**box)
    assert repaired["result"] is True, repaired["comment"]
    assert tree(box) == before
    assert load_state("uv").environment(**box)["changes"] == {}
    assert output_of(box) == "alpha 1.0"


def hide(file, content):
    """Write a file in place, with its old size and modification time."""
    assert len(content) == file.stat().st_size
    file.write_bytes(content)
    os.utime(file, (environments.EPOCH, environments.EPOCH))


def hide_in_source(box):
    file = site(box) / "alpha/__init__.py"
    hide(file, file.read_bytes().replace(b"1.0", b"6.6"))


def hide_in_byte_code(box):
    file = next((site(box) / "alpha/__pycache__").glob("__init__*.pyc"))
    hide(file, file.read_bytes().replace(b"alpha 1.0", b"alpha 6.6"))


def hide_in_replaced_file(box):
    file = site(box) / "alpha/data.py"
    content = file.read_bytes().replace(b"x", b"y")
    file.unlink()
    file.touch(0o644)
    os.truncate(file, len(content))
    hide(file, content)
    for folder in (file.parent, *file.parent.parents[:4]):
        os.utime(folder, (environments.EPOCH, environments.EPOCH))


@pytest.mark.parametrize("harm", [hide_in_source, hide_in_byte_code, hide_in_replaced_file])
def test_an_edit_that_keeps_size_and_time_is_found_and_repaired(box, load_state, harm):
    load_state("uv").environment(**box)
    before = tree(box)
    assert load_state("uv", test=True).environment(**box)["changes"] == {}  # the first comparison on this machine
    harm(box)
    planned = load_state("uv", test=True).environment(**box)
    assert (planned["result"], bool(planned["changes"])) == (None, True)
    assert load_state("uv").environment(**box)["result"] is True
    assert tree(box) == before
    assert load_state("uv", test=True).environment(**box)["changes"] == {}


def test_before_the_first_comparison_such_an_edit_is_found_by_damage_only(box, load_state):
    load_state("uv").environment(**box)
    hide_in_source(box)
    assert load_state("uv").environment(**box)["changes"] == {}
    assert environments.damage(Path(box["name"])).altered == [
        str((site(box) / "alpha/__init__.py").relative_to(box["name"]))
    ]


def record(tmp_path):
    return next((tmp_path / "cache/vault_cube_environments").iterdir())


def remove(file):
    file.unlink()


def empty(file):
    file.write_text("")


def fill_with_zeros(file):
    file.write_bytes(bytes(64))


def make_a_folder_of(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("harm", [empty, fill_with_zeros, make_a_folder_of])
def test_with_a_damaged_record_all_files_are_read(box, load_state, tmp_path, harm):
    for _ in range(2):
        load_state("uv").environment(**box)
    hide_in_source(box)
    harm(record(tmp_path))
    assert load_state("uv", test=True).environment(**box)["changes"]["altered"]["files"] == 1


@pytest.mark.parametrize("harm", [remove, empty, fill_with_zeros, make_a_folder_of])
def test_a_damaged_record_is_no_difference(box, load_state, tmp_path, harm):
    for _ in range(2):
        load_state("uv").environment(**box)
    harm(record(tmp_path))
    for _ in range(2):
        assert load_state("uv").environment(**box)["changes"] == {}


def test_a_touched_file_with_its_old_content_is_no_difference(box, load_state):
    for _ in range(2):
        load_state("uv").environment(**box)
    file = site(box) / "alpha/__init__.py"
    hide(file, file.read_bytes())
    os.link(site(box) / "alpha/data.py", Path(box["name"]).parent / "another name")
    for _ in range(2):
        assert load_state("uv").environment(**box)["changes"] == {}


def test_nothing_is_read_if_nothing_was_touched(box, load_state, monkeypatch):
    for _ in range(2):
        load_state("uv").environment(**box)
    monkeypatch.setattr(environments, "tree_digest", lambda folder: pytest.fail("the tree was compared"))
    assert load_state("uv").environment(**box)["changes"] == {}


def test_another_lock_changes_and_removes_packages(box, load_state, wheels):
    load_state("uv").environment(**box)
    wheels.lock(Path(box["lock"]), ("alpha", "2.0"))
    planned = load_state("uv", test=True).environment(**box)
    assert planned["changes"]["packages"] == {"alpha": {"old": "1.0", "new": "2.0"}, "beta": {"old": "1.0", "new": ""}}
    load_state("uv").environment(**box)
    assert output_of(box) == "alpha 2.0"
    assert not (site(box) / "beta").exists()
    assert not (Path(box["name"]) / "bin/beta-hello").exists()


def test_identical_files_are_hard_links(box, load_state, wheels, tmp_path):
    uv = load_state("uv")
    uv.environment(**box)
    other = {
        **box,
        "name": str(tmp_path / "envs/two"),
        "lock": str(wheels.lock(tmp_path / "two.lock", ("alpha", "2.0"))),
    }
    done = uv.environment(**other, share_with=[box["name"], other["name"]])
    assert done["changes"]["made"]["shared_files"] >= 2  # data.py and its byte code
    assert (site(box) / "alpha/data.py").samefile(site(other) / "alpha/data.py")
    assert not (site(box) / "alpha/__init__.py").samefile(site(other) / "alpha/__init__.py")
    for each in (box, other):
        assert uv.environment(**each)["changes"] == {}
    cut(other)
    uv.environment(**other, share_with=[box["name"]])
    assert uv.environment(**box)["changes"] == {}
    assert output_of(box) == "alpha 1.0"
    assert output_of(other) == "alpha 2.0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("alpha==1.0\n", "alpha has no hash"),
        ("alpha>=1.0 --hash=sha256:" + "0" * 64 + "\n", "line 1: not a pinned requirement"),
        ("alpha==1.0 --hash=sha256:" + "0" * 64 + "\n", "hash"),
        ("delta==1.0 --hash=sha256:" + "0" * 64 + "\n", "delta"),
        (None, "make lock"),
    ],
)
def test_an_invalid_lock_is_reported_in_one_line(box, load_state, content, message):
    if content is None:
        Path(box["lock"]).unlink()
    else:
        Path(box["lock"]).write_text(content)
    refused = load_state("uv").environment(**box)
    assert refused["result"] is False
    assert message.lower() in refused["comment"].lower()
    assert "\n" not in refused["comment"]
    assert "Traceback" not in refused["comment"]


def test_salt_call_applies_the_state(box, tmp_path):
    conf = minion(tmp_path / "conf")
    call = ["--out=json", "state.single", "uv.environment", *(f"{key}={value}" for key, value in box.items())]
    first = salt_call(conf, *call)
    assert first.returncode == 0, first.stdout + first.stderr
    again = json.loads(salt_call(conf, *call, "test=True").stdout)
    (state,) = again["local"].values()
    assert (state["result"], state["changes"]) == (True, {})


def test_with_a_cache_a_package_is_unpacked_once(box, load_state, wheels, tmp_path):
    uv, cache = load_state("uv"), tmp_path / "envs/.unpacked"
    uv.environment(**box, cache=str(cache))
    other = {**box, "name": str(tmp_path / "envs/two")}
    uv.environment(**other, cache=str(cache), share_with=[box["name"]])
    assert cache.is_dir()
    inodes = {file.stat().st_ino for file in cache.rglob("data.py")}
    assert inodes == {(site(each) / "alpha/data.py").stat().st_ino for each in (box, other)}
    subprocess.run(["rm", "-rf", cache], check=True)
    assert output_of(other) == "alpha 1.0"
    first = tree(other)
    subprocess.run(["rm", "-rf", other["name"]], check=True)
    uv.environment(**other, share_with=[box["name"]])
    assert tree(other) == first


@pytest.mark.parametrize("harm", [alter, cut, lose_metadata])
def test_without_a_network_a_damaged_package_is_repaired_from_supplies(box, load_state, cut_off, monkeypatch, harm):
    load_state("uv").environment(**box)
    before = tree(box)
    harm(box)
    supplies = cut_off()
    for name in ("UV_FIND_LINKS", "UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.delenv(name)
    index = (supplies.parent / "no-such-index").as_uri()
    repaired = load_state("uv").environment(**box, index=index, supplies=str(supplies))
    assert repaired["result"] is True, repaired["comment"]
    assert tree(box) == before


@pytest.mark.parametrize("harm", [alter, cut])
def test_what_cannot_be_repaired_stays_as_it_is_and_the_message_has_the_remedy(box, load_state, cut_off, harm):
    load_state("uv").environment(**box)
    harm(box)
    (site(box) / "stray.pth").write_text("x = 1\n")
    cut_off()
    refused = load_state("uv").environment(**box, supplies="/nonexistent/supplies")
    assert (refused["result"], refused["changes"]) == (False, {})
    assert "connect the box to a network, or put supplies" in refused["comment"]
    assert "/nonexistent/supplies" in refused["comment"]
    assert "\n" not in refused["comment"]
    assert output_of(box, "beta-hello") == "beta"
    assert (site(box) / "alpha-1.0.dist-info/RECORD").is_file()
    assert not (site(box) / "stray.pth").exists()


def test_an_environment_that_cannot_be_made_leaves_nothing(box, load_state, cut_off):
    cut_off()
    assert load_state("uv").environment(**box)["result"] is False
    assert not Path(box["name"]).exists()
