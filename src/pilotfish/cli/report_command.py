"""``pilotfish report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotfish.cli.options import AsJson, MetricName


def report(
    source: Annotated[Path, typer.Argument(help="A run folder or a cascade folder.", metavar="RUN_OR_CASCADE")],
    out: Annotated[Path, typer.Option(metavar="PATH", help="HTML file to write.")],
    base: Annotated[str | None, typer.Option(metavar="NAME", help="For a run: the base of the savers shown.")] = None,
    stages: Annotated[str | None, typer.Option(metavar="S,B", help="For a run: the saver and base to show.")] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For a cascade: its run, for the plots that need records.")
    ] = None,
    cost: Annotated[
        str | None, typer.Option(metavar="KEY", help="Cost key; by default macs, or the cascade's own.")
    ] = None,
    score: Annotated[
        str | None, typer.Option(metavar="NAME", help="Exit score; by default the task's first, or the cascade's own.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Split to show; by default val, or the one the cascade was tuned on."),
    ] = None,
    bench: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Output of pilotfish bench --json to show.")
    ] = None,
    metric: MetricName = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="The images; those where saver and base differ most are drawn."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write an offline HTML report with plots and tables.

    Example: pilotfish report run --base timm:resnet152 --out report.html
    """
    from pilotfish.cascade import load_artefact
    from pilotfish.cli.output import console, notes, print_json, say, verdict
    from pilotfish.cli.parse import name_list
    from pilotfish.data import load_data
    from pilotfish.errors import UsageError
    from pilotfish.files import read_json
    from pilotfish.records import open_run
    from pilotfish.report import write_report

    is_cascade = (source / "cascade.json").is_file()
    if not is_cascade and base is None and stages is None:
        raise UsageError(f"{source} is not a cascade folder; for a run, give --base NAME or --stages SAVER,BASE")
    timed = source / "bench.json" if bench is None and is_cascade and (source / "bench.json").is_file() else bench
    folder = run if is_cascade else source
    said: list[str] = []
    path = write_report(
        out,
        run=None if folder is None else open_run(folder),
        base=base,
        stages=name_list([stages]) if stages else None,
        artefact=load_artefact(source) if is_cascade else None,
        cost=cost,
        score=score,
        split=split,
        metric=metric,
        bench=None if timed is None else read_json(timed, UsageError),
        data=None if data is None else load_data(data),
        tell=said.append,
    )
    target = console(as_json)
    left = verdict(target, said)
    say(target, f"Report: {path}")
    notes(left)
    if as_json:
        print_json({"report": str(path), "notes": said})
