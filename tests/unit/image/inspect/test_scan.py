"""The judgement of scanners' results: a rule that got worse is a fault; a tailored one has a reason or a proof."""

import re
from collections import Counter

import pytest

from vault_cube.errors import VaultCubeError
from vault_cube.image.inspect import scan
from vault_cube.image.inspect.scan import Group, Tailoring

TAILORING = Tailoring(
    [
        Group(
            "proven", "a drop-in", {"sshd_root": "permitrootlogin no", "sshd_kex": "kexalgorithms .*curve.*"}, "sshd -T"
        ),
        Group("chosen", "no auditd", {"package_audit": ""}),
    ],
    62,
    80,
    frozenset({"ACCT-9628"}),
)
RESULT = """<?xml version="1.0"?>
<TestResult xmlns="http://checklists.nist.gov/xccdf/1.2">
  <rule-result idref="xccdf_org.ssgproject.content_rule_sshd_root"><result>fail</result></rule-result>
  <rule-result idref="xccdf_org.ssgproject.content_rule_passwords"><result>pass</result></rule-result>
  <rule-result idref="xccdf_org.ssgproject.content_rule_gdm"><result>notselected</result></rule-result>
</TestResult>
"""


def test_each_tailored_rule_is_in_one_group_with_a_reason():
    tailoring = Tailoring.read()
    counts = Counter(rule for group in tailoring.groups for rule in group.rules)
    assert not [rule for rule, count in counts.items() if count > 1]
    assert all(group.reason and group.rules for group in tailoring.groups)
    for group in tailoring.groups:
        assert bool(group.proof) == all(group.rules.values())
        assert all(re.compile(pattern) for pattern in group.rules.values())


def test_no_rule_with_a_high_severity_is_only_excused():
    """Of the rules that failed, ssg-debian 0.1.82 calls these two high: one has a proof, one is fixed and must pass."""
    tailoring = Tailoring.read()
    assert tailoring.group("sshd_disable_empty_passwords").proof == "sshd -T"
    assert tailoring.group("no_empty_passwords_unix") is None


def test_results_are_read_without_those_of_other_profiles(tmp_path):
    (tmp_path / "results.xml").write_text(RESULT)
    assert scan.rule_results(tmp_path / "results.xml") == {"sshd_root": "fail", "passwords": "pass"}


@pytest.mark.parametrize("result", scan.FAILED)
def test_a_rule_that_got_worse_is_a_fault_and_named(result):
    verdict = scan.judge_profile(1, {"a": "pass", "b": result, "package_audit": "fail"}, TAILORING)
    assert verdict.status == "fault"
    assert "fix b," in verdict.todo
    assert verdict.evidence.startswith("50.0% of 2 rules pass, 1 others are tailored")


@pytest.mark.parametrize("rule", ["package_audit", "sshd_root"])
def test_tailored_rules_are_no_fault(rule):
    verdict = scan.judge_profile(2, {"a": "pass", rule: "fail", "c": "notapplicable"}, TAILORING)
    assert (verdict.status, verdict.check) == ("ok", "CIS level 2")
    assert "100.0% of 1 rules pass, 1 others are tailored, 1 do not apply" in verdict.evidence


def test_a_profile_without_results_has_no_share():
    assert scan.judge_profile(1, {}, TAILORING).evidence.startswith("0.0% of 0")


def proofs(failed, output):
    return list(scan.judge_proofs(failed, TAILORING, lambda command: output if command == "sshd -T" else ""))


def test_a_proof_that_holds_is_ok():
    (verdict,) = proofs({"sshd_root", "sshd_kex"}, "port 22\npermitrootlogin no\nkexalgorithms a,curve25519\n")
    assert (verdict.status, verdict.check) == ("ok", "proven")


@pytest.mark.parametrize(
    "output",
    ["permitrootlogin yes\n", "", "sshd: no hostkeys available\n", "#permitrootlogin no\n", "permitrootlogin no x\n"],
)
def test_a_proof_that_does_not_hold_is_a_fault(output):
    (verdict,) = proofs({"sshd_root"}, output)
    assert verdict.status == "fault"
    assert verdict.evidence == "sshd_root"


def test_rules_that_pass_need_no_proof():
    assert proofs({"package_audit"}, "") == []


@pytest.mark.parametrize(
    ("report", "status", "words"),
    [
        (
            {"hardening_index": ["62"], "suggestion[]": ["ACCT-9628|Enable auditd|-|-|"]},
            "ok",
            "index 62, suggestions of 1 tests",
        ),
        ({"hardening_index": ["61"]}, "fault", "index 61"),
        ({}, "fault", "index 0"),
        ({"hardening_index": ["70"], "warning[]": ["PKGS-7392|Vulnerable packages|-|-|"]}, "warning", "new: PKGS-7392"),
    ],
)
def test_lynis_is_judged_by_its_index_and_its_new_findings(report, status, words):
    verdict = scan.judge_lynis(report, TAILORING)
    assert verdict.status == status
    assert words in verdict.evidence


def test_a_booted_guest_has_a_threshold_of_its_own():
    report = scan.lynis_report("report_version=1\nhardening_index=70\nsuggestion[]=ACCT-9628|x|-|-|\n")
    assert scan.judge_lynis(report, TAILORING).status == "ok"
    booted = scan.judge_lynis(report, TAILORING, booted=True)
    assert (booted.status, booted.threshold) == ("fault", "index 80")


def test_a_missing_scanner_is_named_with_its_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(VaultCubeError, match="oscap is missing: install openscap-scanner"):
        scan.scan(None)
