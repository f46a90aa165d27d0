"""The examples of the documentation are valid: pillar fragments pass the schema, and named commands and goals exist."""

import re
from pathlib import Path

import pytest
import yaml
from copied import chosen, merged

from vault_cube.settings import Settings, check

TOP = Path(__file__).parents[3]
PAGES = [TOP / "README.md", TOP / "SECURITY.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
FRAGMENTS = [
    (page, block)
    for page in PAGES
    for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    if set(yaml.safe_load(block)) <= set(Settings.model_fields)
]
COMMANDS = set(re.findall(r"^### (\w+\.\w+)$", (TOP / "docs/commands.md").read_text(), re.MULTILINE))
GOALS = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))


def test_there_are_examples():
    assert len(FRAGMENTS) > 5


@pytest.mark.parametrize(("page", "block"), FRAGMENTS, ids=lambda value: getattr(value, "name", ""))
def test_a_pillar_fragment_passes_the_schema(page, block):
    fragment = yaml.safe_load(block.replace("AAAA…", KEY))
    check(merged(*chosen("debian-12"), fragment))


# a decision may name what was removed since
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.parent.name != "decisions"], ids=lambda page: str(page.relative_to(TOP))
)
def test_named_commands_and_goals_exist(page):
    text = page.read_text()
    modules = {name.partition(".")[0] for name in COMMANDS}
    named = re.findall(r"salt-call (?:--[a-z]+(?:=\S+)? )*([a-z]+\.[a-z_]+)", text)
    assert {name for name in named if name.partition(".")[0] in modules} <= COMMANDS
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= GOALS
    assert set(re.findall(r"^[#$] make ([a-z-]+)", text, re.MULTILINE)) <= GOALS
