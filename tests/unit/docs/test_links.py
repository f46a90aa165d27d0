"""Every path of this repository that a page, a message or a comment names exists."""

import re
from pathlib import Path

import pytest
import yaml

from vault_cube.image import checkout

TOP = Path(__file__).parents[3]
FILES = [file for file in checkout.sources(TOP) if file.is_file() and file != TOP / "pillar/local.sls"]
PAGES = [file for file in FILES if file.suffix == ".md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
# tests name pages that do not exist, and the lists of changes name pages of older versions
MENTIONS = [
    file for file in FILES if file.parts[len(TOP.parts)] not in ("tests", "locks") and file.name != "CHANGELOG.md"
]


def headings(page):
    """Return the anchors of a page, as GitHub and MkDocs make them from its headings."""
    lines = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL).splitlines()
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", line.lstrip("# ")) for line in lines if line.startswith("#")]
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


def dead(page):
    """Return the links of a page that lead nowhere in this repository."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    wrong = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and target.suffix == ".md" and anchor not in headings(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_link_of_a_page_leads_to_a_file(page):
    assert dead(page) == []


def test_a_dead_link_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n[a](page.md#a-page) [b](#a-page) [c](missing.md) [d](page.md#missing) [e](folder/)\n")
    (tmp_path / "folder").mkdir()
    assert dead(page) == ["missing.md", "page.md#missing", "folder/"]


def test_every_page_named_in_code_exists():
    missing = []
    for file in MENTIONS:
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        # not a part of a URL or of another path
        for name in re.findall(r"(?<![\w/.-])docs/[\w./-]+\.md", text):
            if not (TOP / name).is_file():
                missing.append(f"{file.relative_to(TOP)}: {name}")
    assert missing == []


def test_every_page_of_the_navigation_exists_and_every_page_is_in_it():
    """`make docs` checks this too; this test needs no MkDocs."""
    navigation = yaml.safe_load((TOP / "docs/site/mkdocs.yml").read_text())["nav"]
    entries = re.findall(r"[\w./*-]+\.md", str(navigation))
    named = {str(file.relative_to(TOP)) for entry in entries for file in TOP.glob(entry)}
    assert [entry for entry in entries if not list(TOP.glob(entry))] == []
    assert {str(page.relative_to(TOP)) for page in PAGES} == named
