"""The text format of prometheus.io, and the atomic replacement of its files."""

import os

import pytest

from vault_cube.metrics.exposition import Family, text, write


def family(*samples, kind="gauge"):
    temperature = Family("box_temperature", "temperature of the box", kind)
    for labels, value in samples:
        temperature.add(labels, value)
    return temperature


def test_a_family_has_help_type_and_values():
    assert text([family(({"gpu": "0"}, 41), ({"gpu": "1"}, 41.5), kind="counter")]) == (
        "# HELP box_temperature temperature of the box\n"
        "# TYPE box_temperature counter\n"
        'box_temperature{gpu="0"} 41\n'
        'box_temperature{gpu="1"} 41.5\n'
    )


def test_a_value_without_labels_has_no_braces():
    assert text([family(({}, 0))]).endswith("box_temperature 0\n")


def test_missing_values_and_empty_families_are_left_out():
    assert text([family(({}, None))]) == ""
    assert text([]) == ""


@pytest.mark.parametrize(
    ("value", "written"),
    [('a"b', r"a\"b"), ("a\\b", r"a\\b"), ("a\nb", r"a\nb"), ("a\\n", r"a\\n"), ("GPU\udcff", "GPU?"), ("é", "é")],
)
def test_labels_are_escaped(value, written):
    assert f'{{name="{written}"}} 1\n' in text([family(({"name": value}, 1))])


def test_a_help_text_stays_one_line():
    assert "# HELP x a\\\\b\\nc\n" in text([Family("x", "a\\b\nc", samples=[({}, 1)])])


@pytest.mark.parametrize("value", [1795627034.123456, 81_000_000_123, 0.1, float("inf")])
def test_numbers_keep_every_digit(value):
    assert float(text([family(({}, value))]).split()[-1]) == value


def test_a_file_is_complete_and_readable_for_all_users(tmp_path):
    before = os.umask(0o077)
    try:
        file = write(tmp_path, "gpus", [family(({}, 1))])
    finally:
        os.umask(before)
    assert file == tmp_path / "gpus.prom"
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["gpus.prom"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    write(tmp_path, "gpus", [family(({}, 1))])
    before = (tmp_path / "gpus.prom").read_text()

    def broken():
        yield family(({}, 2))
        raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        write(tmp_path, "gpus", broken())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"gpus.prom": before}
