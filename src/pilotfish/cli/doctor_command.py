"""``pilotfish doctor``."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

from pilotfish.cli.options import AsJson

if TYPE_CHECKING:
    from pilotfish.doctor import Examination


def doctor(as_json: AsJson = False) -> None:
    """Check the installation, the devices and the gain of int8.

    Shows what works, which devices there are, and what int8 and bfloat16 gain on this processor.

    Example: pilotfish doctor
    """
    from pilotfish.cli.output import notes, print_json
    from pilotfish.cli.progress import progress_bars
    from pilotfish.doctor import examine

    try:
        import rich.progress  # noqa: F401
    except Exception:  # what is broken may be what prints tables
        print_json(examine().to_json())
        return
    with progress_bars() as progress:
        found = examine(progress)
    if as_json:
        print_json(found.to_json())
    else:
        _show(found)
    notes(found.notes)


def _show(found: Examination) -> None:
    from pilotfish.cli.output import console, say
    from pilotfish.cli.tables import table
    from pilotfish.machine import BF16_PRODUCTS, INT8_PRODUCTS
    from pilotfish.text import listed

    target = console()
    say(target, f"pilotfish {found.version}, Python {found.python}, {platform.platform()}")
    rows = [
        [extra or "(core)", _mark(all(p.works for p in needed)), listed([p.name for p in needed if not p.works], 2)]
        for extra, needed in found.packages.items()
    ]
    if rows:
        table(target, [("extra", "left"), ("works", "left"), ("lacks", "left")], rows)
    if not all(found.extras.values()):
        say(target, "an extra is installed by its name: pip install 'pilotfish[NAME]'", "")
    here = found.processor
    flags = ", ".join(sorted(here.flags & (INT8_PRODUCTS | BF16_PRODUCTS)))
    has = f"VNNI {_mark(here.vnni)}, bf16 {_mark(here.bf16)}{flags and f' ({flags})'}"
    say(target, *found.devices, f"instructions of the processor: {has}")
    if found.precision:
        columns = [("precision", "left"), ("ms", "right"), ("gain", "right"), ("by", "left")]
        table(target, columns, [[p.dtype, f"{p.ms:.2f}", f"{p.gain:.2f}x", p.by] for p in found.precision])
    say(target, *found.verdict)
    there = {p.name: p.version for needed in found.packages.values() for p in needed if p.version is not None}
    if there:
        say(target, "", f"installed: {', '.join(f'{name} {version}' for name, version in there.items())}")


def _mark(there: bool) -> str:
    words = ("✓ yes", "✗ no")[not there]
    try:
        words.encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return words[2:]
    return words
