"""The page of measurements and its plots: every result file is in it, newest first, and files of a new kind as well."""

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

TOP = Path(__file__).parents[3]
sys.path.insert(0, str(TOP / "scripts"))
import measurements  # noqa: E402 needs sys.path

FILES = sorted(measurements.RESULTS.glob("**/*.json"))
PAGE = measurements.page()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_result_file_is_linked_and_has_rows(file):
    assert f"](../{file.relative_to(TOP)})" in PAGE
    subject, _ = next(
        group for group in measurements.results().values() if file in [result.path for result in group[1]]
    )
    rows = list(subject.rows(json.loads(file.read_text())))
    assert rows
    for row in rows:
        assert row.case
        assert row.low is None or row.low <= row.value <= row.high


def test_every_subject_has_a_command_and_its_files_newest_first():
    for subject, files in measurements.results().values():
        assert subject.command or all(file.content.get("command") for file in files), subject.name
        assert [file.date for file in files] == sorted((file.date for file in files), reverse=True)
        assert measurements.OLDER not in files[0].path.parts, f"{subject.name}: the newest file is among the older ones"


@pytest.fixture
def folder(tmp_path):
    def write(name, **content):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path

    return write


def test_a_file_of_a_new_kind_is_listed_with_its_medians(folder):
    times = {"no change": {"wall": {"median": 2.5, "low": 2.25, "high": 2.75}}, "note": "x"}
    page = measurements.page(folder("2027-01-02-boot", command="benchmarks/boot.py", unit="s", times=times))
    assert "## Other measurements" in page
    assert "benchmarks/boot.py\n" in page
    assert "| no change · wall | 2.50 | 2.25 to 2.75 | s |" in page


def test_a_newer_file_comes_first_and_an_older_one_is_shortened(folder):
    cases = {f"case {number:02}": {"wall_ms": {"median": number}} for number in range(50)}
    folder("2026-01-01-gpu-cost", cases=cases)
    page = measurements.page(folder("2027-01-01-gpu-cost", cases=cases))
    assert page.index("2027-01-01") < page.index("2026-01-01")
    assert page.count("| case 05 · wall |") == 2
    assert page.count("| case 06 · wall |") == 1
    assert "| 10 more in the file |" in page
    assert "| 44 more in the file |" in page


def test_a_plot_has_the_rows_of_the_newest_file_with_one_unit():
    drawn = measurements.with_plots("before <!-- plot: gpu-cost --> after")
    root = ElementTree.fromstring(drawn.removeprefix("before ").removesuffix(" after"))
    texts = [text.text for text in root.iter("text")]
    assert len(list(root.iter("rect"))) == len(texts) / 2
    assert all(value.endswith(" ms") for value in texts[1::2])
    assert not [text for text in texts if "hang" in text]


def test_a_plot_takes_its_colours_from_the_page():
    drawn = "".join(
        measurements.with_plots(f"<!-- plot: {s.name} -->") for s, _ in measurements.results().values() if s.plotted
    )
    for attribute in ("fill=", "stroke=", "style=", "color"):
        assert attribute not in drawn
    assert ".plot rect { fill: var(--md-" in (TOP / "docs/site/assets/site.css").read_text()


@pytest.mark.parametrize("case", ["a < b", 'with "quotes"', "x & y"])
def test_names_are_escaped(case):
    row = measurements.Row(case, 2, "s", 1, 3)
    assert case in [text.text for text in ElementTree.fromstring(measurements.bars(case, [row])).iter("text")]


def test_a_page_without_plots_is_left_alone(tmp_path):
    assert measurements.with_plots("a page", tmp_path / "missing") == "a page"


@pytest.mark.parametrize(("value", "text"), [
    (0.000123456, "0.000123"), (0, "0"), (1.0, "1.00"), (20, "20"),
    (2.345, "2.35"), (23.45, "23.4"), (234.5, "234"), (12345.6, "12,346"),
])  # fmt: skip
def test_numbers_have_three_digits_and_no_exponent(value, text):
    assert measurements._number(value) == text
