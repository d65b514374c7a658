"""What commands print: one JSON document on stdout, or lines; notes on stderr.

Names, ids and specs come from files of others: whatever is printed here goes through :mod:`pilotfish.text`.
"""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pilotfish.text import json_line, one_line

if TYPE_CHECKING:
    from rich.console import Console


UNBROKEN = 100_000  # characters


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
