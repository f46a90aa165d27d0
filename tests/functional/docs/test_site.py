"""`make docs` on a small copy of the repository: what builds, and which mistakes in a page fail the build."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[3]
PACKAGES = TOP / "build/docs/venv"
pytestmark = [
    pytest.mark.skipif(
        not (PACKAGES / "docs.lock").exists(), reason="the site's packages are missing: run `make docs`"
    ),
    pytest.mark.skipif(not shutil.which("dot"), reason="graphviz is missing: run `make docs`"),
]
GOOD = """\
# Page

[home](../README.md#home), [the number](numbers.json), [below](#below), <https://example.org/>

## Below

```dot
digraph { a -> b [label="to"] }
```
"""


@pytest.fixture
def site(tmp_path):
    """site(page) builds a repository with README.md and docs/page.md. Returns the finished process and the site."""
    for name in ("docs/site", "scripts"):
        shutil.copytree(TOP / name, tmp_path / name)
    (tmp_path / "locks").mkdir()
    shutil.copy(TOP / "locks/docs.lock", tmp_path / "locks")
    (tmp_path / "build/docs").mkdir(parents=True)
    (tmp_path / "build/docs/venv").symlink_to(PACKAGES)
    configuration = tmp_path / "docs/site/mkdocs.yml"
    settings = re.sub(r"^nav:.*", "nav: [README.md, docs/page.md]\n", configuration.read_text(), flags=re.M | re.S)
    configuration.write_text(settings)
    (tmp_path / "README.md").write_text("# Home\n\n[a page](docs/page.md)\n")
    (tmp_path / "docs/numbers.json").write_text("{}")

    def build(page):
        (tmp_path / "docs/page.md").write_text(page)
        ran = subprocess.run(
            ["scripts/docs.sh", "build/docs"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return ran, tmp_path / "build/docs/site"

    build.top = tmp_path
    return build


def test_a_good_site_builds_without_a_message(site):
    ran, folder = site(GOOD)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "build/docs/site/index.html\n", "")
    page = (folder / "docs/page.html").read_text()
    assert 'href="../index.html#home"' in page
    assert 'href="numbers.json"' in page
    assert (folder / "docs/numbers.json").is_file()
    assert re.search(r'<div class="diagram"><svg role="img".*>a</text>', page, re.S)
    assert '"location":"docs/page.html#below"' in (folder / "search/search_index.js").read_text()


@pytest.mark.parametrize(("mistake", "message"), [
    ("[x](missing.md)", "contains a link 'missing.md', but the target"),
    ("[x](../README.md#missing)", "does not contain an anchor '#missing'"),
    ("[x](#missing)", "there is no such anchor on this page"),
    ("[x](../docs/)", "unrecognized relative link '../docs/'"),
    ("[x](/docs/page.md)", "absolute link"),
    ("```dot\ndigraph { a -> }\n```", "a diagram is not valid: digraph { a -> }: Error"),
    ('<img src="https://example.org/x.png">', "load files from another host"),
    ('<script src="//example.org/x.js"></script>', "load files from another host"),
])  # fmt: skip
def test_a_mistake_in_a_page_fails_the_build(site, mistake, message):
    ran, _ = site(f"{GOOD}\n{mistake}\n")
    assert ran.returncode == 1
    assert message in ran.stderr


def test_a_page_outside_the_navigation_fails_the_build(site):
    (site.top / "docs/stray.md").write_text("# Stray\n")
    ran, _ = site(GOOD)
    assert ran.returncode == 1
    assert "docs/stray.md" in ran.stderr
