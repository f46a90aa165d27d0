"""The manifests of layers are merged as overlayfs merges the layers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vault_cube import tree_manifest
from vault_cube.image.layers import image_manifest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes and trusted attributes")


def layer(folder: Path, **files: str | None) -> Path:
    """Make a layer's folder: path → content; None is a whiteout."""
    for name, content in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mknod(file, 0o20000, os.makedev(0, 0))
        else:
            file.write_text(content)
    return folder


def merged(*layers: Path) -> dict[str, tuple[int, str]]:
    """Merge layers; return the number of the layer and the content of each file."""
    entries = image_manifest.merge(layers, [tree_manifest.parse(tree_manifest.entries(tree)) for tree in layers])
    return {path: (entry.layer, entry.line.content) for path, entry in entries.items() if entry.line.is_file}


def test_a_higher_layer_replaces_and_adds_files(tmp_path: Path) -> None:
    below = layer(tmp_path / "a", etc__x="old", etc__y="y")
    above = layer(tmp_path / "b", etc__x="new", etc__z="z")
    assert {path: number for path, (number, _) in merged(below, above).items()} == {
        "etc/x": 1,
        "etc/y": 0,
        "etc/z": 1,
    }


def test_a_whiteout_removes_a_file_and_everything_below_a_folder(tmp_path: Path) -> None:
    below = layer(tmp_path / "a", etc__d__x="x", etc__d__e__y="y", etc__dx="stays", etc__f="f")
    above = layer(tmp_path / "b", etc__d=None, etc__f=None)
    assert set(merged(below, above)) == {"etc/dx"}


def test_a_removed_file_can_come_back(tmp_path: Path) -> None:
    layers = [layer(tmp_path / "a", x="1"), layer(tmp_path / "b", x=None), layer(tmp_path / "c", x="2")]
    assert merged(*layers)["x"][0] == 2


def test_an_opaque_folder_hides_what_is_below(tmp_path: Path) -> None:
    below = layer(tmp_path / "a", etc__d__x="x", etc__e="e")
    above = layer(tmp_path / "b", etc__d__y="y")
    os.setxattr(above / "etc/d", "trusted.overlay.opaque", b"y")
    assert set(merged(below, above)) == {"etc/d/y", "etc/e"}


def test_a_file_in_the_place_of_a_folder_hides_the_folder(tmp_path: Path) -> None:
    below = layer(tmp_path / "a", etc__d__x="x")
    above = layer(tmp_path / "b", etc__d="file")
    assert set(merged(below, above)) == {"etc/d"}


def test_hard_links_have_the_content_of_their_own_layer(tmp_path: Path) -> None:
    below = layer(tmp_path / "a", x="shared")
    os.link(below / "x", below / "y")
    above = layer(tmp_path / "b", x="other")
    entries = merged(below, above)
    assert entries["y"] == (0, merged(below)["x"][1])
    assert entries["x"][1] != entries["y"][1]


def test_files_of_packages_have_their_owner_also_through_a_link_in_the_root(tmp_path: Path) -> None:
    tree = layer(tmp_path / "a", usr__lib__x="x", var__lib__dpkg__info__foo="")
    (tree / "lib").symlink_to("usr/lib")
    (tree / "var/lib/dpkg/info/foo:amd64.list").write_text("/.\n/lib\n/lib/x\n/gone\n")
    entries = image_manifest.merge([tree], [tree_manifest.parse(tree_manifest.entries(tree))])
    owners = image_manifest.owners_of_files(entries, lambda path: (tree / path).read_text())
    assert owners == {"lib": "foo", "usr/lib/x": "foo"}


def test_states_are_named_by_the_path_that_they_write() -> None:
    results = {
        "file_|-ssh accepts keys only_|-/etc/ssh/x_|-managed": {
            "__sls__": "base.ssh",
            "__id__": "keys only",
        },
        "cmd_|-reload_|-/bin/true_|-run": {"__sls__": "base.ssh", "__id__": "reload"},
        "pkg_|-tools_|-tools_|-installed": {"__sls__": "base.packages", "__id__": "tools"},
    }
    assert image_manifest.states(results) == {"/etc/ssh/x": "base.ssh: keys only"}
