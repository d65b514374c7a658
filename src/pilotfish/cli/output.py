"""Output of commands: one JSON document or lines on stdout, notes on stderr.

Names, ids and specs come from untrusted files: everything printed here goes through :mod:`pilotfish.text`.
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
    """Print one JSON document on stdout, in ASCII unless stdout is UTF-8."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(document, indent=2, ensure_ascii=not unicode, allow_nan=False)
    sys.stdout.write("".join(f"{json_line(line)}\n" for line in text.split("\n")))
    sys.stdout.flush()  # a server goes on


def console(to_stderr: bool = False) -> Console:
    """A console as wide as the terminal. Without a terminal, lines are not broken: a note stays one line."""
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else UNBROKEN
    return Console(stderr=to_stderr, width=width, highlight=False, soft_wrap=False, emoji=False)


def next_command(command: Callable[..., object], *words: str, **options: object) -> str:
    """The command to type next: ``pilotfish tune run --seed 3``. Options that are None or have the default of *command*
    are left out."""
    taken = inspect.signature(command).parameters
    told = {name: value for name, value in options.items() if value not in (None, taken[name].default)}
    named = [word for name, value in told.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["pilotfish", command.__name__.replace("_", "-"), *words, *named])


def say(target: Console, *lines: str, whole: bool = False) -> None:
    """Print plain lines, without markup. whole: each on one line, however long, so that commands can be copied."""
    for line in lines:
        target.print(one_line(line), markup=False, soft_wrap=whole)


def notes(found: Iterable[str]) -> None:
    """Print notes on stderr."""
    target = console(to_stderr=True)
    for note in found:
        target.print(f"note: {one_line(note)}", markup=False, style="yellow")


def verdict(target: Console, found: Iterable[str]) -> list[str]:
    """Print missed budgets first. Returns the remaining notes, to print at the end."""
    from pilotfish.plan.limit_notes import MISSED

    told = list(found)
    missed = [note for note in told if note.startswith(MISSED)]
    say(target, *missed)
    return [note for note in told if note not in missed]
