"""Which change rebuilds what: a change affects the layers that can read it and those above, and no others."""

import os

import pytest

from vault_cube.image.cache import keys
from vault_cube.image.locks.aptlock import AptLock

ALL = keys.ORDER


def layer_keys(space):
    return keys.layer_keys(space, AptLock.read(space.locks / "apt.lock"))


def changed(space, before):
    """List the layers whose keys differ from `before`."""
    now = layer_keys(space)
    return [name for name in ALL if now[name].key != before[name].key]


def above(layer):
    return list(ALL[ALL.index(layer) :])


@pytest.fixture
def space(workspace):
    return workspace()


@pytest.fixture
def before(space):
    return layer_keys(space)


def append(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text((file.read_text() if file.exists() else "") + text)


def test_unchanged_inputs_give_the_same_keys(space, before):
    assert layer_keys(space) == before
    assert len({key.key for key in before.values()}) == len(ALL)


FILES = {
    # file -> the lowest layer that a change rebuilds; None: no layer
    "salt/base/users.sls": "base",
    "salt/driver/init.sls": "driver",
    "salt/runtime/init.sls": "runtime",
    "salt/frameworks/init.sls": "frameworks",
    "salt/validation/init.sls": "validation",
    "salt/validation/new.sls": "validation",
    "salt/base/new.txt": "base",
    "conf/common.conf": "base",
    "_states/unit.py": "base",
    "_states/uv.py": "frameworks",
    "vault_cube/python_env/environments.py": "frameworks",
    "vault_cube/box/validation.py": "validation",
    "vault_cube/bench/report/pages.py": "validation",
    "vault_cube/bench/report/report.css": "validation",
    "workloads/ddp.py": "validation",
    "_modules/image.py": "validation",
    "vault_cube/image/layers/overlay.py": "root",
    "vault_cube/image/layers/chroot.py": "root",
    "vault_cube/image/layers/seal.py": "root",
    "vault_cube/image/layers/tools.py": "root",
    "locks/debian-12/python-salt.lock": "root",
    "locks/debian-12/python-pytorch.lock": "frameworks",
    "benchmarks/results/new.json": None,
    "benchmarks/versus/ddp_plain.py": None,
    "tests/unit/test_new.py": None,
    "docs/new.md": None,
    "salt/base/README.md": "validation",
    "salt/base/saltcheck-tests/init.tst": "validation",
    "README.md": None,
    "Makefile": None,
    "packer/new.pkr.hcl": None,
    "pillar/targets/debian-13.sls": None,
    "locks/debian-13/apt.lock": None,
    "salt/base/__pycache__/x.pyc": None,
    "salt/base/users.sls~": None,
}


@pytest.mark.parametrize("file", FILES)
def test_a_change_of_a_file_rebuilds_the_layers_that_can_read_it(space, before, file):
    append(space.checkout / file, "\n# touched\n")
    assert changed(space, before) == (above(FILES[file]) if FILES[file] else [])


DROPPINGS = (
    "salt/base/.DS_Store", "salt/base/._users.sls", "salt/base/.users.sls.swo", "salt/base/#users.sls#",
    "salt/base/users.sls.orig", "salt/base/.nfs000000000123", "vault_cube/image/layers/.mypy_cache/3.11/x.json",
    "pillar/Thumbs.db", "conf/desktop.ini",
)  # fmt: skip


def test_what_editors_and_file_managers_leave_rebuilds_nothing(space, before):
    for name in DROPPINGS:
        append(space.checkout / name, "x")
    # Emacs marks a file that is being edited with a link to nowhere
    (space.checkout / "salt/base/.#users.sls").symlink_to("somebody@host.123")
    assert changed(space, before) == []


def test_removing_a_file_rebuilds_its_layer(space, before):
    (space.checkout / "salt/runtime/repositories.sls").unlink()
    assert changed(space, before) == above("runtime")


def test_a_file_s_mode_and_time_are_not_part_of_the_key(space, before):
    file = space.checkout / "salt/base/users.sls"
    os.utime(file, (1, 1))
    assert changed(space, before) == []
    file.chmod(0o755)
    assert changed(space, before) == []


def test_a_change_of_the_same_size_is_detected(space, before):
    file = space.checkout / "salt/validation/init.sls"
    status = file.stat()
    file.write_text(file.read_text().swapcase())
    assert file.stat().st_size == status.st_size
    assert changed(space, before) == above("validation")


@pytest.mark.parametrize(
    ("local", "lowest"),
    [
        ({"base": {"timezone": "Europe/Berlin"}}, "base"),
        ({"driver": {"gates": {"idle_celsius": 61}}}, "driver"),
        ({"frameworks": {"gates": {"import_s": 121}}}, "frameworks"),
        ({"benchmark": {"cpu_workers": 3}}, "validation"),
        ({"image": {"version": "9.9.9"}}, "validation"),
        ({"target": {"accelerator": "nvidia"}}, "base"),
    ],
)
def test_a_pillar_key_rebuilds_the_layers_that_can_read_it(workspace, before, local, lowest):
    assert changed(workspace(local=local), before) == above(lowest)


@pytest.mark.parametrize("layer", ["root", "base", "validation"])
def test_a_package_rebuilds_its_layer(space, before, layer):
    file = space.locks / "apt.lock"
    lock = AptLock.read(file)
    old = next(deb for deb in lock.debs if deb.layer == layer)
    new = type(old)(*(f"{value}0" if name == "version" else value for name, value in vars(old).items()))
    file.write_text(AptLock(lock.epoch, tuple(new if deb == old else deb for deb in lock.debs)).text())
    assert changed(space, before) == above(layer)


def test_the_lock_s_timestamp_and_the_tools_rebuild_all_layers(space, before):
    file = space.locks / "apt.lock"
    lock = AptLock.read(file)
    file.write_text(AptLock(lock.epoch + 1, lock.debs).text())
    assert changed(space, before) == list(ALL)
    file.write_text(lock.text())
    assert changed(space, before) == []
    tools = AptLock.read(space.tools_lock)
    space.tools_lock.write_text(AptLock(tools.epoch, tools.debs[1:]).text())
    assert changed(space, before) == list(ALL)


def test_two_targets_share_only_the_tools_tree(workspace, before):
    other = workspace("debian-13")
    assert keys.tools_key(other) == keys.tools_key(workspace())
    assert changed(other, before) == list(ALL)


def test_keys_do_not_depend_on_the_path_of_the_checkout(space, before, tmp_path):
    moved = tmp_path / "elsewhere"
    space.checkout.rename(moved)
    assert changed(type(space)(moved, space.settings, space.pillar), before) == []


def test_the_build_s_own_locks_replace_those_of_the_checkout(space, before):
    """In build/<target>/locks, equal locks give equal keys and different locks different keys; old ones are ignored."""
    from vault_cube.image.workspace import locks_digest

    own = space.build / "locks"
    (own / space.target).mkdir(parents=True)
    for file in (space.locks / "apt.lock", *space.locks.glob("python-*.lock")):
        (own / space.target / file.name).write_bytes(file.read_bytes())
    (own / "tools.lock").write_bytes(space.tools_lock.read_bytes())
    (own / "of").write_text(locks_digest(space.checkout / "locks", space.target))
    assert space.locks == own / space.target
    assert layer_keys(space) == before
    lock = AptLock.read(own / space.target / "apt.lock")
    (own / space.target / "apt.lock").write_text(AptLock(lock.epoch + 1, lock.debs).text())
    assert changed(space, before) == list(ALL)
    locked = type(space)(space.checkout, space.settings, space.pillar, locked=True)
    assert changed(locked, before) == []
    (space.checkout / "locks/debian-12/apt.lock").write_text(AptLock(lock.epoch + 2, lock.debs).text())
    assert space.locks == space.checkout / "locks" / space.target


def test_a_layer_can_read_only_inputs_of_its_key(space):
    """All files and pillar sections that a layer can read are inputs of its key."""
    for layer in keys.LAYERS:
        inputs = layer_keys(space)[layer].inputs
        assert set(keys.places(space, keys.staged_files(space, layer))) <= set(inputs)
        assert {f"pillar {name}" for name in keys.visible_pillar(space, layer)} <= set(inputs)


def test_why_lists_the_changed_inputs(space, before):
    assert keys.why(space, "base", layer_keys(space)["base"]) == ["base: never built in this checkout"]
    keys.remember(space, {name: key.inputs for name, key in before.items()})
    assert keys.why(space, "base", layer_keys(space)["base"]) == ["base: nothing changed"]
    append(space.checkout / "salt/base/users.sls", "\n")
    append(space.checkout / "salt/base/new.sls", "\n")
    (space.checkout / "salt/base/clock.sls").unlink()
    lines = keys.why(space, "base", layer_keys(space)["base"])
    assert [line.partition(":")[0] for line in lines] == [
        "salt/base/clock.sls", "salt/base/new.sls", "salt/base/users.sls",
    ]  # fmt: skip
    assert [line.partition(": ")[2] for line in lines[:2]] == ["removed", "new"]
    assert "parent" in {line.partition(":")[0] for line in keys.why(space, "driver", layer_keys(space)["driver"])}
