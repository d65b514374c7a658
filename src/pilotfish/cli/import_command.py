"""``pilotfish import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotfish.cli.options import AsJson, GroupBy, GuessedTask
from pilotfish.text import quantity


def import_predictions(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help=".npz, .csv, .parquet or .json with predictions (docs/records.md)."),
    ],
    run: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the records.")],
    model: Annotated[
        str,
        typer.Option(metavar="NAME", help="Name of the model; for several files, one each: small,big."),
    ],
    split: Annotated[str, typer.Option(metavar="NAME", help="Name of the split.")] = "val",
    macs: Annotated[
        list[float] | None,
        typer.Option(metavar="X", help="Multiply-adds per sample, such as 390000000; for several files, one each."),
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(metavar="X", help="Milliseconds per sample.")] = None,
    cost: Annotated[
        list[str] | None, typer.Option(metavar="KEY=X", help="Another cost per sample, such as usd=0.0004; repeatable.")
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="auto; timm: output of timm's inference script; coco: results of a detector."
        ),
    ] = "auto",
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The truth as .csv, .parquet or .json with id (or filename) and label, or COCO instances.",
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For COCO results without --labels: a file with one image id per line."),
    ] = None,
    group_by: GroupBy = None,
    task: GuessedTask = None,
    as_json: AsJson = False,
) -> None:
    """Store predictions made elsewhere as records.

    \b
    Example: pilotfish import resnet152.npz --run run --model resnet152 \\
        --macs 11500000000

    \b
    Example: pilotfish import ssd.json rcnn.json --labels instances.json \\
        --run run --model ssd,rcnn
    """
    from pilotfish.cli.output import console, notes, print_json, say
    from pilotfish.cli.parse import key_values
    from pilotfish.errors import UsageError
    from pilotfish.records import Run, import_file, judge_records

    models = [model] if len(files) == 1 else [name.strip() for name in model.split(",")]
    if len(models) != len(files):
        raise UsageError(f"{len(files)} files need as many names, --model A,B; found {', '.join(models)}")
    if macs and len(macs) != len(files):
        raise UsageError(f"{len(files)} files need --macs once each, in their order; found it {len(macs)} times")
    shared = key_values(cost or [], "--cost") | ({} if latency_ms is None else {"ms": latency_ms})
    target, documents = Run(run), []
    for k, (file, name) in enumerate(zip(files, models, strict=True)):
        costs = shared | ({"macs": macs[k]} if macs else {})
        classes = target.class_names(split, but=name)
        records = import_file(file, name, split, costs, format, labels, group_by, task, classes, images)
        path = target.write(records)
        labelled = "labelled" if records.has_labels else "without labels"
        say(console(as_json), f"{name}: {quantity(len(records), 'row')} on split {split}, {labelled}, in {path}")
        on_chance = judge_records(records).note
        said = [*records.meta.notes, *([] if on_chance is None else [on_chance])]
        notes(said)
        document = {"run": str(run), "model": name, "split": split, "n": len(records)}
        documents.append({**document, "cost": dict(records.meta.costs), "path": str(path), "notes": said})
    if as_json:
        print_json(documents[0] if len(files) == 1 else documents)
