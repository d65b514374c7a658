"""Options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_DROP = typer.Option(metavar="DROP", help="Largest loss of accuracy, or of the task's metric, such as 0.5%.")

AllowPython = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-python",
        metavar="MODULE:OBJECT",
        help="Run this code, named by a python: model in the folder; repeatable. Allow only code you trust.",
    ),
]
AllowBadBase = Annotated[
    bool, typer.Option("--allow-bad-base", help="Accept a base that is no better than chance on its labels.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Base = Annotated[str, typer.Option(metavar="NAME", help="The model to make cheaper.")]
CascadeFolder = Annotated[Path, typer.Argument(metavar="CASCADE", help="Cascade folder.")]
ClassMaxDrop = Annotated[
    list[str] | None,
    typer.Option(
        "--class-max-drop",
        metavar="NAME=DROP",
        help="Largest loss of accuracy within a class, such as fire=1%; repeatable.",
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
        help="Keep related samples together: by a regular expression whose first group is taken from the id; a column "
        "of the records, predictions or labels; a CSV file id,group; or none.",
    ),
]
Guarantee = Annotated[
    str | None, typer.Option(metavar="CONF", help="Certify the budget with this confidence, such as 90%.")
]
JudgeOn = Annotated[
    str,
    typer.Option(
        metavar="random|last", help="Evaluate on random samples, or on the last ones (for data in time order)."
    ),
]
MaxCost = Annotated[
    str | None, typer.Option(metavar="COST", help="Largest cost per sample, or a share of the base's, such as 40%.")
]
MaxDrop = Annotated[str | None, _DROP]
MaxDropOfAll = Annotated[str, _DROP]
MaxLatencyP95 = Annotated[
    float | None,
    typer.Option(
        "--max-latency-p95",
        metavar="MS",
        help="Largest 95th percentile of the time of single requests, by times in the records.",
    ),
]
MinMetric = Annotated[
    list[str] | None,
    typer.Option(
        "--min-metric",
        "--min-accuracy",
        metavar="VALUE",
        help="Least accuracy, or value of the task's metric, such as 95%.",
    ),
]
Plot = Annotated[Path | None, typer.Option(metavar="FILE", help="Also plot the figures, as .png or .svg.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder with records.")]
Score = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Exit score (see pilotfish tune --help); by default max_prob, or the task's own."
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of the split.")]
Split = Annotated[str, typer.Option(metavar="NAME", help="Split of the records.")]
Holdout = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        help="Share of the samples held out for evaluation; 0: evaluate on the samples used for tuning.",
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="classes|labels|boxes|mask",
        help="What an answer is; by default that of the data or the model, else classes.",
        callback=lambda name: _task(name),
    ),
]
TrainedOn = Annotated[
    str | None, typer.Option(metavar="SPEC", help="Training data of the models; samples found in it are refused.")
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Threads that read samples; one per core by default.")
]
WorstClassDrop = Annotated[
    str | None,
    typer.Option("--worst-class-drop", metavar="DROP", help="The same limit for all other classes."),
]


MetricName = Annotated[
    str | None,
    typer.Option("--metric", metavar="NAME", help="Metric, such as macro_f1; by default the task's first."),
]

GuessedTask = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help="What an answer is; by default that of the file.",
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
