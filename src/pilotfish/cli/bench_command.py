"""``pilotfish bench``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.options import AllowPython, AsJson, CascadeFolder, Data, Device, Plot, Workers
from pilotfish.text import quantity

if TYPE_CHECKING:
    from pilotfish.runtime import BenchResult
    from pilotfish.runtime.spread import Spread

COLUMNS = [("milliseconds per sample", "left"), ("backend", "left"), ("batch", "right"), ("lanes", "right")]
COLUMNS += [("models only", "right"), ("[min, max]", "right"), ("file to answer", "right"), ("[min, max]", "right")]
COLUMNS += [("to ours", "right")]


def bench(
    cascade: CascadeFolder,
    data: Data,
    exit_ratio: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Force this share, such as 50%, to exit at the first stage."),
    ] = None,
    runs: Annotated[int, typer.Option(metavar="N", min=1, help="Runs, after one that is not counted.")] = 5,
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="Largest number of samples to use.")] = 500,
    workers: Workers = None,
    peers: Annotated[bool, typer.Option(help="Also time other ways to run the same cascade.")] = True,
    device: Device = "cpu",
    allow_python: AllowPython = None,
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="Also write the JSON document to this file.")] = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Compare a cascade's speed with its stages and its ideal.

    Also times other ways to run the same cascade. Runs take turns, and the first is not counted; figures are medians
    with their range. A stage alone is the same engine with that one stage, as tune-runtime found it fastest. Then
    requests are timed one at a time, each on all cores: p50, p95 and p99.

    \b
    Example: pilotfish bench cascade --data folder:photos --exit-ratio 0.5 \\
        --plot bench.png
    """
    from pilotfish.cli.output import console, notes, print_json, say
    from pilotfish.cli.parse import share
    from pilotfish.cli.progress import progress_bars
    from pilotfish.cli.tables import table
    from pilotfish.data import load_data
    from pilotfish.files import write_json
    from pilotfish.plots import plot_format
    from pilotfish.plots.bench_plot import write_bench_plot
    from pilotfish.report.bench_table import brief_machine
    from pilotfish.runtime import Cascade
    from pilotfish.runtime import bench as run_bench

    forced = share(exit_ratio, "--exit-ratio")
    if plot is not None:
        plot_format(plot)  # refused before minutes of work
    with progress_bars() as progress:
        loaded = Cascade.load(cascade, device, allow_python=allow_python or ())
        result = run_bench(
            loaded,
            load_data(data),
            exit_ratio=forced,
            runs=runs,
            samples=samples,
            workers=workers,
            peers=peers,
            progress=progress,
        )
    target = console(as_json)
    how = " (forced)" if forced is not None else ""
    title = f"{quantity(result.n, 'sample')}, exit ratio {_ratios(result.exit_ratio)}{how}, {runs} runs"
    table(target, COLUMNS, _rows(result), title=title, strong=len(result.stages) + 1 + result.parts[-1])
    asked = result.single.requests
    table(
        target,
        [("milliseconds of a request, one at a time", "left"), ("p50", "right"), ("p95", "right"), ("p99", "right")],
        [
            [name, *(f"{ms:.2f}" for ms in dataclasses.astuple(found))]
            for name, found in zip(
                (f"{result.stages[0]} alone", f"{result.stages[-1]} alone", "cascade"),
                (asked.saver, asked.base, asked.cascade),
                strict=True,
            )
        ],
        title=f"{quantity(asked.n, 'request')}, file to answer, exit ratio {_ratios(asked.exit_ratio)}{how}",
        strong=2,
    )
    speed, single, choice = result.speedup, result.single, result.choices[0]
    lines = [
        f"Speed-up over the base alone, file to answer: {speed.median:.2f}x [{speed.low:.2f}, {speed.high:.2f}]",
        (
            f"Efficiency (ideal ÷ realised): {_shown(result.model_only.efficiency)} models only, "
            f"{_shown(result.end_to_end.efficiency)} file to answer, {_shown(result.decoded_once)} with decoding "
            f"counted once ({result.decode_ms.median:.2f} ms)"
        ),
        (
            f"One input that exits at once: {single.cascade_ms.median:.3f} ms, its saver's own call "
            f"{single.saver_ms.median:.3f} ms, overhead {_shown(single.overhead_ms)} ms"
        ),
    ]
    if result.decode_share is not None and result.base_decode_share is not None:
        ours, base = result.decode_share, result.base_decode_share
        lines.append(
            f"Decoding and preprocessing: {ours.ms.median:.2f} ms of the processor per sample, "
            f"{ours.share.median:.1%} of the cascade's time; {base.ms.median:.2f} ms, {base.share.median:.1%} of the "
            "base's alone"
        )
    if result.energy is not None:
        energy = result.energy
        lines.append(
            f"Energy ({', '.join(energy.meters)}): {energy.cascade_joules.median:.3f} J per input, the base alone "
            f"{energy.base_joules.median:.3f} J"
        )
    if peers and any(result.parts):
        lines.append(
            "No other way to run it is timed: the stages share a network, so running whole models in turn is no fair "
            "comparison"
        )
    measured = "" if choice.max_difference is not None else "; pilotfish tune-runtime has not run here"
    say(target, *lines, f"Machine: {brief_machine(result.machine)}{measured}")
    notes(result.notes)
    if plot is not None:
        write_bench_plot(result.to_json(), plot)
    if out is not None:
        write_json(out, result.to_json())
    if as_json:
        print_json(result.to_json())


def _ratios(exit_ratio: Sequence[float]) -> str:
    from pilotfish.report.format import percent

    return " / ".join(percent(share, 1) for share in exit_ratio)


def _rows(result: BenchResult) -> list[list[str]]:
    """Stages alone, ideal, realised, peers."""
    alone, whole = result.model_only, result.end_to_end
    ours = whole.realised_ms.median
    rows = [
        _row(
            f"{name} after the one before" if part else f"{name} alone",
            alone.stages_ms[k],
            whole.stages_ms[k],
            ours,
            choice.backend,
            choice.batch_size,
            choice.lanes,
        )
        for k, (name, choice, part) in enumerate(zip(result.stages, result.choices, result.parts, strict=True))
    ]
    if result.parts[-1]:
        rows.append(_row(f"{result.stages[-1]} alone", alone.base_ms, whole.base_ms, ours))
    rows.append(_row("ideal", alone.ideal_ms, whole.ideal_ms, ours))
    rows.append(_row("cascade", alone.realised_ms, whole.realised_ms, ours))
    rows += [_row(p.name, p.model_only, p.end_to_end, None, ratio=p.end_to_end_ratio.median) for p in result.peers]
    return rows


def _row(
    name: str,
    alone: Spread | None,
    whole: Spread,
    ours: float | None,
    backend: str | None = None,
    size: int | None = None,
    lanes: int | None = None,
    ratio: float | None = None,
) -> list[str]:
    cells = [cell for s in (alone, whole) for cell in (["", ""] if s is None else [f"{s.median:.3f}", _range(s)])]
    times = ratio if ratio is not None else whole.median / ours if ours else None
    plain = ["" if value is None else str(value) for value in (backend, size, lanes)]
    return [name, *plain, *cells, "" if times is None else f"{times:.2f}x"]


def _range(spread: Spread) -> str:
    return f"[{spread.low:.3f}, {spread.high:.3f}]"


def _shown(spread: Spread) -> str:
    return f"{spread.median:.3f} {_range(spread)}"
