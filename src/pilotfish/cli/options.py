"""Options that several commands take, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_DROP = typer.Option(metavar="DROP", help="Accuracy, or other metric of the task, that may be lost, such as 0.5%.")

AllowPython = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-python",
        metavar="MODULE:OBJECT",
        help="Run this code, which a python: model of the folder names; repeatable. Only where you trust who wrote it.",
    ),
]
AllowBadBase = Annotated[
    bool, typer.Option("--allow-bad-base", help="Accept a base that is no better than chance on its labels.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Base = Annotated[str, typer.Option(metavar="NAME", help="The model to make cheaper.")]
CascadeFolder = Annotated[Path, typer.Argument(metavar="CASCADE", help="Cascade folder.")]
ClassMaxDrop = Annotated[
    list[str] | None,
    typer.Option(
        "--class-max-drop",
        metavar="NAME=DROP",
        help="Beside the budget, accuracy that may be lost among the samples of a class, such as fire=1%; repeatable.",
    ),
]
CostKey = Annotated[
    str,
    typer.Option(
        metavar="KEY", help="Cost key: macs, ms@cpu (throughput), ms@cpu-b1, ms@cuda-b128, … or one of your own."
    ),
]
Data = Annotated[str, typer.Option(metavar="SPEC", help="folder:PATH, arrays:FILE.npz, idx:FILE, or digits.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, …")]
Embed = Annotated[bool, typer.Option(help="Copy the models' weights into the cascade folder.")]
GroupBy = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX|COLUMN|FILE",
        help="Samples that belong together: a regular expression whose first group is taken from the id, a column of "
        "the records, the predictions or the labels, a CSV file id,group; or none.",
    ),
]
Guarantee = Annotated[
    str | None, typer.Option(metavar="CONF", help="Keep the budget on all data with this confidence, such as 90%.")
]
JudgeOn = Annotated[
    str, typer.Option(metavar="random|last", help="Judge on a random part, or on the last samples (data in time).")
]
MaxCost = Annotated[
    str | None, typer.Option(metavar="COST", help="Cost per sample, or a share of the base's such as 40%.")
]
MaxDrop = Annotated[str | None, _DROP]
MaxDropOfAll = Annotated[str, _DROP]
MaxLatencyP95 = Annotated[
    float | None,
    typer.Option(
        "--max-latency-p95",
        metavar="MS",
        help="Beside the budget, milliseconds that 95% of single requests may take, by times in the records.",
    ),
]
MinMetric = Annotated[
    list[str] | None,
    typer.Option(
        "--min-metric",
        "--min-accuracy",
        metavar="VALUE",
        help="Least accuracy (or other metric of the task) to keep, such as 95%.",
    ),
]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw the figures, as .png or .svg.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder with records.")]
Score = Annotated[str | None, typer.Option(metavar="NAME", help="Exit score; see pilotfish tune --help.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of the split.")]
Split = Annotated[str, typer.Option(metavar="NAME", help="Split of the records.")]
Holdout = Annotated[
    float, typer.Option(metavar="SHARE", help="Share of the samples to judge on; 0 judges where it was chosen.")
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="classes|labels|boxes|mask",
        help="What an answer is; by default as the data or the model say it, else classes.",
        callback=lambda name: _task(name),
    ),
]
TrainedOn = Annotated[
    str | None, typer.Option(metavar="SPEC", help="The models' training data; samples that are in it are refused.")
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Threads that read samples; one per core by default.")
]
WorstClassDrop = Annotated[
    str | None,
    typer.Option(
        "--worst-class-drop", metavar="DROP", help="The same for every class that --class-max-drop does not name."
    ),
]


MetricName = Annotated[
    str | None,
    typer.Option("--metric", metavar="NAME", help="What is measured, where the task has several, such as macro_f1."),
]

GuessedTask = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help="What an answer is; by default what the file holds.",
        callback=lambda name: _task(name),
    ),
]


def _task(name: str | None) -> str | None:
    from pilotfish.errors import UsageError
    from pilotfish.tasks import find_task

    if name is None:
        return None
    try:
        return find_task(name).name
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error
