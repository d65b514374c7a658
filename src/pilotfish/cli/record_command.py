"""``pilotfish record``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotfish.cli.options import AsJson, Data, Device, GroupBy, Task, TrainedOn, Workers


def record(
    data: Data,
    model: Annotated[
        list[str], typer.Option(metavar="NAME", help="Model name; repeat or separate by commas (see pilotfish models).")
    ],
    run: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the records.")],
    alias: Annotated[
        str | None,
        typer.Option("--as", metavar="ALIAS", help="Name for the records of a single model; by default the model's."),
    ] = None,
    split: Annotated[str, typer.Option(metavar="NAME", help="Name of the split.")] = "val",
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Samples per batch; by default the fastest measured.")
    ] = None,
    device: Device = "cpu",
    workers: Workers = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="full|topK",
            help="Logits to keep: full, or the K best, such as top5; by default full up to 128 classes, else top10.",
        ),
    ] = None,
    augment: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="Record augmented views, the same for every model, by this seed."),
    ] = None,
    timing: Annotated[bool, typer.Option(help="Measure the time per sample, in batches and one by one.")] = True,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=X", help="Another cost per sample of a single model, such as joules=0.8; repeatable."
        ),
    ] = None,
    group_by: GroupBy = None,
    task: Task = None,
    trained_on: TrainedOn = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace records made with other settings.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run models over data and record their outputs. Repeat the command to resume an interrupted recording.

    \b
    Example: pilotfish record --data folder:photos \\
        --model timm:resnet18,timm:resnet152 --run run
    """
    from pilotfish.cli.output import console, notes, print_json
    from pilotfish.cli.parse import key_values, name_list
    from pilotfish.cli.progress import progress_bars
    from pilotfish.cli.tables import table
    from pilotfish.recording import RecordOptions
    from pilotfish.recording import record as run_record
    from pilotfish.report.format import format_cost, format_count

    options = RecordOptions(
        split=split,
        batch_size=batch_size,
        device=device,
        workers=workers,
        store=store,
        augment=augment,
        timing=timing,
        overwrite=overwrite,
        costs=key_values(cost or [], "--cost"),
        group_by=group_by,
        task=task,
    )
    with progress_bars() as progress:
        results = run_record(
            data, name_list(model), run, alias=alias, options=options, progress=progress, trained_on=trained_on
        )
    rows = [
        [
            r.model,
            r.split,
            format_count(r.n),
            format_cost("macs", r.cost.get("macs")),
            format_cost("ms", r.cost.get("ms")),
            "there already" if r.skipped else f"{r.rate:,.1f}/s" if r.rate else "",
        ]
        for r in results
    ]
    columns = [("model", "left"), ("split", "left"), ("rows", "right"), ("MACs", "right"), ("time", "right")]
    table(console(as_json), [*columns, ("recorded at", "right")], rows)
    notes(f"{r.model}: {note}" for r in results for note in r.all_notes)
    if as_json:
        print_json([r.to_json() for r in results])
