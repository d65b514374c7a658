"""Tables that fold to fit the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING

from pilotfish.cli.output import UNBROKEN, say
from pilotfish.text import one_line

if TYPE_CHECKING:
    from rich.console import Console


WIDEST = 120  # characters of a table where no terminal says how wide it is
BETWEEN = 3  # spaces between the columns of a table
EDGES = 2  # and beside them
NARROW = 16  # characters that a column of text has at least


def table(
    target: Console,
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[str]],
    title: str | None = None,
    strong: int | None = None,
    whole: bool = False,
) -> None:
    """Print a table. columns: (heading, "left" or "right"); strong: index of a row to stress; whole: a row is one line
    if there is no terminal.

    The first column names the rows. If the table is wider than the terminal, or than WIDEST without one, empty columns
    are removed, and headings, names and long texts are folded; names that still do not fit are listed above the table,
    by number.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = [[one_line(cell) for cell in row] for row in rows]
    headings = [one_line(heading) for heading, _ in columns]
    left = [justify != "right" for _, justify in columns]
    width = WIDEST if target.width == UNBROKEN and not whole else target.width
    room = width - EDGES
    listed: list[str] = []
    folded: dict[int, int] = {}
    if _needs(headings, shown) > room:
        kept = [k for k in range(len(headings)) if not k or not shown or any(row[k] for row in shown)]
        left, shown = [left[k] for k in kept], [[row[k] for k in kept] for row in shown]
        headings = [headings[k] for k in kept]
        broken = [headings[0], *(_broken(head, [row[k] for row in shown]) for k, head in enumerate(headings[1:], 1))]
        words = [[max(row[0].split(" "), key=len), *row[1:]] for row in shown]
        for heads, cells in product((headings, broken), (shown, words)):
            folded = _folded(left, _widths(heads, cells), room)
            if folded or _needs(heads, cells) <= room:
                headings = heads
                break
        else:
            headings = broken
            listed = [f"{k:>3}  {row[0]}" for k, row in enumerate(shown, 1)]
            shown = [[str(k), *row[1:]] for k, row in enumerate(shown, 1)]
    made = Table(
        box=box.SIMPLE_HEAD,
        title=None if title is None or listed else Text(one_line(title), style="bold"),
        title_justify="left",
        pad_edge=False,
    )
    for index, heading in enumerate(headings):
        made.add_column(
            Text("" if listed and not index else heading),
            justify="left" if left[index] else "right",
            no_wrap=index > 0 and not listed and index not in folded,
            width=folded.get(index),
            overflow="ellipsis" if index and not listed and index not in folded else "fold",  # names tell rows apart
        )
    for index, row in enumerate(shown):
        made.add_row(*map(Text, row), style="bold green" if index == strong else None)
    if listed:
        say(target, *([] if title is None else [title]), *listed)
    target.print(made, width=width)


def _broken(heading: str, cells: Sequence[str]) -> str:
    """A heading wrapped to the longest of its words and its column's cells."""
    return "\n".join(textwrap.wrap(heading, max(1, *map(len, [*heading.split(" "), *cells]))))


def _widths(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Characters of each column; headings may have several lines."""
    columns = zip((max(heading.split("\n"), key=len) for heading in headings), *rows, strict=True)
    return [max(map(len, cells)) for cells in columns]


def _needs(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    return sum(_widths(headings, rows)) + BETWEEN * (len(headings) - 1)


def _folded(left: Sequence[bool], widths: Sequence[int], room: int) -> dict[int, int]:
    """Widths of long text columns after the first that make the table fit; empty if they would be too narrow."""
    long = [k for k in range(1, len(widths)) if left[k] and widths[k] > NARROW]
    others = sum(width for k, width in enumerate(widths) if k not in long)
    share = (room - others - BETWEEN * (len(widths) - 1)) // max(1, len(long))
    return {k: min(widths[k], share) for k in long} if share >= NARROW else {}
