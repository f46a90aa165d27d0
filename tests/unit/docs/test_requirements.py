"""The page of requirements: each row has an id, a proof that exists, and one of three statements of where it ran."""

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
WHERE = ("proven here", "proven on an H200", "unproven")
PAGE = (TOP / "docs/requirements.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if re.match(r"\| [A-Z]\d", line)
]
COMMANDS = (TOP / "docs/commands.md").read_text()
GOALS = re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE)
CASES = (TOP / "docs/reference/checks.md").read_text()


def test_the_page_has_all_parts():
    assert {row[0][0] for row in ROWS} == set("DLBTFSO")
    assert all(len(row) == 4 for row in ROWS)
    assert {row[2] for row in ROWS} == set(WHERE)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1][:30]}")
def test_the_proof_of_a_requirement_exists(row):
    proof = row[3]
    named = re.findall(r"`([^`]+)`", proof) + re.findall(r"boot test|\]\(", proof)
    assert named, "no proof"
    for name in re.findall(r"`([^`]+)`", proof):
        command = name.split()[0]
        if command == "make":
            assert name.split()[1] in GOALS, name
        elif re.fullmatch(r"(gpu|image|layer|drift)\.\w+", command):
            assert f"### {command}\n" in COMMANDS, name
        elif "/" in name:
            assert (TOP / name).exists(), name
    for case in re.findall(r"\*([^*]+)\*", proof):
        assert f"| {case} |" in CASES, case


def test_what_needs_hardware_that_was_not_there_is_unproven():
    for row in ROWS:
        if re.search(r"5090|24h|on the box|TARGET=ubuntu", row[1] + row[3]):
            assert row[2] == "unproven", row
