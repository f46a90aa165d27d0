"""Tables as plain text. rich takes a tenth of a second to import, so it is imported only when something is printed."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

OUTPUTTER_INDENT = 4
"""Salt's nested outputter indents text by this number of columns."""
PIPE_WIDTH = 160
"""Columns of a table that is written to a pipe or a file."""


def for_a_person(opts: Mapping[str, Any]) -> bool:
    """Whether Salt's output is read by a person: not with --out=json or --out=yaml. opts: Salt's `__opts__`."""
    return opts.get("output") in (None, "nested", "highstate", "txt")


def text(renderable: RenderableType) -> str:
    """Render a table or text without colours, as wide as the terminal; 160 columns if there is no terminal."""
    from rich.console import Console

    width = shutil.get_terminal_size((PIPE_WIDTH, 24)).columns - OUTPUTTER_INDENT
    stream = io.StringIO()
    Console(file=stream, width=max(width, 60), color_system=None, highlight=False).print(renderable)
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def grid(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> Table:
    """Return a table without lines. Long text in the last column wraps; no text is interpreted as markup.

    rows: the cells, one sequence per row; all have the same length. header: titles of the columns, or none.
    """
    from rich.table import Table
    from rich.text import Text

    cells = [[Text(cell) for cell in row] for row in rows]
    table = Table(
        *(header or [""] * max(map(len, cells), default=0)),
        box=None,
        show_header=bool(header),
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for column in table.columns[:-1]:
        column.no_wrap = True
    for row in cells:
        table.add_row(*row)
    return table
