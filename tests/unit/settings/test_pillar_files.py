"""Errors in pillar files: one line with file, line and key, whichever part of Salt would have failed."""

import re

import pytest
from salt.exceptions import SaltRenderError
from salt.utils.templates import render_jinja_tmpl
from salt.utils.yaml import safe_load

from vault_cube.pillar_files import RenderError, read_all
from vault_cube.settings import PillarError, check


def jinja(path, text):
    context = {"opts": {}, "saltenv": "", "sls": path.stem, "salt": {}, "grains": {"id": "box"}, "pillar": {}}
    try:
        return render_jinja_tmpl(text, context, str(path))
    except SaltRenderError as err:
        raise RenderError(str(err.error), err.line_num) from None


@pytest.fixture
def problems(pillar_root):
    """problems(text) writes local.sls and returns the lines that Salt's user gets."""

    def read(content, target="debian-12"):
        local = pillar_root / "local.sls"
        local.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_all(pillar_root, target, jinja, safe_load)[1]

    return read


@pytest.mark.parametrize(("content", "line"), [
    ("base:\n  hostname: a\n  hostname: b\n", "line 3: key hostname is set twice in the same mapping: remove one (key "
                                              "base:hostname)"),
    ("base: {hostname: a, hostname: b}\n", "line 1: key hostname is set twice"),
    ("base: {}\ngpu: {}\nbase: {}\n", "line 3: key base is set twice"),
    ("base:\n  hostname: {{ nothing.here }}\n", "line 2: Jinja variable 'nothing' is undefined (key base:hostname)"),
    ("base:\n  hostname: {{ grains.id }}\n timezone: UTC\n", "line 3: did not find expected key: correct the indent"),
    ("base:\n  hostname: {{ grains.id }}\n   timezone: UTC\n", "line 3: mapping values are not allowed"),
    ("# as {{ ansible }} writes it\nbase: {}\n", "line 1: Jinja variable 'ansible' is undefined (Jinja also reads"),
    ("base: {}\n# {% the old value %}\n", "line 2: Jinja syntax error: Encountered unknown tag 'the'. (Jinja also"),
    ("base:\n  hostname: {{ mine\n", "line 2: Jinja syntax error: unexpected end of template"),
    ("base:\n  hostname: {{ 1 / 0 }}\n", "line 2: Jinja error: division by zero (key base:hostname)"),
    ("base:\n\thostname: a\n", "line 2: a tab in the indentation: use blanks"),
    ("base:\n  ssh: {}\n\thostname: a\n", "line 3: a tab in the indentation: use blanks"),
    ("base:\n  hostname: {{ grains.id }}\n\ttimezone: UTC\n", "line 3: a tab in the indentation: use blanks"),
    ("base:\n  hostname: @box\n", "line 2: a value must not begin with this character: quote it (key base:hostname)"),
    ("- base\n", "line 1: the file must be a mapping of sections such as base:, not a list"),
    ("hostname\n", "line 1: the file must be a mapping of sections such as base:, not a single value"),
    ("base:\n  hostname: Müller\n".encode("latin-1"), "line 2: byte 0xfc is not UTF-8: save the file as UTF-8"),
    ("base: {}\n".encode("utf-16"), "line 1: byte 0xff is not UTF-8"),
    ("base:\n  hostname: a\0b\n", "line 2: control characters are not allowed"),
    ("base: [1\n", "line 2: did not find expected ',' or ']'"),
    ("base:\n  hostname: *box\n", "line 2: found undefined alias (key base:hostname)"),
    ("base:\n  hostname: !secret x\n", "line 2: could not determine a constructor for the tag '!secret'"),
    ("include: [targets.nope]\n", "line 1: include: no such file: pillar/targets/nope.sls"),
    ("base: {}\ninclude: targets.debian-13\n", "line 2: include: must be a list of pillar files"),
])  # fmt: skip
def test_an_error_in_a_file_is_one_line_with_file_line_and_key(problems, content, line):
    lines = problems(content)
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"pillar/local.sls: {line}")
    assert "\n" not in lines[0]


def test_the_line_is_that_of_the_file_although_jinja_adds_lines(problems):
    loop = "{% for name in ['a', 'b', 'c'] %}\n# {{ name }}\n{% endfor %}\nbase:\n  hostname: x\n  hostname: y\n"
    assert problems(loop)[0].startswith("pillar/local.sls: line 6: key hostname is set twice")


def test_an_error_in_a_line_that_jinja_writes_shows_that_line(problems):
    loop = "{% for name in ['a', 'a'] %}\n{{ name }}: {}\n{% endfor %}\n"
    assert problems(loop) == [
        "pillar/local.sls: key a is set twice in the same mapping: remove one, in what Jinja makes of the file: «a: {}»"
    ]


@pytest.mark.parametrize("content", [
    "", "\r\n", "# only a comment\n", "\ufeffbase: {}\r\n", "base:\r\n  hostname: a\r\n",
    "base: {hostname: '{{ grains.id }}'}", "include: [local]\nbase: {}\n", "{# a comment of Jinja #}\nbase: {}\n",
    "#!yaml\nbase: {hostname: '{{ not jinja }}'}\n", "#!py\ndef run():\n  return {}\n",
])  # fmt: skip
def test_what_salt_reads_is_no_error(problems, content):
    assert problems(content) == []


def test_several_broken_files_have_a_line_each(problems, pillar_root):
    (pillar_root / "box.sls").unlink()
    lines = problems("base: {a: 1, a: 2}", target="nope")
    assert [line.partition(":")[0] for line in lines] == [
        "pillar/box.sls", "pillar/targets/nope.sls", "pillar/local.sls",
    ]  # fmt: skip
    assert "no such target; pillar/targets/ has debian-12, debian-13" in lines[1]


def test_a_value_from_a_file_with_jinja_is_reported_with_its_line(pillar_root):
    local = pillar_root / "local.sls"
    local.write_text("{% set port = 70000 %}\nbase:\n  ssh:\n    port: {{ port }}\n")
    files, problems = read_all(pillar_root, "debian-12", jinja, safe_load)
    assert not problems
    with pytest.raises(PillarError) as error:
        check({"base": {"ssh": {"port": 70000}}}, files)
    assert [line for line in str(error.value).splitlines() if "70000" in line] == [
        "pillar/local.sls: line 4: base:ssh:port: input should be less than or equal to 65535, found 70000"
    ]


def test_a_value_from_an_included_file_is_reported_with_that_file(pillar_root):
    (pillar_root / "targets/shared.sls").write_text("base: {colour: red}\n")
    (pillar_root / "local.sls").write_text("include:\n  - targets.shared\n")
    files, _ = read_all(pillar_root, "debian-12", jinja, safe_load)
    with pytest.raises(PillarError) as error:
        check({"base": {"colour": "red"}}, files)
    assert re.search(r"^pillar/targets/shared\.sls: line 1: base:colour: no such key", str(error.value), re.M)
