"""``pilotfish demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotfish.cli.options import AsJson


def demo(
    out: Annotated[
        Path, typer.Option(metavar="PATH", help="Folder for the models, records, cascade and report.")
    ] = Path("demo"),
    as_json: AsJson = False,
) -> None:
    """Run the whole job offline on an embedded data set.

    Trains networks, records them, tunes a cascade, benchmarks it and writes a report.

    Example: pilotfish demo --out demo
    """
    from pilotfish.cli.build_command import show_build
    from pilotfish.cli.output import print_json
    from pilotfish.cli.progress import progress_bars
    from pilotfish.flow import demo as run_demo

    with progress_bars() as progress:
        result = run_demo(out, progress)
    show_build(result, to_stderr=as_json)
    if as_json:
        print_json(result.to_json())
