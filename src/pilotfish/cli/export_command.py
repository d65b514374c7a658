"""``pilotfish export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotfish.cli.options import AllowPython, AsJson, CascadeFolder
from pilotfish.text import quantity


def export(
    cascade: CascadeFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .onnx file to write; with --by-stage, a folder.")],
    by_stage: Annotated[
        bool,
        typer.Option("--by-stage", help="Write a file per stage, for any batch size and programs that do the routing."),
    ] = False,
    batched: Annotated[
        bool, typer.Option("--batched", help="Take any number of samples at a time; by default one.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Samples to compare and time on; random inputs by default.")
    ] = None,
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="Largest number of samples to compare on.")] = 64,
    allow_python: AllowPython = None,
    as_json: AsJson = False,
) -> None:
    """Write a cascade as ONNX, for programs without Pilotfish.

    The file is checked against the engine. Later stages are branches that run only when needed. Each preprocessing has
    its own input.

    Example: pilotfish export cascade --out cascade.onnx --data folder:photos
    """
    from pilotfish.cli.output import console, notes, print_json, say
    from pilotfish.cli.progress import progress_bars
    from pilotfish.cli.tables import table
    from pilotfish.data import load_data
    from pilotfish.errors import UsageError
    from pilotfish.runtime.export import export as run_export
    from pilotfish.runtime.export import export_stages

    target = console(as_json)
    if by_stage:
        if batched:
            raise UsageError("--by-stage writes files for any batch size; remove --batched")
        written = export_stages(
            cascade,
            out,
            data=load_data(data) if data else None,
            samples=samples,
            allow_python=allow_python or (),
        )
        columns = [("stage", "left"), ("file", "left"), ("takes", "left"), ("gives", "left")]
        rows = [
            [
                one.name,
                one.file,
                " ".join(f"{name}{_sides(shape)}" for name, shape in one.inputs),
                " ".join(f"{name}{_sides(shape)}" for name, shape in one.outputs),
            ]
            for one in written.stages
        ]
        table(target, columns, rows)
        say(
            target,
            f"{written.path}: answers as the cascade on {quantity(written.samples, 'sample')}; policy in stages.json",
        )
        if as_json:
            print_json(written.to_json())
        return
    with progress_bars() as progress:
        found = run_export(
            cascade,
            out,
            batched=batched,
            data=load_data(data) if data else None,
            samples=samples,
            progress=progress,
            allow_python=allow_python or (),
        )
    columns = [("milliseconds per sample", "left"), ("one file", "right"), ("engine", "right"), ("", "right")]
    rows = [
        [
            "the cascade's own exits" if cost.stage is None else f"{found.stages[cost.stage]} answers",
            f"{cost.graph_ms:.3f}",
            f"{cost.engine_ms:.3f}",
            f"{cost.graph_ms / cost.engine_ms:.2f}x",
        ]
        for cost in found.costs
    ]
    table(target, columns, rows, title="in batches of 32" if batched else "one sample at a time, inputs ready")
    given = "; ".join(f"{i.name} float32 {i.shape} for {', '.join(i.stages)}" for i in found.inputs)
    say(
        target,
        f"{found.path}: {found.bytes / 1e6:.1f} MB; inputs: {given}",
        f"Checked on {quantity(found.samples, 'sample')}: {quantity(found.flips, 'exit differs', 'exits differ')}, "
        f"confidences by at most "
        f"{found.max_difference:.1g}",
    )
    if len(found.inputs) > 1:
        cost = "" if found.prepare_ms is None else f", {found.prepare_ms:.2f} ms per sample here"
        notes([f"every input must be prepared beforehand, even if the first stage answers{cost}"])
    if as_json:
        print_json(found.to_json())


def _sides(shape: tuple[int | str, ...]) -> str:
    """A shape without its batch: (64, 7, 7)."""
    return f"({', '.join(map(str, shape[1:]))})"
