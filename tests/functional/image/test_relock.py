"""`make lock` and re-resolving with real apt and real uv on a local archive: what is locked, and what changed."""

import json
from dataclasses import replace

import mirror as servers
import pytest
from archive import Archive

from vault_cube.errors import VaultCubeError
from vault_cube.image import inputs, recipe
from vault_cube.image.attest import finished
from vault_cube.image.cache import keys
from vault_cube.image.download import relock
from vault_cube.image.inputs import Inputs
from vault_cube.image.locks import mirrors, pylock, resolve
from vault_cube.image.locks.aptlock import AptLock
from vault_cube.image.store import Unavailable
from vault_cube.image.workspace import LAYERS


@pytest.fixture
def archive(tmp_path, gpg, wheels):
    (tmp_path / "served").mkdir()
    with servers.running(tmp_path / "served") as mirror:
        yield Archive(mirror, gpg, wheels).filled()


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """Bypass this machine's proxies for the local server, and ignore its apt sources."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(mirrors, "of_machine", tuple)


@pytest.fixture
def make(archive, workspace):
    """make(edit) makes a workspace whose pillar uses the archive."""

    def make_workspace(edit=lambda pillar: None, locked=False):
        space = workspace(edit=lambda pillar: (archive.choose(pillar), edit(pillar)), locked=locked)
        # the schema requires all packages of a box, but the archive has only this one
        chosen = {layer: ["app"] if layer == "base" else [] for layer in LAYERS}
        sections = {
            layer: getattr(space.settings, layer).model_copy(update={"packages": packages})
            for layer, packages in chosen.items()
        }
        return replace(space, settings=space.settings.model_copy(update=sections))

    return make_workspace


@pytest.fixture
def space(make):
    """A locked target whose files have not been fetched."""
    space = make()
    for file in space.locks.glob("*.lock"):
        file.unlink()
    resolve.make(space)
    return space


@pytest.fixture
def locked_space(space, make):
    """The same target with LOCKED=1."""
    return make(locked=True)


def versions(space):
    return {deb.name: deb.version for deb in AptLock.read(space.locks / "apt.lock").debs}


def wheels_of(space):
    return {wheel.name: wheel.version for wheel in pylock.read(space.locks / "python-salt.lock")}


# ---- make lock


def test_a_lock_has_the_layer_and_suite_of_each_package(space):
    debs = {deb.name: deb for deb in AptLock.read(space.locks / "apt.lock").debs}
    assert {name: deb.layer for name, deb in debs.items()} == {
        "essential": "root", "rootpkg": "root", "app": "base", "lib": "base",
    }  # fmt: skip
    assert (debs["app"].suite, debs["app"].archive, debs["app"].path) == (
        "stable", "vault-cube-test", "pool/stable/app_1.0_amd64.deb",
    )  # fmt: skip
    assert {deb.name for deb in AptLock.read(space.tools_lock).debs} == {"essential", "toolpkg"}
    assert wheels_of(space) == {"alpha": "1.0", "beta": "1.0"}


def test_without_changes_no_lock_is_written(space):
    before = {file: file.read_bytes() for file in space.locks.glob("*.lock")}
    assert resolve.make(space).moved == []
    assert {file: file.read_bytes() for file in space.locks.glob("*.lock")} == before


def test_changes_are_reported_one_line_per_package(space, archive):
    archive.deb("app", "1.1", suite="stable-security", depends="lib, extra")
    archive.deb("extra", "0.1")
    archive.deb("toolpkg", "2:3.0~rc1-1+b2")
    archive.wheel("beta", "2.0")
    archive.publish()
    assert resolve.make(space).moved == [
        "locks/tools.lock: toolpkg:amd64 1.0 → 2:3.0~rc1-1+b2",
        "debian-12/apt.lock: app:amd64 1.0 → 1.1 (security)",
        "debian-12/apt.lock: extra:amd64 – → 0.1",  # noqa: RUF001
        "debian-12/python-salt.lock: beta 1.0 → 2.0",
    ]
    assert resolve.make(space).moved == []


def test_a_changed_layer_and_a_rebuilt_package_are_reported(space, make, archive):
    archive.drop("lib")
    archive.deb("lib", essential=False, depends="essential")
    archive.publish()
    moved = resolve.make(make(lambda pillar: pillar["image"]["root_packages"].append("app"))).moved
    assert moved == [
        "debian-12/apt.lock: app:amd64 1.0: moved from layer base to root",
        "debian-12/apt.lock: lib:amd64 1.0: different file of the same version",
    ]


def test_the_same_file_in_another_suite_is_no_change(space, archive):
    before = {file: file.read_bytes() for file in space.locks.glob("*.lock")}
    for name in ("app", "lib"):
        (archive.top / f"pool/stable/{name}_1.0_amd64.deb").rename(
            archive.top / f"pool/stable-security/{name}_1.0_amd64.deb"
        )
    archive.publish()
    assert resolve.make(space).moved == []
    assert {file: file.read_bytes() for file in space.locks.glob("*.lock")} == before


def test_incompatible_wheels_change_no_lock(space, make, archive):
    before = {file: file.read_bytes() for file in space.locks.glob("*.lock")}
    archive.wheel("cuda_python", "12.6.0")
    archive.wheel("cuda_bindings", "13.0.3")
    archive.publish()
    wanted = ["alpha", "cuda-python", "cuda-bindings"]
    with pytest.raises(VaultCubeError, match=r"^salt: cuda-python 12\.6\.0 and cuda-bindings 13\.0\.3 both contain"):
        resolve.make(make(lambda pillar: pillar["image"]["salt"].update(requirements=wanted)))
    assert {file: file.read_bytes() for file in space.locks.glob("*.lock")} == before


def test_a_damaged_lock_is_written_again(space):
    file = space.locks / "apt.lock"
    intact = file.read_text()
    file.write_text(intact.replace("app 1.0", "app 9.9"))
    assert resolve.make(space).moved == ["debian-12/apt.lock: app:amd64 9.9 → 1.0"]
    file.write_text("\0\n" + file.read_text())
    assert resolve.make(space).moved == ["debian-12/apt.lock: was damaged or in an older format; written again"]
    assert versions(space)["app"] == "1.0"


SPOILT = {
    "signature": "is not signed by a key of",
    "package": "lib",
    "mirror": "500  Internal",
    "suite": "has no suite stable-security",
    "component": "has no component restricted",
    "name": "no such package in vault-cube-test stable stable-security (main): app (base:packages)",
    "keyring": "keyring of archive vault-cube-test is missing on this machine",
    "wheel": "beta",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_no_lock_is_written_if_anything_cannot_be_resolved(space, archive, make, spoil):
    before = {file: file.read_bytes() for file in space.locks.glob("*.lock")}
    archive.deb("app", "1.1", depends="lib")
    if spoil in ("package", "name"):
        archive.drop("lib")
    if spoil == "name":
        archive.drop("app")
        archive.drop("app", "1.1")
    archive.publish()
    if spoil == "signature":
        file = archive.top / "dists/stable/InRelease"
        file.write_text(file.read_text().replace("Origin: Test", "Origin: Evil"))
    elif spoil == "mirror":
        archive.mirror.answers["debian/dists/stable/InRelease"] = [servers.status(500)]
    elif spoil == "suite":
        archive.mirror.answers["debian/dists/stable-security/InRelease"] = [servers.status(404)]
    elif spoil == "component":
        space = make(lambda pillar: pillar["archive"]["sources"][0]["components"].append("restricted"))
    elif spoil == "keyring":
        archive.key.unlink()
    elif spoil == "wheel":
        archive.mirror.answers["simple/beta/"] = [servers.status(404)]
    with pytest.raises(VaultCubeError) as caught:
        resolve.make(space)
    assert "\n" not in str(caught.value)
    assert SPOILT[spoil] in str(caught.value)
    assert {file: file.read_bytes() for file in space.locks.glob("*.lock")} == before


# ---- files that are no longer available


def test_if_all_files_are_available_nothing_is_resolved_again(space):
    recipe.make_fetch(space)
    assert inputs.moved(space) == []
    assert not (space.build / "locks").exists()


def test_only_a_missing_package_is_re_resolved(space, archive, capsys):
    before = Inputs.read(space).keys
    archive.drop("app")
    archive.deb("app", "1.1", suite="stable-security", depends="lib")
    archive.deb("lib", "7.0")
    archive.deb("rootpkg", "7.0")
    archive.wheel("beta", "7.0")
    archive.publish()
    recipe.make_fetch(space)
    assert inputs.moved(space) == ["debian-12/apt.lock: app:amd64 1.0 → 1.1 (security)"]
    output = capsys.readouterr().err
    assert "app_1.0_amd64.deb cannot be fetched" in output
    assert "moved: debian-12/apt.lock: app:amd64 1.0 → 1.1 (security)" in output
    assert versions(space) == {"essential": "1.0", "rootpkg": "1.0", "lib": "1.0", "app": "1.1"}
    assert wheels_of(space) == {"alpha": "1.0", "beta": "1.0"}
    assert Inputs.read(space).keys["base"] != before["base"]
    assert keys.tools_key(space).key == before["root"].inputs["parent"]
    # the checkout's lock is unchanged
    assert "app 1.0" in (space.checkout / "locks/debian-12/apt.lock").read_text()


def test_a_new_package_may_change_its_dependencies(space, archive):
    archive.drop("app")
    archive.deb("app", "1.1", depends="lib (>= 2), fresh")
    archive.deb("lib", "2.0")
    archive.deb("fresh", "1.0")
    archive.publish()
    recipe.make_fetch(space)
    assert inputs.moved(space) == [
        "debian-12/apt.lock: app:amd64 1.0 → 1.1",
        "debian-12/apt.lock: fresh:amd64 – → 1.0",  # noqa: RUF001
        "debian-12/apt.lock: lib:amd64 1.0 → 2.0",
    ]


def test_a_tools_package_and_a_wheel_are_re_resolved(space, archive):
    archive.drop("toolpkg")
    archive.deb("toolpkg", "1.5")
    archive.drop_wheel("alpha")
    archive.wheel("alpha", "1.5")
    archive.wheel("beta", "9.0")
    archive.publish()
    recipe.make_fetch(space)
    assert inputs.moved(space) == [
        "locks/tools.lock: toolpkg:amd64 1.0 → 1.5",
        "debian-12/python-salt.lock: alpha 1.0 → 1.5",
    ]
    assert wheels_of(space) == {"alpha": "1.5", "beta": "1.0"}


def test_a_wheel_that_is_listed_but_missing_is_re_resolved(space, archive):
    archive.mirror.answers["wheels/beta-1.0-py3-none-any.whl"] = [servers.status(404)]
    archive.wheel("beta", "1.1")
    archive.publish()
    recipe.make_fetch(space)
    assert inputs.moved(space) == ["debian-12/python-salt.lock: beta 1.0 → 1.1"]


def test_an_incompatible_replacement_of_a_wheel_is_an_error(make, archive):
    archive.wheel("cuda_python", "13.0.3")
    archive.wheel("cuda_bindings", "13.0.3")
    archive.publish()
    space = make(lambda pillar: pillar["image"]["salt"].update(requirements=["cuda-python", "cuda-bindings"]))
    for file in space.locks.glob("*.lock"):
        file.unlink()
    resolve.make(space)
    archive.drop_wheel("cuda_python", "13.0.3")
    archive.wheel("cuda_python", "12.6.0")
    archive.publish()
    with pytest.raises(VaultCubeError, match=r"salt: cuda-python 12\.6\.0 and cuda-bindings 13\.0\.3 both contain"):
        recipe.make_fetch(space)
    assert not (space.build / "locks").exists()


def test_a_missing_wheel_without_a_newer_version_is_an_error(space, archive):
    archive.mirror.answers["wheels/beta-1.0-py3-none-any.whl"] = [servers.status(404)]
    with pytest.raises(VaultCubeError, match=r"beta-1\.0-py3-none-any\.whl"):
        recipe.make_fetch(space)
    assert not (space.build / "locks").exists()


@pytest.mark.parametrize("what", ["deb", "wheel"])
def test_with_locked_a_missing_file_is_an_error(locked_space, archive, what):
    if what == "deb":
        archive.drop("app")
        archive.deb("app", "1.1", depends="lib")
    else:
        archive.drop_wheel("beta")
        archive.wheel("beta", "1.1")
    archive.publish()
    with pytest.raises(Unavailable) as caught:
        recipe.make_fetch(locked_space)
    assert {"deb": "app_1.0_amd64.deb cannot", "wheel": "beta-1.0-py3-none-any.whl cannot"}[what] in str(caught.value)
    assert not (locked_space.build / "locks").exists()


def test_a_missing_package_without_a_replacement_is_an_error(space, archive):
    archive.drop("app")
    archive.publish()
    with pytest.raises(VaultCubeError, match="app") as caught:
        recipe.make_fetch(space)
    assert "\n" not in str(caught.value)
    assert not (space.build / "locks").exists()


def test_a_pinned_wheel_is_not_replaced(space, make, archive):
    pinned = make(lambda pillar: pillar["image"]["salt"].update(requirements=["alpha", "beta==1.0"]))
    archive.drop_wheel("beta")
    archive.wheel("beta", "1.1")
    archive.publish()
    with pytest.raises(VaultCubeError, match=r"beta==1\.0") as caught:
        recipe.make_fetch(pinned)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("answer", [servers.wrong, servers.short(100), servers.status(500)])
def test_a_corrupt_file_is_an_error_and_never_re_resolved(space, make, archive, locked, answer):
    archive.deb("app", "1.1", depends="lib")
    archive.publish()
    archive.mirror.answers["debian/pool/stable/app_1.0_amd64.deb"] = [answer]
    with pytest.raises(Unavailable, match=r"app_1\.0_amd64\.deb cannot be fetched"):
        recipe.make_fetch(make(locked=locked))
    assert not (space.build / "locks").exists()


def test_the_snapshot_is_tried_last_and_still_has_the_locked_file(space, archive):
    date = AptLock.read(space.locks / "apt.lock").date
    old = archive.mirror.folder / "snapshot" / date / "pool/stable"
    old.mkdir(parents=True)
    (archive.top / "pool/stable/app_1.0_amd64.deb").rename(old / "app_1.0_amd64.deb")
    archive.deb("app", "1.1", depends="lib")
    archive.publish()
    recipe.make_fetch(space)
    assert inputs.moved(space) == []
    asked = [path for path, _ in archive.mirror.asked if "app_1.0" in path]
    assert asked == ["debian/pool/stable/app_1.0_amd64.deb", f"snapshot/{date}/pool/stable/app_1.0_amd64.deb"]


def test_the_pillar_s_mirror_is_tried_first(space, make, archive):
    near = archive.mirror.folder / "near/pool/stable"
    near.mkdir(parents=True)
    (near / "app_1.0_amd64.deb").write_bytes((archive.top / "pool/stable/app_1.0_amd64.deb").read_bytes())
    mirrors = {"vault-cube-test": f"{archive.mirror.url}/near"}
    recipe.make_fetch(make(lambda pillar: pillar["image"].update(mirrors=mirrors)))
    asked = [path for path, _ in archive.mirror.asked]
    assert "near/pool/stable/app_1.0_amd64.deb" in asked
    assert "debian/pool/stable/app_1.0_amd64.deb" not in asked
    # files that the mirror lacks come from the archive itself
    assert asked.index("near/pool/stable/lib_1.0_amd64.deb") < asked.index("debian/pool/stable/lib_1.0_amd64.deb")


# ---- builds after a package was re-resolved


@pytest.fixture
def moved(space, archive):
    """A fetched target with one re-resolved package."""
    archive.drop("app")
    archive.deb("app", "1.1", depends="lib")
    archive.publish()
    recipe.make_fetch(space)
    archive.mirror.asked.clear()
    return space


def test_the_next_run_requests_nothing(moved, archive):
    recipe.make_fetch(moved)
    assert archive.mirror.asked == []
    assert inputs.moved(moved) == ["debian-12/apt.lock: app:amd64 1.0 → 1.1"]


def test_a_second_change_is_reported_against_the_checkout_s_lock(moved, archive, make):
    archive.drop("app", "1.1")
    archive.deb("app", "1.2", depends="lib")
    archive.publish()
    store = moved.store
    for deb in AptLock.read(moved.locks / "apt.lock").debs:
        if deb.name == "app":
            (store / deb.sha256[:2] / deb.sha256).unlink()
    recipe.make_fetch(moved)
    assert inputs.moved(moved) == ["debian-12/apt.lock: app:amd64 1.0 → 1.2"]


def test_locked_ignores_and_removes_the_build_s_own_locks(moved, make):
    with pytest.raises(Unavailable):
        recipe.make_fetch(make(locked=True))
    assert inputs.moved(moved) == []


def test_make_lock_ends_the_use_of_the_build_s_own_locks(moved):
    locked_space = type(moved)(moved.checkout, moved.settings, moved.pillar, True, moved.cache, moved.store)
    assert resolve.make(locked_space).moved == ["debian-12/apt.lock: app:amd64 1.0 → 1.1"]
    assert inputs.moved(moved) == []
    assert moved.locks == moved.checkout / "locks/debian-12"


def test_the_verdict_of_such_an_image_lists_the_changes(moved):
    assert recipe.verdict({"matches_lock": True, "moved": []}) is None
    line = recipe.verdict({"matches_lock": False, "moved": inputs.moved(moved)})
    assert "matches_lock: false" in line
    assert line.endswith("debian-12/apt.lock: app:amd64 1.0 → 1.1")


def test_such_an_image_is_out_of_date_once_the_checkout_s_locks_apply(moved):
    """Its manifest lists changes against the checkout's locks, which the build now uses unchanged."""
    manifest = {
        "name": finished.basename(moved), "key": finished.image_key(moved, Inputs.read(moved)),
        "moved": inputs.moved(moved), "files": {},
    }  # fmt: skip
    moved.dist.mkdir()
    (moved.dist / f"{manifest['name']}.manifest.json").write_text(json.dumps(manifest))
    assert finished.current(moved) == manifest
    relock.forget(moved)
    assert finished.current(moved) is None
