"""Progress on stderr: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pilotfish.cli.output import console
from pilotfish.text import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from pilotfish.recording.options import Progress


SECONDS_BETWEEN_LINES = 30


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Progress bars on stderr; lines if it is not a terminal."""
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
    """A line per task when it is done, and every half minute until then."""
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
