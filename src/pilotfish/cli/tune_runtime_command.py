"""``pilotfish tune-runtime``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.options import AllowPython, AsJson, Device

if TYPE_CHECKING:
    from pilotfish.runtime.measure import Measured


def tune_runtime(
    cascade: Annotated[Path, typer.Argument(metavar="CASCADE", help="Cascade folder; runtime.json is written there.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Samples to compare the answers of backends on; random inputs by default."),
    ] = None,
    device: Device = "cpu",
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Backends to try, separated by commas: onnxruntime, openvino, torch, torch-channels-last, "
            "torch-compiled, torch-cuda-graphs; by default all but torch-compiled, which takes a minute per stage.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(metavar="S", min=0.1, help="Approximate time for each stage.")] = 20.0,
    allow_python: AllowPython = None,
    as_json: AsJson = False,
) -> None:
    """Find the fastest way to run each stage on this device.

    The backend, batch size and threads are kept in the cascade. Answers change only by rounding; the largest difference
    from torch is measured and kept as well.

    Example: pilotfish tune-runtime cascade --data folder:photos
    """
    from pilotfish.cli.output import console, notes, print_json, say
    from pilotfish.cli.parse import name_list
    from pilotfish.cli.progress import progress_bars
    from pilotfish.cli.tables import table
    from pilotfish.data import load_data
    from pilotfish.runtime import tune_runtime as run_tune

    with progress_bars() as progress:
        found = run_tune(
            cascade,
            load_data(data) if data else None,
            device=device,
            backends=name_list(backend) if backend else None,
            seconds=seconds,
            progress=progress,
            allow_python=allow_python or (),
        )
    target = console(as_json)
    columns = [("stage", "left"), ("backend", "left"), ("batch", "right"), ("threads", "right"), ("lanes", "right")]
    columns += [("ms per sample", "right"), ("", "left")]
    rows: list[list[str]] = []
    for stage in found.stages:
        chosen = stage.chosen
        key = (chosen.backend, chosen.batch_size, chosen.threads, chosen.lanes)
        rows.append([stage.stage, *_cells(*key, chosen.ms), "chosen"])
        others: dict[tuple[object, ...], Measured] = {}
        for m in stage.measured:  # the best of each other way
            others.setdefault((m.backend, m.threads, m.lanes), m)
        for m in others.values():
            if (m.backend, m.threads, m.lanes) != (chosen.backend, chosen.threads, chosen.lanes):
                times = f"{m.ms / chosen.ms:.2f}x" if chosen.ms else ""
                rows.append(["", *_cells(m.backend, m.batch_size, m.threads, m.lanes, m.ms), times])
    table(target, columns, rows, title=found.device)
    differences = [s.chosen.max_difference for s in found.stages if s.chosen.max_difference is not None]
    worst = [f"Largest difference of a probability from torch: {max(differences):.1g}"] if differences else []
    say(target, *worst, f"Kept in {found.path}")
    notes(note for stage in found.stages for note in stage.notes)
    if as_json:
        print_json(found.to_json())


def _cells(backend: str | None, size: int, threads: int | None, lanes: int, ms: float | None) -> list[str]:
    shown = "" if threads is None else str(threads)
    return [backend or "", str(size), shown, str(lanes), "" if ms is None else f"{ms:.3f}"]
