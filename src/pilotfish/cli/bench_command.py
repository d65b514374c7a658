"""``pilotfish bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def bench(
    cascade: Annotated[Path, typer.Argument(metavar="CASCADE", help="Cascade folder.")],
    data: Annotated[str, typer.Option(metavar="SPEC", help="folder:PATH, arrays:FILE.npz, or digits.")],
    exit_ratio: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE", help="Force this share to exit at the first stage, by a mask; such as 0.5 or 50%."
        ),
    ] = None,
    runs: Annotated[int, typer.Option(metavar="N", min=1, help="Counted runs, after one that is not.")] = 5,
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="Samples of the data to use, at most.")] = 500,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Threads that read samples; one per core by default.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, …")] = "cpu",
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="Also write the JSON document to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Time a cascade beside its stages alone, and beside what arithmetic allows.

    Example: pilotfish bench cascade --data folder:photos --exit-ratio 0.5
    """
    from pilotfish.cli.output import console, print_json, progress_bars, say, table
    from pilotfish.cli.parse import share
    from pilotfish.data import load_data
    from pilotfish.files import write_json
    from pilotfish.report.format import percent
    from pilotfish.runtime import Cascade
    from pilotfish.runtime import bench as run_bench

    forced = share(exit_ratio, "--exit-ratio")
    with progress_bars() as progress:
        loaded = Cascade.load(cascade, device)
        result = run_bench(
            loaded,
            load_data(data),
            exit_ratio=forced,
            runs=runs,
            samples=samples,
            workers=workers,
            progress=progress,
        )
    target = console(as_json)
    columns = [
        ("milliseconds per sample", "left"),
        ("batch", "right"),
        ("models only", "right"),
        ("[min, max]", "right"),
    ]
    columns += [("file to answer", "right"), ("[min, max]", "right")]
    alone, whole = result.model_only, result.end_to_end
    lines = [
        (f"{name} alone", str(size), alone.stages_ms[k], whole.stages_ms[k])
        for k, (name, size) in enumerate(zip(result.stages, result.batch_sizes, strict=True))
    ]
    lines += [
        ("ideal", "", alone.ideal_ms, whole.ideal_ms),
        ("realised", "", alone.realised_ms, whole.realised_ms),
        ("efficiency (ideal ÷ realised)", "", alone.efficiency, whole.efficiency),
    ]
    rows = []
    for name, size, a, b in lines:
        cells = [[f"{s.median:.3f}", f"[{s.low:.3f}, {s.high:.3f}]"] for s in (a, b)]
        rows.append([name, size, *cells[0], *cells[1]])
    ratio = " / ".join(percent(r, 1) for r in result.exit_ratio)
    title = f"{result.n} samples, exit ratio {ratio}{' (forced)' if forced is not None else ''}, {runs} runs"
    table(target, columns, rows, title=title, strong=len(rows) - 1)
    speed = result.speedup
    where = f"{result.machine['processor']}, {result.machine['cores']} cores"
    say(
        target,
        f"Speed-up over the base alone, file to answer: {speed.median:.2f}x [{speed.low:.2f}, {speed.high:.2f}]",
        f"Machine: {where}",
    )
    if out is not None:
        write_json(out, result.to_json())
    if as_json:
        print_json(result.to_json())
