"""The guide's table of a seed's keys says what cc_vault_cube_report.py makes of them."""

import ast
import re

import pytest
from copied import TOP

REPORT = TOP / "salt/base/files/cloud/cc_vault_cube_report.py"
GUIDE = TOP / "docs/demo-box-setup-guide.md"
ELSEWHERE = {"sudo", "meta-data", "local-hostname", "network-config", "match", "default", "passwd", "base", "network"}
"""Words of the table that are no keys at the top of user-data."""


def constants():
    """Return TAKEN and REASONS, without cloud-init, which the module imports."""
    tree = ast.parse(REPORT.read_text())
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id in ("TAKEN", "REASONS")
    }


def rows():
    """Return the keys and the effect of each row of the table."""
    table = GUIDE.read_text().partition("| in the seed | effect |\n|---|---|\n")[2].partition("\n\n")[0]
    for line in table.splitlines():
        form, effect = line.strip("| ").split(" | ", 1)
        yield {word.partition(":")[0] for word in re.findall(r"`([a-z_-]+)(?:: [a-z]+)?`", form)} - ELSEWHERE, effect


@pytest.mark.parametrize(("keys", "effect"), list(rows()), ids=lambda value: str(value)[:30])
def test_a_row_says_what_happens(keys, effect):
    taken, reasons = constants()["TAKEN"], constants()["REASONS"]
    if effect.startswith(("refused", "ignored")):
        # snap is an example of all others; ssh_import_id is ignored only while its package is missing
        assert keys <= reasons.keys() | {"snap", "ssh_import_id"}
        kinds = {reasons[key].startswith("refused") for key in keys & reasons.keys()}
        assert kinds <= {effect.startswith("refused")}
    else:
        assert keys <= taken


def test_each_key_with_a_reason_has_a_row():
    named = set().union(*(keys for keys, _ in rows())) | ELSEWHERE
    # a misspelling, and a key of another file
    assert constants()["REASONS"].keys() - named == {"ssh-authorized-keys", "instance-id"}
