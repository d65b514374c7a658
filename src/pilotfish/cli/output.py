"""What commands print: one JSON document on stdout, or tables; progress and notes on stderr.

Names, ids and specs come from files of others: whatever is printed here goes through :mod:`pilotfish.text`.
"""

from __future__ import annotations

import inspect
import json
import math
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any

from pilotfish.text import json_line, one_line, quantity

if TYPE_CHECKING:
    from rich.console import Console

    from pilotfish.cascade import Limits, Performance
    from pilotfish.recording.options import Progress


SECONDS_BETWEEN_LINES = 30
MOST_CLASSES = 20
UNBROKEN = 100_000  # characters
WIDEST = 120  # characters of a table where no terminal says how wide it is
BETWEEN = 3  # spaces between the columns of a table
EDGES = 2  # and beside them
NARROW = 16  # characters that a column of text has at least


def print_json(document: Any) -> None:
    """One JSON document on stdout, in ASCII where stdout is not UTF-8."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(document, indent=2, ensure_ascii=not unicode, allow_nan=False)
    sys.stdout.write("".join(f"{json_line(line)}\n" for line in text.split("\n")))
    sys.stdout.flush()  # a server goes on


def console(to_stderr: bool = False) -> Console:
    """A console as wide as the terminal; where there is none lines are not broken, so that a note stays one line."""
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else UNBROKEN
    return Console(stderr=to_stderr, width=width, highlight=False, soft_wrap=False, emoji=False)


def table(
    target: Console,
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[str]],
    title: str | None = None,
    strong: int | None = None,
    whole: bool = False,
) -> None:
    """Print a table. columns: (heading, "left" or "right"); strong: index of a row to stress; whole: a row is one line
    where there is no terminal.

    Its first column names what the rows are. A table wider than the terminal, or than WIDEST where there is none, is
    left without its empty columns, and headings, names and long texts are folded; where that does not make room for the
    names, they are listed above it, by number.
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
    """A heading in lines no longer than the longest of its words and its column's cells."""
    return "\n".join(textwrap.wrap(heading, max(1, *map(len, [*heading.split(" "), *cells]))))


def _widths(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Characters of each column; headings may have several lines."""
    columns = zip((max(heading.split("\n"), key=len) for heading in headings), *rows, strict=True)
    return [max(map(len, cells)) for cells in columns]


def _needs(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    return sum(_widths(headings, rows)) + BETWEEN * (len(headings) - 1)


def _folded(left: Sequence[bool], widths: Sequence[int], room: int) -> dict[int, int]:
    """The widths of long columns of text beside the first one, so that a table fits; none where that is too narrow."""
    long = [k for k in range(1, len(widths)) if left[k] and widths[k] > NARROW]
    others = sum(width for k, width in enumerate(widths) if k not in long)
    share = (room - others - BETWEEN * (len(widths) - 1)) // max(1, len(long))
    return {k: min(widths[k], share) for k in long} if share >= NARROW else {}


def performance_columns(first: str, shown: Performance) -> list[tuple[str, str]]:
    """The columns of a table of performances; *first* is the heading of what is measured."""
    from pilotfish.tasks import says_of

    numbers = ("n", says_of(shown.metric), "base", "drop [95 %]", "cost per sample", "exit ratio")
    return [(first, "left"), *((heading, "right") for heading in numbers)]


def performance_row(what: str, p: Performance, key: str | None) -> list[str]:
    """A row of that table. key: of the cost."""
    from pilotfish.report.format import cost_unit, format_cost, format_count, percent, plain_points

    unit = None if key is None or p.base_cost is None else cost_unit(key, p.base_cost)
    of_base = "" if p.cost is None or not p.base_cost else f" ({percent(p.cost / p.base_cost, 1)} of base)"
    low, high = p.drop_interval
    drop = f"{plain_points(p.drop)} [{plain_points(low)}, {plain_points(high)}]"
    counted = format_count(p.n) + (f" in {quantity(p.groups, 'group')}" if p.groups else "")
    exits = " / ".join(percent(r, 1) for r in p.exit_ratio)
    return [
        what,
        counted,
        percent(p.value),
        percent(p.base_value),
        drop,
        format_cost(key, p.cost, unit) + of_base,
        exits,
    ]


def limits_table(
    target: Console, judged: Performance, limits: Limits | None, guarantee: Mapping[str, Any] | None
) -> None:
    """What was limited beside the budget: drops per class, the nearest to its limit (or the farthest above it) first,
    and the latency. Nothing where nothing was."""
    from pilotfish.report.format import format_count, milliseconds, plain_points

    bounds = {} if guarantee is None else guarantee.get("classes", {})
    columns = [("class", "left"), ("n", "right"), ("drop [95 %]", "right"), ("limit", "right")]
    rows = []
    for c in sorted(judged.classes, key=lambda c: (c.limit or 0.0) - c.drop):
        low, high = c.drop_interval
        drop = f"{plain_points(c.drop)} [{plain_points(low)}, {plain_points(high)}]"
        bound = [plain_points(bounds[c.name]["bound"])] if c.name in bounds else [""] if bounds else []
        rows.append([c.name, format_count(c.n), drop, plain_points(c.limit or 0.0), *bound])
    shown, left = rows[:MOST_CLASSES], len(rows) - MOST_CLASSES
    rest = [[quantity(left, "other"), *[""] * (len(shown[0]) - 1)]] if left > 0 else []
    if rows:
        table(target, [*columns, *([("bound", "right")] if bounds else [])], [*shown, *rest])
    if judged.latency_p95 is not None and limits is not None:
        bound_ms = None if guarantee is None else guarantee["latency"]["bound"]
        bounded = "" if bound_ms is None else f"; bound {milliseconds(bound_ms)}"
        limit = milliseconds(limits.latency_p95)
        say(target, f"p95 of single requests: {milliseconds(judged.latency_p95)} (limit {limit}{bounded})")


def next_command(command: Callable[..., object], *words: str, **options: object) -> str:
    """What to type next: ``pilotfish tune run --seed 3``. Options that are None, or what *command* takes by default,
    are left out."""
    taken = inspect.signature(command).parameters
    told = {name: value for name, value in options.items() if value not in (None, taken[name].default)}
    named = [word for name, value in told.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["pilotfish", command.__name__.replace("_", "-"), *words, *named])


def say(target: Console, *lines: str, whole: bool = False) -> None:
    """Plain lines; names with brackets are not taken for markup. whole: each on one line, however long, so that the
    command in it can be copied."""
    for line in lines:
        target.print(one_line(line), markup=False, soft_wrap=whole)


def notes(found: Iterable[str]) -> None:
    """What the reader should know, on stderr."""
    target = console(to_stderr=True)
    for note in found:
        target.print(f"note: {one_line(note)}", markup=False, style="yellow")


def verdict(target: Console, found: Iterable[str]) -> list[str]:
    """Say a missed budget before anything else; returns the notes that are left to say at the end."""
    from pilotfish.plan.limit_notes import MISSED

    told = list(found)
    missed = [note for note in told if note.startswith(MISSED)]
    say(target, *missed)
    return [note for note in told if note not in missed]


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A progress bar on stderr for each thing in progress; lines where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if not speed else f"{speed:,.1f}/s" if speed < 100 else f"{speed:,.0f}/s")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    target = console(to_stderr=True)
    if not target.is_terminal:
        yield _lines(target)
        return
    bars = Progress(*columns, console=target, transient=False)
    tasks: dict[str, Any] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            bars.start()
            tasks[what] = bars.add_task(one_line(what), total=total, completed=done)
        bars.update(tasks[what], completed=done, total=total)

    try:
        yield tell
    finally:
        if tasks:  # bars that never started would still print an empty line
            bars.stop()


def _lines(target: Console) -> Progress:
    """A line per thing when it is done, and every half a minute before."""
    begun: dict[str, float] = {}
    said: dict[str, float] = {}

    def tell(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        first = begun.setdefault(what, now)
        if said.get(what) == math.inf or (done < total and now - said.get(what, first) < SECONDS_BETWEEN_LINES):
            return
        said[what] = now if done < total else math.inf
        rate = f"  {done / (now - first):,.1f}/s" if now > first else ""
        target.print(f"{one_line(what)}  {done:,}/{total:,}{rate}", markup=False)

    return tell
