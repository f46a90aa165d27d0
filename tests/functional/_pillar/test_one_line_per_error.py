"""salt-call prints each error of a pillar as one line with file, line and key, and no line of Salt's own."""

import subprocess
import sys

import pytest
import salt.config
import salt.loader
from copied import TOP, minion
from copied import salt_call as run
from salt.pillar import get_pillar

ASKS = "{% if not salt['pillar_check.problems']() %}\n"
DUPLICATE = "base:\n  hostname: a\n  hostname: b\n"
UNKNOWN = "base:\n  colour: red\n"
TYPE = "base:\n  ssh:\n    port: high\n"
TWICE = "pillar/local.sls: line 3: key hostname is set twice in the same mapping: remove one (key base:hostname)"
NO_KEY = "pillar/local.sls: line 2: base:colour: no such key; docs/pillar.md lists all keys"
NO_PORT = "pillar/local.sls: line 3: base:ssh:port: input should be a valid integer, found 'high'"
INCLUDE = (
    "pillar/local.sls: line 1: include:0: must be the name of a pillar file, such as targets.debian-13, or "
    "{NAME: {key: KEY}}"
)
RENDERER = (
    "pillar/local.sls: line 1: Salt has no renderer 'nope': remove this line, or name one that it has, such as #!py"
)


@pytest.fixture
def box(tmp_path):
    """box(local, *words) runs salt-call of a minion with that local.sls."""
    folder = minion(tmp_path / "minion")

    def call(local, *words):
        (folder / "pillar/local.sls").write_text(local)
        return run(folder, *words)

    call.folder = folder
    return call


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """compiled(local) returns the pillar that Salt compiles with that local.sls. `folder` is the pillar's."""
    folder = minion(tmp_path_factory.mktemp("minion"))
    opts = salt.config.minion_config(str(folder / "minion"))
    grains = salt.loader.grains(opts)

    def make(local):
        if local is not None:
            (folder / "pillar/local.sls").write_text(local)
        return get_pillar({**opts, "pillar": {}}, grains, "test", None).compile_pillar()

    make.folder = folder / "pillar"
    return make


@pytest.mark.parametrize(("local", "line", "words"), [
    (DUPLICATE, TWICE, ("state.apply",)), (DUPLICATE, TWICE, ("state.apply", "base", "test=True")),
    (DUPLICATE, TWICE, ("state.show_sls", "base")), (DUPLICATE, TWICE, ("pillar.items",)),
    (DUPLICATE, TWICE, ("--out=json", "state.apply", "base")), (UNKNOWN, NO_KEY, ("state.apply", "base")),
    (UNKNOWN, NO_KEY, ("state.single", "test.nop", "name=a")), (UNKNOWN, NO_KEY, ("pillar.get", "base:hostname")),
    (TYPE, NO_PORT, ("state.show_highstate",)),
    # Salt would end with a traceback, and ignore the file
    ("include: [7]\n", INCLUDE, ("state.apply",)), ("#!nope\nbase: {}\n", RENDERER, ("state.apply",)),
])  # fmt: skip
def test_states_and_pillar_end_with_one_line(box, words, local, line):
    ran = box(local, *words)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", f"{line}\n")


@pytest.mark.parametrize(("local", "line"), [
    ("base: [\n", "pillar/local.sls: line 2: did not find expected node content (key base)"),
    ("base:\n\tssh: {}\n", "pillar/local.sls: line 2: a tab in the indentation: use blanks (key base:ssh)"),
    ("base: {{ nothing.here }}\n", "pillar/local.sls: line 1: Jinja variable 'nothing' is undefined (key base)"),
    # Salt ends with a traceback for these
    ("include: [7]\n", INCLUDE), ("include: [{local: x}]\n", INCLUDE), ("include: [null]\n", INCLUDE),
    ("7: a\n", "pillar/local.sls: line 1: 7: a key must be a string: quote it"),
    ("base: {on: a}\n", "pillar/local.sls: line 1: base:True: a key must be a string: quote it"),
    ("base: &a {b: *a}\n", "pillar/local.sls: line 1: base:b: contains itself: remove the alias (*)"),
    ("base: " + "[" * 5000 + "]" * 5000, "pillar/local.sls: mappings or lists in more levels than can be read"),
    ("_errors: [x]\n", "pillar/local.sls: line 1: _errors: no such key; Salt keeps its own errors under this name"),
    # and ignores the whole file for this
    ("#!nope\nbase: {}\n", RENDERER),
    ("#!py\ndef run():\n  return 1 / 0\n", "pillar/local.sls: line 3: ZeroDivisionError: division by zero"),
    ("#!py\ndef run():\n  raise SystemExit(3)\n", "pillar/local.sls: line 3: SystemExit: 3"),
    ("#!json\n[]\n", "pillar/local.sls: line 1: the file must be a mapping of sections such as base:, not a list"),
])  # fmt: skip
def test_every_kind_of_error_is_one_line(compiled, local, line):
    assert compiled(local)["_errors"] == [line]


def test_several_errors_have_a_line_each(compiled):
    assert compiled("base: {colour: red}\ngpu: {size: 1}\n")["_errors"] == [
        "pillar/local.sls: line 1: base:colour: no such key; docs/pillar.md lists all keys",
        "pillar/local.sls: line 2: gpu:size: no such key; docs/pillar.md lists all keys",
    ]


def test_values_of_the_command_line_are_checked_too(box):
    ran = box("", "state.apply", "base", "pillar={gpu: {size: 1}}")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.splitlines()[0].endswith("gpu:size: no such key; docs/pillar.md lists all keys")
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(("words", "where"), [
    (("layer.check", "base"), "Error running 'layer.check': "),
    (("gpu.health",), "Error running 'gpu.health': "),
])  # fmt: skip
def test_other_commands_name_only_our_line(box, words, where):
    ran = box(DUPLICATE, *words)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", f"{where}{TWICE}\n")


def test_what_does_not_need_the_pillar_runs(box):
    for words in (("grains.item", "gpu"), ("test.ping",), ("grains.get", "os")):
        ran = box(DUPLICATE, *words)
        assert (ran.returncode, ran.stderr) == (0, ""), words
        assert ran.stdout


@pytest.mark.parametrize(("name", "text", "line"), [
    ("top.sls", f"{ASKS}base:\n  '*':\n    - box\n    - target\n    - extra\n{{% endif %}}\n",
     "pillar/top.sls: line 6: base:*:2: no such file: pillar/extra.sls"),
    ("top.sls", "", "pillar/top.sls: names no file of the pillar: restore this file"),
    ("target.sls", "a: [\n", "pillar/target.sls: line 2: did not find expected node content (key a)"),
    ("target.sls", None, "pillar/target.sls: this file is missing: restore it"),
    ("box.sls", None, "pillar/box.sls: this file is missing: restore it"),
])  # fmt: skip
def test_a_broken_file_of_ours_is_one_line(compiled, name, text, line):
    path = compiled.folder / name
    ours = path.readlink()
    path.unlink()
    try:
        if text is not None:
            path.write_text(text)
        assert compiled("")["_errors"] == [line]
    finally:
        path.unlink(missing_ok=True)
        path.symlink_to(ours)


def test_a_broken_top_file_is_one_line(box):
    top = box.folder / "pillar/top.sls"
    top.unlink()
    top.write_text("base: [\n")
    ran = box("", "state.apply")
    line = "pillar/top.sls: line 2: did not find expected node content (key base)"
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", f"{line}\n")


def test_a_link_to_a_missing_file_is_an_error(compiled):
    local = compiled.folder / "local.sls"
    local.unlink(missing_ok=True)
    local.symlink_to("/nonexistent/local.sls")
    try:
        assert compiled(None)["_errors"] == ["pillar/local.sls: cannot be read: No such file or directory"]
    finally:
        local.unlink()


def test_an_empty_verdict_of_a_full_disk_accepts_no_pillar(tmp_path):
    opts = salt.config.minion_config(str(minion(tmp_path / "minion") / "minion"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/vault_cube_pillar_ok").touch()
    opts["cachedir"] = str(tmp_path / "cache")
    pillars = salt.loader.pillars(opts, salt.loader.minion_mods(opts))
    # keys that cannot be sorted have no digest
    errors = pillars["vault_cube"]("test", {"base": {}, 7: {}})["_errors"]
    assert errors


@pytest.mark.parametrize("local", [
    "#!py\ndef run():\n  return {'base': {'hostname': 'from-python'}}\n",
    "#!/bin/sh is a comment\nbase: {hostname: from-python}\n",
    "include: [.more]\nbase: {}\n",
    "include:\n  - more:\n      key: base\n",
])  # fmt: skip
def test_what_salt_can_read_is_read(compiled, local):
    more = "hostname: from-python\n" if "key: base" in local else "base: {hostname: from-python}\n"
    (compiled.folder / "more.sls").write_text(more)
    pillar = compiled(local)
    assert "_errors" not in pillar
    assert pillar["base"]["hostname"] == "from-python"


def test_the_pillar_of_an_image_has_the_same_line(checkout, tmp_path):
    (checkout / "pillar/local.sls").write_text(DUPLICATE)
    command = [sys.executable, "-P", "-m", "vault_cube.salt_call", "image.why", "base", "target=debian-13"]
    ran = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", f"Error running 'image.why': {TWICE}\n")
    command = [sys.executable, "-P", "-m", "vault_cube.salt_call", "state.apply", "base"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={
        "PYTHONPATH": str(checkout), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", f"{TWICE}\n")
    assert str(TOP) not in ran.stderr
