"""``pilotfish import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotfish.cli.options import AsJson, GroupBy, GuessedTask


def import_predictions(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help=".npz, .csv, .parquet or .json with predictions (docs/records.md).")
    ],
    run: Annotated[Path, typer.Option(metavar="DIR", help="Folder the records go into.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="Name of the model that made the predictions.")],
    split: Annotated[str, typer.Option(metavar="NAME", help="Name of the split.")] = "val",
    macs: Annotated[
        float | None, typer.Option(metavar="X", help="Multiply-adds per sample, such as 390000000.")
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(metavar="X", help="Milliseconds per sample.")] = None,
    cost: Annotated[
        list[str] | None, typer.Option(metavar="KEY=X", help="Any other cost per sample, as KEY=X; may be repeated.")
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="auto, timm for files of timm's inference script, or coco for results of detectors."
        ),
    ] = "auto",
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=".csv, .parquet or .json with the truth: id (or filename) and label; or COCO's instances.",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of COCO's results without --labels: an image id a line.")
    ] = None,
    group_by: GroupBy = None,
    task: GuessedTask = None,
    as_json: AsJson = False,
) -> None:
    """Store predictions made elsewhere as records.

    Example: pilotfish import resnet152.npz --run run --model resnet152 --macs 11500000000
    """
    from pilotfish.cli.output import console, notes, print_json, say
    from pilotfish.cli.parse import key_values
    from pilotfish.records import Run, import_file, judge_records
    from pilotfish.report.format import format_count

    costs = key_values(cost or [], "--cost")
    costs |= {} if macs is None else {"macs": macs}
    costs |= {} if latency_ms is None else {"ms": latency_ms}
    target = Run(run)
    classes = target.class_names(split, but=model)
    records = import_file(file, model, split, costs, format, labels, group_by, task, classes, images)
    path = target.write(records)
    labelled = "labelled" if records.has_labels else "without labels"
    say(console(as_json), f"{model}: {format_count(len(records))} rows on split {split}, {labelled}, in {path}")
    on_chance = judge_records(records).note
    said = [*records.meta.notes, *([] if on_chance is None else [on_chance])]
    notes(said)
    if as_json:
        document = {"run": str(run), "model": model, "split": split, "n": len(records)}
        print_json({**document, "cost": dict(records.meta.costs), "path": str(path), "notes": said})
