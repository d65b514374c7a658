"""``pilotfish quantise``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotfish.cli.options import AsJson
from pilotfish.text import quantity


def quantise(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model name (see pilotfish models).")],
    data: Annotated[str, typer.Option(metavar="SPEC", help="Samples to calibrate on, other than those to record.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .onnx file to write.")],
    samples: Annotated[int, typer.Option(metavar="N", help="Largest number of samples to calibrate on.")] = 128,
    calibration: Annotated[
        str, typer.Option(metavar="NAME", help="Calibration method: minmax, entropy or percentile.")
    ] = "minmax",
    min_agreement: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Keep the most harmful nodes in float32 until this share of other samples agrees; off by default.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write an int8 version of a model for ONNX Runtime. It is a new model: record it to measure it.

    \b
    Example: pilotfish quantise lite:efficientnet_lite0@224 \\
        --data folder:train --min-agreement 98% --out q.onnx
    """
    from pilotfish.cli.output import console, next_command, notes, print_json, say
    from pilotfish.cli.parse import share
    from pilotfish.cli.progress import progress_bars
    from pilotfish.cli.record_command import record
    from pilotfish.cli.tables import table
    from pilotfish.data import load_data
    from pilotfish.flow.quantise import quantise as run_quantise
    from pilotfish.report.format import milliseconds, percent

    with progress_bars() as progress:
        found = run_quantise(
            model,
            load_data(data),
            out,
            samples=samples,
            calibration=calibration,
            min_agreement=share(min_agreement, "--min-agreement"),
            progress=progress,
        )
    target = console(as_json)
    columns = [("", "left"), ("size", "right"), ("ms per sample", "right"), ("agreement", "right")]
    rows = [
        [model, f"{found.float_bytes / 1e6:,.1f} MB", milliseconds(found.float_ms), ""],
        [f"onnx:{found.path}", f"{found.bytes / 1e6:,.1f} MB", milliseconds(found.ms), percent(found.agreement, 1)],
    ]
    table(target, columns, rows)
    say(
        target,
        f"Calibrated on {quantity(found.samples, 'sample')}; agreement with the float model "
        f"on {quantity(found.compared, 'other')}, whose "
        f"probabilities differ by at most {found.max_difference:.3f}",
    )
    following = next_command(record, model=found.to_json()["model"], run="run", trained_on=data, data="folder:photos")
    say(target, f"Next, on other samples: {following}", whole=True)
    notes([f"{model}: {note}" for note in found.notes])
    if as_json:
        print_json(found.to_json())
