"""The tables of docs/comparison.md are those of the newest results."""

import sys
from pathlib import Path

TOP = Path(__file__).parents[3]


def test_the_tables_are_those_of_the_newest_results(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(TOP / "benchmarks"), *sys.path])
    import comparison

    assert comparison.page() == comparison.PAGE.read_text(), "run benchmarks/comparison.py"
