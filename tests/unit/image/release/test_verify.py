"""The parts of `verify`: the comparison and the changed clock. `make verify` itself builds twice."""

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image import recipe, store
from vault_cube.image.attest import finished
from vault_cube.image.cache import keys, layer_cache
from vault_cube.image.release import verify


def built(folder, content, layers=None):
    folder.mkdir()
    (folder / "image.qcow2").write_bytes(content)
    (folder / "image.cdx.json").write_text("{}")
    sums = {name: {"sha256": store.sha256_of(folder / name)} for name in ("image.qcow2", "image.cdx.json")}
    raw = sums["image.qcow2"]["sha256"]
    keys_of = dict.fromkeys(keys.ORDER, "0" * 64)
    return verify.Built({"raw_sha256": raw, "files": sums, "layers": keys_of}, folder, layers or folder / "layers")


def test_two_equal_builds_give_no_lines(tmp_path):
    assert verify.compare(built(tmp_path / "a", b"same"), built(tmp_path / "b", b"same")) == []


def test_two_different_builds_are_reported_with_checksums_and_first_byte(tmp_path):
    one, two = built(tmp_path / "a", b"same"), built(tmp_path / "b", b"sane")
    sums = [side.manifest["raw_sha256"] for side in (one, two)]
    assert verify.compare(one, two) == [
        f"raw: sha256 {sums[0]} and {sums[1]}",
        f"image.qcow2: sha256 {sums[0]} and {sums[1]}, from byte 2",
    ]


def test_a_file_changed_after_its_manifest_was_written_is_reported(tmp_path):
    one, two = built(tmp_path / "a", b"same"), built(tmp_path / "b", b"same")
    (two.folder / "image.cdx.json").write_text("[]")
    assert len(verify.compare(one, two)) == 1


def provenance(side, commit, lock):
    dependencies = [{"name": "checkout", "digest": {"gitCommit": commit}}, {"name": "locks/tools.lock", "digest": lock}]
    file = side.folder / "image.provenance.json"
    file.write_text(json.dumps({"predicate": {"buildDefinition": {"resolvedDependencies": dependencies}}}))
    side.manifest["files"][file.name] = {"sha256": store.sha256_of(file)}


@pytest.mark.parametrize(("lock", "unequal"), [("same", 0), ("other", 1)])
def test_a_later_commit_is_no_difference_but_another_lock_is(tmp_path, lock, unequal):
    one, two = built(tmp_path / "a", b"same"), built(tmp_path / "b", b"same")
    provenance(one, "1" * 40, "same")
    provenance(two, "2" * 40, lock)
    assert len(verify.compare(one, two)) == unequal


def test_the_layer_and_the_file_that_differ_are_named(tmp_path, monkeypatch):
    sides = []
    for name, text in (("a", "1 10:00\n"), ("b", "1 10:01\n")):
        folder = tmp_path / name
        layers = tmp_path / f"layers-{name}"
        for layer in keys.ORDER:
            upper = tmp_path / "work" / name / layer / "upper"
            (upper / "etc").mkdir(parents=True)
            (upper / "etc/stamp").write_text(text if layer == "runtime" else "same")
            for path in (upper / "etc/stamp", upper / "etc", upper):
                os.utime(path, (0, 0))
            layer_cache.keep(layers, str(keys.ORDER.index(layer)) * 64, upper, layer, {})
        side = built(folder, b"image", layers)
        side.manifest["layers"].update({layer: str(number) * 64 for number, layer in enumerate(keys.ORDER)})
        sides.append(side)
    assert verify.differences(None, *sides) == [
        "layer runtime:",
        "  ~ etc/stamp: content from byte 6: 30 0a, 31 0a",
        "      -1 10:00",
        "      +1 10:01",
    ]
    sides[1].manifest["layers"]["validation"] = "f" * 64
    assert verify.differences(None, *sides)[-1] == "layer validation: the keys differ, so its inputs were not the same"


@pytest.fixture
def proof(tmp_path, monkeypatch):
    """proof(content) runs `verify` with a first image that contains `same` and a second one that contains `content`."""

    class Space:
        target, build, layers, dist = "debian-12", tmp_path / "build", tmp_path / "layers", tmp_path / "dist"

        def exclusive(self):
            return verify.step("alone")

        def scratch(self, name):
            (tmp_path / name).mkdir(exist_ok=True)
            return nullcontext(tmp_path / name)

    space = Space()
    space.checkout = tmp_path / "checkout"
    (space.checkout / "pillar").mkdir(parents=True)
    (space.checkout / "pillar/box.sls").touch()
    first = built(tmp_path / "first", b"same")
    first.manifest["name"] = "image"
    monkeypatch.setattr(verify, "_first", lambda _: first)
    monkeypatch.setattr(verify, "differences", lambda *_: ["layer base:", "  ~ etc/stamp"])

    def run(content):
        def second(_, other, work, report):
            folder = other / "build/debian-12/image"
            folder.parent.mkdir(parents=True)
            (folder / "image.manifest.json").write_text(json.dumps(built(folder, content).manifest))
            return {"umask": "077"}

        monkeypatch.setattr(verify, "_second", second)
        return verify.verify(space)

    run.report = tmp_path / "build/verify"
    return run


def test_equal_builds_return_the_files_and_the_varied_conditions(proof):
    result = proof(b"same")
    assert result["same"] is True
    assert result["varied"] == {"umask": "077"}
    assert set(result["files"]) == {"image.qcow2", "image.cdx.json"}
    assert json.loads((proof.report / "verify.json").read_text()) == result


def test_different_builds_fail_with_the_file_and_write_the_whole_list(proof):
    with pytest.raises(VaultCubeError, match=r"debian-12: two builds differ\nraw: .*(?s:.)*~ etc/stamp"):
        proof(b"sane")
    assert not (proof.report / "verify.json").exists()
    assert "  ~ etc/stamp" in (proof.report / "differences.txt").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
@pytest.mark.parametrize("broken", [
    pytest.param(False, marks=pytest.mark.skipif(not verify.FAKETIME.exists(), reason="libfaketime is not installed")),
    True,
])  # fmt: skip
def test_a_command_in_a_tree_runs_with_a_later_clock(tmp_path, broken):
    library = verify.LATER_CHROOT if broken else verify.FAKETIME  # no library
    variables = verify.faketime(tmp_path / "bin", tmp_path / "failed", library)
    wrapper = tmp_path / "bin/chroot"
    inside = f"mount -t tmpfs tmpfs /run && exec {wrapper} / env -i PATH=/usr/bin:/bin sh -c 'date +%s; env'"
    output = subprocess.check_output(
        ["unshare", "--mount", "sh", "-euc", inside], text=True, env={**os.environ, **variables}
    ).splitlines()
    later = int(output[0]) - time.time()
    if broken:
        assert abs(later) < 3600
        assert len((tmp_path / "failed").read_text().splitlines()) == 1
        assert not [line for line in output if "FAKETIME" in line]
    else:
        assert abs(later - verify.LATER_S) < 3600
        assert not (tmp_path / "failed").exists()


def test_the_first_image_is_the_finished_one_or_is_built(monkeypatch, tmp_path):
    class Space:
        dist, build, layers = tmp_path / "dist", tmp_path / "build", tmp_path / "layers"

    called = []
    monkeypatch.setattr(finished, "current", lambda _: {"name": "finished"})
    assert verify._first(Space).folder == tmp_path / "dist"
    monkeypatch.setattr(finished, "current", lambda _: None)
    monkeypatch.setattr(verify.Inputs, "read", lambda _: None)
    for name in ("make_fetch", "make_tools", "make_disk"):
        monkeypatch.setattr(recipe, name, lambda *_, name=name: called.append(name) or {"name": "made"})
    assert verify._first(Space).folder == tmp_path / "build/image"
    assert called == ["make_fetch", "make_tools", "make_disk"]


def test_the_second_build_imports_the_code_of_the_copy(tmp_path):
    """PYTHONPATH comes before the .pth file in the checkout's environment."""
    (tmp_path / "vault_cube").mkdir()
    (tmp_path / "vault_cube/__init__.py").write_text("")
    imported = subprocess.check_output(
        [sys.executable, "-c", "import vault_cube; print(vault_cube.__file__)"],
        env={"PYTHONPATH": str(tmp_path)}, text=True, cwd="/",
    )  # fmt: skip
    assert imported.strip() == str(tmp_path / "vault_cube/__init__.py")
