"""Scan the tree of a built image with OpenSCAP (CIS profiles) and Lynis, and compare the results with tailoring.yaml.

OpenSCAP runs on this machine and reads the mounted layers; Lynis runs inside the tree, on a scratch layer. Rules that
ask the running kernel see that of this machine, so the tailoring proves them by the image's own files.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from vault_cube import process
from vault_cube.errors import VaultCubeError
from vault_cube.image.inputs import Inputs
from vault_cube.image.inside import enter
from vault_cube.image.layers import chroot
from vault_cube.image.locks import mirrors
from vault_cube.image.store import Store, Wanted
from vault_cube.image.workspace import Workspace
from vault_cube.verdicts import Report, Verdict, fault, ok, verdict, warning

TAILORING = Path(__file__).with_name("tailoring.yaml")
SCRIPT = Path(__file__).with_name("scan.sh")
LEVELS = (1, 2)
RULE, PROFILE = "xccdf_org.ssgproject.content_rule_", "xccdf_org.ssgproject.content_profile_cis_level{level}_server"
XCCDF = "{http://checklists.nist.gov/xccdf/1.2}"
FAILED = ("fail", "error", "unknown", "notchecked")
FOLDER = "/run/scan"
"""Folder in the tree with Lynis and its report."""


@dataclass(frozen=True)
class Group:
    """Rules that an image does not meet, for one reason."""

    name: str
    reason: str
    rules: Mapping[str, str]
    """Pattern of a line in the proof's output by rule; empty without a proof."""
    proof: str = ""
    """Command in the tree that shows that a rule is met although the scanner says otherwise."""


@dataclass(frozen=True)
class Tailoring:
    """The content of tailoring.yaml."""

    groups: Sequence[Group]
    index: int
    """Lowest hardening index of Lynis in the tree."""
    booted_index: int
    """Lowest hardening index of Lynis in a booted guest."""
    accepted: frozenset[str]
    """Tests of Lynis whose suggestions and warnings are accepted."""

    @classmethod
    def read(cls, file: Path = TAILORING) -> Tailoring:
        """Read a tailoring file."""
        document = yaml.safe_load(file.read_text())
        groups = [
            Group(entry["group"], entry["reason"], _mapping(entry["rules"]), entry.get("proof", ""))
            for entry in document["cis"]
        ]
        lynis = document["lynis"]
        index, booted = lynis["index"], lynis["booted_index"]
        return cls(groups, index, booted, frozenset(test for part in lynis["accepted"] for test in part["tests"]))

    def group(self, rule: str) -> Group | None:
        """Return the group of a rule; None if the rule must pass."""
        return next((group for group in self.groups if rule in group.rules), None)


def _mapping(rules: list[str] | dict[str, str]) -> dict[str, str]:
    return rules if isinstance(rules, dict) else dict.fromkeys(rules, "")


def scan(space: Workspace) -> Report:
    """Scan the image's tree. Returns one verdict per profile, per proof that fails, and one for Lynis.

    The results of the scanners are kept in build/<target>/scan. Raises VaultCubeError if the image is not built, or a
    scanner is missing or cannot run.
    """
    process.required("oscap", "openscap-scanner")
    lower = enter.tree(space, Inputs.read(space).keys)
    results = space.build / "scan"
    results.mkdir(parents=True, exist_ok=True)
    tailoring = Tailoring.read()
    with space.scratch("scan") as work:
        for name in ("upper", "work", "merged", "root", "scan"):
            (work / name).mkdir()
        scanners = unpack(space, work / "scan")
        verdicts: list[Verdict] = []
        failed: set[str] = set()
        for level in LEVELS:
            outcome = evaluate(content(space, scanners), level, lower, work / "root", results)
            failed |= {rule for rule, result in outcome.items() if result in FAILED}
            verdicts.append(judge_profile(level, outcome, tailoring))
        inside = _Inside(chroot.Overlay(lower, work / "upper", work / "work"), work, results)
        verdicts += judge_proofs(failed, tailoring, inside.shell)
        verdicts.append(judge_lynis(inside.lynis(), tailoring))
    report = Report(f"scan of {space.target}", verdicts)
    (results / "scan.json").write_text(json.dumps(report.as_dict(), indent=1) + "\n")
    return report


def unpack(space: Workspace, folder: Path) -> Path:
    """Fetch the scanners' packages (image:scanners) into the store and unpack them. Returns the folder."""
    scanners, store = space.settings.image.scanners, Store(space.store)
    sources = [source for source in space.settings.image.tools.sources if source.archive == scanners.archive]
    places = mirrors.all_places(sources, space.settings.image.mirrors, "amd64", scanners.date)
    wanted = [
        Wanted(
            package.sha256,
            package.path.rpartition("/")[2],
            0,
            tuple(f"{place}/{package.path}" for place in places),
            True,
        )
        for package in scanners.packages.values()
    ]
    store.fetch(wanted, "scanners")
    for package in wanted:
        process.run(["dpkg-deb", "-x", store.verified(package.sha256, package.name), folder], purpose=package.name)
    return folder


def content(space: Workspace, scanners: Path) -> Path:
    """Return the file with the profiles of the target's release. Raises VaultCubeError if there is none."""
    target = space.settings.target
    name = f"ssg-{target.os.lower()}{target.release.replace('.', '')}-ds.xml"
    file = scanners / "usr/share/xml/scap/ssg/content" / name
    if not file.is_file():
        raise VaultCubeError(
            f"{target.name}: image:scanners have no profiles for {target.os} {target.release} ({name})"
        )
    return file


def evaluate(profiles: Path, level: int, lower: Sequence[Path], root: Path, results: Path) -> dict[str, str]:
    """Evaluate a CIS profile on the layers `lower`, bottom first.

    profiles: the content. level: 1 or 2. root: an empty folder. results: folder of the reports.
    Returns the result by rule. Raises CommandFailed if oscap cannot run.
    """
    file = results / f"cis-level-{level}.xml"
    options = chroot.mount_options(chroot.Overlay(lower))
    command: list[str | Path] = [*chroot.unshare(network=False), "sh", SCRIPT, options, root]
    command += ["--profile", PROFILE.format(level=level)]
    command += ["--results", file, "--report", file.with_suffix(".html"), profiles]
    process.run(command, purpose="oscap", log=results / "oscap.log", ok=(0, 2))  # 2: some rules failed
    return rule_results(file)


def rule_results(file: Path) -> dict[str, str]:
    """Read the results of an evaluation: rule, without its prefix, to pass, fail, notapplicable and their like."""
    found = ElementTree.parse(file).getroot().iter(f"{XCCDF}rule-result")  # noqa: S314 our own file
    results = {entry.get("idref", "").removeprefix(RULE): entry.findtext(f"{XCCDF}result", "") for entry in found}
    return {rule: result for rule, result in results.items() if result != "notselected"}


def judge_profile(level: int, results: Mapping[str, str], tailoring: Tailoring) -> Verdict:
    """Judge the results of a profile. A fault if a rule fails that tailoring.yaml does not list."""
    failed = {rule for rule, result in results.items() if result in FAILED}
    listed = {rule for rule in failed if tailoring.group(rule)}
    new = sorted(failed - listed)
    counts = Counter(results.values())
    judged = counts["pass"] + len(new)
    share = counts["pass"] / judged if judged else 0.0
    evidence = (
        f"{share:.1%} of {judged} rules pass, {len(listed)} others are tailored, {counts['notapplicable']} do not apply"
    )
    todo = f"fix {', '.join(new)}, or list it with its reason in {TAILORING.name}"
    return verdict(not new, evidence, todo=todo, check=f"CIS level {level}")


def judge_proofs(failed: set[str], tailoring: Tailoring, run: Any) -> Iterator[Verdict]:
    """Run the proofs of rules that the scanner calls failed.

    run: a function that runs a shell command in the tree and returns its output. Yields a verdict per group.
    """
    for group in tailoring.groups:
        rules = {rule: pattern for rule, pattern in group.rules.items() if pattern and rule in failed}
        if not rules:
            continue
        lines = [line.strip() for line in run(group.proof).splitlines()]
        missing = [rule for rule, line in rules.items() if not any(re.fullmatch(line, each) for each in lines)]
        evidence = ", ".join(missing) or f"{len(rules)} rules that the scanner does not see"
        yield verdict(not missing, evidence, group.proof, "the setting is missing: apply the states", check=group.name)


def lynis_command() -> str:
    """Return the shell command that runs the unpacked Lynis in FOLDER; it writes lynis.dat and lynis.log there."""
    # CRYP-7902 asks openssl about each of thousands of certificates below /opt
    settings, skip = f"{FOLDER}/etc/lynis/default.prf", "skip-test=CRYP-7902"
    profile = f"grep -qx {skip} {settings} || echo {skip} >>{settings}"
    options = f"--plugindir {FOLDER}/etc/lynis/plugins --profile {settings}"
    files = f"--report-file {FOLDER}/lynis.dat --log-file {FOLDER}/lynis.log"
    run = f"sh {FOLDER}/usr/sbin/lynis audit system --quick --quiet --no-colors {options} {files}"
    return f"{profile}; cd {FOLDER}/usr/share/lynis && {run} </dev/null || :"


def lynis_report(text: str) -> dict[str, list[str]]:
    """Parse Lynis's report. Returns key to values."""
    report: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            report.setdefault(key, []).append(value)
    return report


def judge_lynis(report: Mapping[str, Sequence[str]], tailoring: Tailoring, *, booted: bool = False) -> Verdict:
    """Judge Lynis's report: the index, and tests with suggestions or warnings that tailoring.yaml does not list.

    booted: whether Lynis ran in a booted guest, where its index is higher.
    """
    index = int((report.get("hardening_index") or ["0"])[0])
    tests = {line.partition("|")[0] for kind in ("suggestion[]", "warning[]") for line in report.get(kind, ())}
    new = sorted(tests - tailoring.accepted)
    lowest = tailoring.booted_index if booted else tailoring.index
    threshold = f"index {lowest}"
    evidence = f"hardening index {index}, suggestions of {len(tests)} tests"
    if index < lowest:
        return fault(evidence, "see lynis.log in the results", threshold, check="Lynis")
    if new:
        return warning(
            f"{evidence}, new: {', '.join(new)}", f"fix it, or list it in {TAILORING.name}", threshold, check="Lynis"
        )
    return ok(evidence, threshold, check="Lynis")


@dataclass(frozen=True)
class _Inside:
    """The tree with a scratch layer, in which commands run."""

    tree: chroot.Overlay
    work: Path
    results: Path

    def shell(self, script: str) -> str:
        """Run a shell command in the tree, with host keys for sshd. Returns its output."""
        output = self.work / "scan/output"
        # the image has no host keys, without which sshd does not print its settings
        script = f"ssh-keygen -A >/dev/null; mkdir -p /run/sshd; {script} >{FOLDER}/output 2>&1 || :"
        self._run(script)
        return output.read_text() if output.is_file() else ""

    def lynis(self) -> dict[str, list[str]]:
        """Run Lynis in the tree. Returns its report: key to values."""
        self._run(lynis_command())
        try:
            text = (self.work / "scan/lynis.dat").read_text(errors="replace")
        except OSError as err:
            raise VaultCubeError(f"Lynis wrote no report: see {self.results / 'inside.log'}") from err
        for name in ("lynis.dat", "lynis.log"):
            (self.results / name).write_bytes((self.work / "scan" / name).read_bytes())
        return lynis_report(text)

    def _run(self, script: str) -> None:
        chroot.run(
            self.tree,
            ["sh", "-c", script],
            what="the scanner",
            log=self.results / "inside.log",
            mountpoint=self.work / "merged",
            binds=[chroot.Bind(self.work / "scan", FOLDER, writable=True)],
            check=False,
        )
