"""Verdicts: the runner of checks, and the report on their verdicts."""

import pytest

from vault_cube import verdicts
from vault_cube.errors import VaultCubeError
from vault_cube.verdicts import FAULT, NOT_APPLICABLE, OK, UNCERTAIN, WARNING, NotApplicable, Report, Verdict


def passes(limit):
    return verdicts.ok("3", f"at most {limit}")


def two_verdicts(limit):
    yield verdicts.ok("first")
    yield verdicts.fault("second", "repair it", check="another name")


def does_not_run_here(limit):
    raise NotApplicable("needs a running system")


def cannot_read(limit):
    raise VaultCubeError("/etc/x: no such file: create it")


def breaks(limit):
    return {}["missing"]


def breaks_after_a_verdict(limit):
    yield verdicts.ok("first")
    raise OSError("disk error")


def returns_nothing(limit):
    return None


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (passes, [("passes", OK, "3")]),
        (two_verdicts, [("two verdicts", OK, "first"), ("another name", FAULT, "second")]),
        (does_not_run_here, [("does not run here", NOT_APPLICABLE, "needs a running system")]),
        (cannot_read, [("cannot read", FAULT, "/etc/x: no such file: create it")]),
        (breaks, [("breaks", WARNING, "this check broke: KeyError: 'missing'")]),
        (
            breaks_after_a_verdict,
            [
                ("breaks after a verdict", OK, "first"),
                ("breaks after a verdict", WARNING, "this check broke: OSError: disk error"),
            ],
        ),
        (
            returns_nothing,
            [("returns nothing", WARNING, "this check broke: TypeError: 'NoneType' object is not iterable")],
        ),
    ],
)
def test_a_check_gives_its_verdicts_and_hides_no_other(check, expected):
    given = [(each.check, each.status, each.evidence) for each in verdicts.run([check, passes], 4)]
    assert given == [*expected, ("passes", OK, "3")]


def test_the_runner_names_the_gpu():
    assert [each.gpu for each in verdicts.run([passes, breaks], 4, gpu=2)] == [2, 2]
    assert [each.gpu for each in verdicts.run([passes], 4)] == [None]


@pytest.mark.parametrize(
    ("statuses", "worst", "exit_code"),
    [
        ([], NOT_APPLICABLE, 0),
        ([NOT_APPLICABLE], NOT_APPLICABLE, 0),
        ([OK, NOT_APPLICABLE], OK, 0),
        ([OK, UNCERTAIN], UNCERTAIN, 1),
        ([UNCERTAIN, WARNING], WARNING, 1),
        ([FAULT, OK, WARNING], FAULT, 2),
    ],
)
def test_the_worst_verdict_decides(statuses, worst, exit_code):
    report = Report("base", [Verdict(status, "") for status in statuses])
    assert (report.status, report.exit_code) == (worst, exit_code)


def test_a_report_for_a_program():
    report = Report("base", [verdicts.ok("3", "at most 4", check="a"), Verdict(FAULT, "x", "repair it", gpu=0)])
    document = report.as_dict()
    assert document.pop("started").endswith("Z")
    assert document == {
        "subject": "base",
        "verdict": "fault",
        "counts": {"fault": 1, "ok": 1},
        "checks": [
            {"check": "a", "status": "ok", "evidence": "3", "threshold": "at most 4"},
            {"gpu": 0, "status": "fault", "evidence": "x", "todo": "repair it"},
        ],
    }
    assert Report("GPUs", [], simulated=True).as_dict()["simulated"] is True


def test_a_table_for_a_person(monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    long = "a long observation that needs more than one line, " * 2
    checks = [
        verdicts.ok("fine", check="a"),
        verdicts.fault(f"[red]{long}", "repair it", "at most 4 (a:b)", check="b c"),
    ]
    lines = Report("base", checks).table().splitlines()
    assert lines[0] == "FAULT: base   (1 fault, 1 ok)"
    assert lines[1].startswith("FAULT  b c  [red]a long observation")
    assert any(line.strip() == "→ repair it" for line in lines)
    assert lines[-1].split() == ["ok", "a", "fine"]
    assert max(map(len, lines)) <= 66
    assert "[at most 4 (a:b)]" in " ".join(line.strip() for line in lines)


def test_equal_verdicts_of_several_gpus_share_a_row():
    each_gpu = [verdict for gpu in (0, 1, 2, 5) for verdict in verdicts.run([passes], 4, gpu=gpu)]
    table = Report("GPUs", [*each_gpu, verdicts.ok("5", check="passes")]).table()
    assert "passes  GPU 0,1,2,5  3" in table
    assert len(table.splitlines()) == 3


def test_a_report_without_checks():
    assert Report("driver", []).table() == "n/a: driver"
