"""Statements of the documentation that were wrong once, and that a reader acts on."""

from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
PAGES = [page for page in (TOP / "docs").glob("*.md") if "111958" in page.read_text()]


def paragraphs(text):
    """Paragraphs and list items, each on one line."""
    return [" ".join(part.split()) for part in text.replace("\n* ", "\n\n* ").split("\n\n")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nobody_waits_for_an_issue_that_is_closed(page):
    for paragraph in paragraphs(page.read_text()):
        if "111958" in paragraph:
            assert "closed" in paragraph, f"{page.name}: tensorflow issue 111958 is closed without a release: say so"


def test_the_issue_is_documented():
    assert PAGES
