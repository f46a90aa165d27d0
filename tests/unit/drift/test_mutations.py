"""Every mutation of mutations.yaml is reported with the right class, and a pristine tree has no finding."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import box
import changes
import pytest
import yaml

from vault_cube.drift.accepted import GUARDED
from vault_cube.drift.classes import EXPECTED, REPAIRED, UNKNOWN, UNMANAGED

CLASSES = {"repaired": REPAIRED, "unmanaged": UNMANAGED, "expected": EXPECTED, "unknown": UNKNOWN}
MUTATIONS: list[tuple[str, str, str, list[dict[str, Any]]]] = [
    tuple(mutation) for mutation in yaml.safe_load(Path(__file__).with_name("mutations.yaml").read_text())
]
pytestmark = pytest.mark.skipif(not box.is_root(), reason="files are given to other users")


def states_of(pristine: Path, root: Path, steps: list[dict[str, Any]]) -> list[box.StateResult]:
    """Return Salt's results; `holds` names states that a weakened state lets hold."""
    holding = {step["holds"] for step in steps if "holds" in step}
    results = box.salt_would(pristine, root)
    for result in results:
        if result["name"] in holding:
            result["differs"] = False
    return results


def paths(steps: list[dict[str, Any]]) -> set[str]:
    """Return the paths that a mutation changes; all packages share one file."""
    touched = set()
    for verb, value in (next(iter(step.items())) for step in steps):
        packaged = verb in ("install", "uninstall")
        touched |= {"var/lib/dpkg/status", *box.PACKAGES.get(value, ("", ()))[1]} if packaged else {value}
    return touched


def batches() -> list[list[int]]:
    """Group mutations that do not touch each other, so that one comparison judges many.

    A changed checkout affects the class of other files, and an expected mutation alone must not count as drift, so
    these are alone.
    """
    groups: list[tuple[set[str], list[int]]] = []
    alone = []
    for number, (_, kind, _, steps) in enumerate(MUTATIONS):
        touched = paths(steps)
        if kind not in ("repaired", "unmanaged") or any(path.startswith(GUARDED) for path in touched):
            alone.append([number])
            continue
        free = next((group for group in groups if not _near(group[0], touched)), None)
        if free is None:
            free = (set(), [])
            groups.append(free)
        free[0].update(touched)
        free[1].append(number)
    return [numbers for _, numbers in groups] + alone


def _near(one: set[str], other: set[str]) -> bool:
    return any(f"{a}/".startswith(f"{b}/") or f"{b}/".startswith(f"{a}/") for a in one for b in other)


@pytest.mark.parametrize("numbers", batches(), ids=lambda numbers: MUTATIONS[numbers[0]][0])
def test_mutations_have_their_class(pristine: Path, copy: Path, numbers: list[int]) -> None:
    mutations = [MUTATIONS[number] for number in numbers]
    steps = [step for mutation in mutations for step in mutation[3]]
    for step in steps:
        changes.apply(copy, step)
    declared = {"/data": "the owner's models", "/data/**": "the owner's models"}
    result = box.report(copy, states_of(pristine, copy, steps), expected=declared)
    for name, kind, what, _ in mutations:
        end = "" if what.endswith("/") else r"(?!/|\.d\b)"
        names = re.compile(f"^{re.escape(what)}$" if kind == "repaired" else re.escape(what) + end)
        classes = {finding["class"] for finding in result["findings"] if names.search(finding["what"])}
        if kind == "none":
            assert not result["findings"], (name, box.listed(result))
        else:
            assert classes == {CLASSES[kind]}, (name, box.listed(result))
    assert result["drifted"] == any(kind in ("repaired", "unmanaged") for _, kind, _, _ in mutations)


def test_there_are_at_least_150_mutations() -> None:
    assert len({mutation[0] for mutation in MUTATIONS}) == len(MUTATIONS) >= 150


def test_a_pristine_tree_has_no_finding(pristine: Path) -> None:
    for states in (box.salt_would(pristine, pristine), None):
        result = box.report(pristine, states)
        assert (result["findings"], result["drifted"]) == ([], False)


def test_a_pristine_tree_has_no_finding_when_all_files_are_read(pristine: Path) -> None:
    result = box.report(pristine, None, full=True)
    assert (result["findings"], result["mode"]) == ([], "full")
    assert result["read"] >= len(box.FILES) - 5  # homes are data


def test_without_salt_a_path_of_a_state_counts_as_one_that_it_repairs(copy: Path) -> None:
    (copy / "etc/ssh/sshd_config.d/00-vault-cube.conf").write_text("PermitRootLogin yes\n")
    (copy / "etc/pam.d/su").write_text("x")
    result = box.report(copy, None)
    assert {(finding["what"], finding["class"]) for finding in result["findings"]} == {
        ("/etc/ssh/sshd_config.d/00-vault-cube.conf", REPAIRED),
        ("/etc/pam.d/su", UNMANAGED),
    }


def test_a_state_that_failed_cannot_be_judged(pristine: Path) -> None:
    states = box.salt_would(pristine, pristine)
    states[0] |= {"failed": True, "would": "no such source"}
    result = box.report(pristine, states)
    assert [(finding["class"], finding["change"]) for finding in result["findings"]] == [(UNKNOWN, "no such source")]


def test_a_state_of_a_changed_checkout_is_not_said_to_repair(pristine: Path, copy: Path) -> None:
    (copy / "opt/vault-cube/checkout/salt/base/ssh.sls").write_text("PermitRootLogin yes")
    states = box.salt_would(pristine, copy)
    # the box's file is still the image's; the weakened state would change it
    states[0] |= {"differs": True, "would": "would be changed"}
    result = box.report(copy, states)
    assert {finding["what"]: finding["class"] for finding in result["findings"]} == {
        "/opt/vault-cube/checkout/salt/base/ssh.sls": UNMANAGED,
        states[0]["name"]: UNKNOWN,
    }


def test_links_for_sysvinit_are_part_of_their_unit_s_state(pristine: Path, copy: Path) -> None:
    (copy / "etc/systemd/system/multi-user.target.wants/docker.service").unlink()
    for name in ("docker", "evil"):
        (copy / f"etc/rc2.d/S01{name}").rename(copy / f"etc/rc2.d/K01{name}")
    result = box.report(copy, box.salt_would(pristine, copy))
    assert {finding["what"]: finding["class"] for finding in result["findings"]} == {
        "docker.service": REPAIRED,
        "/etc/rc2.d/S01evil": UNMANAGED,
        "/etc/rc2.d/K01evil": UNMANAGED,
    }


def test_an_unchanged_tree_at_another_place_has_no_finding(pristine: Path, tmp_path: Path) -> None:
    root = tmp_path / "mounted disk"
    shutil.copytree(pristine, root, symlinks=True)
    shutil.copy(pristine.parent / "manifest.gz", tmp_path)
    assert box.report(root, None)["findings"] == []


@pytest.mark.parametrize(
    ("function", "would"),
    [
        ("file.managed", "File /etc/pam.d/common-auth is not present and is not set for creation"),
        ("file.managed", "File /etc/pam.d/common-auth not updated"),
        ("file.replace", "No changes needed to be made"),
    ],
)
def test_a_state_that_keeps_the_content_does_not_make_a_change_expected(
    pristine: Path, copy: Path, function: str, would: str
) -> None:
    path = "etc/pam.d/common-auth"
    if would.endswith("creation"):
        (copy / path).unlink()
    else:
        (copy / path).write_text("auth sufficient pam_permit.so\n")
    states = [*box.salt_would(pristine, copy), box.result("only root writes it", function, f"/{path}", False, would)]
    classes = {finding["what"]: finding["class"] for finding in box.report(copy, states)["findings"]}
    assert classes[f"/{path}"] == UNMANAGED
