"""MkDocs hooks: take the pages from the whole repository, expand patterns in the navigation, and draw diagrams.

A page of the site has the path of its file in the repository, so relative links between pages, and to other files of
the repository, need no rewriting. A linked file that is not a page is copied.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files

LOG = get_plugin_logger("diagrams")
TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "scripts"))
import measurements  # noqa: E402 needs sys.path

PAGES = ("*.md", "docs/**/*.md", "salt/*/README.md", "tests/*/README.md", "benchmarks/results/**/*.md")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Expand the patterns in the navigation, and register the fence ```dot."""
    config.nav = [_expanded(entry) for entry in config.nav or []]
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "dot", "class": "diagram", "format": diagram})
    return config


def _expanded(entry: Any) -> Any:
    """Replace each pattern such as `docs/runbooks/*.md` in a part of the navigation by the files that match."""
    if isinstance(entry, dict):
        return {title: _expanded(value) for title, value in entry.items()}
    if isinstance(entry, list):
        return [page for item in entry for page in (_matching(item) if isinstance(item, str) else [_expanded(item)])]
    return entry


def _matching(name: str) -> list[str]:
    if "*" not in name:
        return [name]
    return sorted(str(file.relative_to(TOP)) for file in TOP.glob(name) if file.name != "README.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add all pages of the repository, and the files that they link to."""
    pages = sorted({file for pattern in PAGES for file in TOP.glob(pattern)})
    linked = {
        target
        for page in pages
        for link in LINK.findall(page.read_text())
        if (target := (page.parent / link).resolve()).is_file() and target.is_relative_to(TOP)
    }
    for file in (*pages, *sorted(linked.difference(pages))):
        files.append(File.generated(config, str(file.relative_to(TOP)), abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Draw the plots of the page of measurements."""
    return measurements.with_plots(markdown)


def diagram(source: str, _language: str, css_class: str, _options: Any, _md: Any, **_: Any) -> str:
    """Return a diagram in Graphviz's language as SVG in HTML; site.css gives it the colours of the page."""
    ran = subprocess.run(["dot", "-Tsvg"], input=source, capture_output=True, text=True, check=False)
    if ran.returncode or ran.stderr:
        # an exception would be swallowed: the fence would become a code block
        LOG.warning("a diagram is not valid: %s: %s", source.splitlines()[0], ran.stderr.strip().splitlines()[0])
        return ""
    svg = ran.stdout[ran.stdout.index("<svg") :]
    name = (re.findall(r"graph (\w+)", source) or ["diagram"])[0]
    svg = svg.replace("<svg", f'<svg role="img" aria-label="diagram: {name}"', 1)
    svg = re.sub(r"<title>.*?</title>|<!--.*?-->", "", svg, flags=re.DOTALL)
    return f'<div class="{css_class}">{svg}</div>'
