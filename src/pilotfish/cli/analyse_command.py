"""``pilotfish analyse``."""

from __future__ import annotations

from typing import Annotated

import typer

from pilotfish.cli.options import (
    AsJson,
    Base,
    CostKey,
    GroupBy,
    MaxDropOfAll,
    MetricName,
    Plot,
    RunFolder,
    Score,
    Split,
)


def analyse(
    run: RunFolder,
    base: Base,
    saver: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Saver to analyse; repeat or separate by commas; all by default."),
    ] = None,
    split: Split = "val",
    train: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Split to choose savers on; by default train, or half of --split if there is none."
        ),
    ] = None,
    cost: CostKey = "macs",
    score: Score = None,
    max_drop: MaxDropOfAll = "0.5%",
    draws: Annotated[int, typer.Option(metavar="N", help="Bootstrap draws per saver.")] = 200,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the split and the draws.")] = 0,
    plot: Plot = None,
    group_by: GroupBy = None,
    metric: MetricName = None,
    as_json: AsJson = False,
) -> None:
    """Explain why a saver saves or does not.

    Failure ranking, mistakes, break-even, noise, selection, transfer.

    Example: pilotfish analyse run --base timm:resnet152 --plot analysis.png
    """
    from pilotfish.cli.analysis_tables import analysis_tables
    from pilotfish.cli.output import console, notes, print_json, say
    from pilotfish.cli.parse import fraction, name_list
    from pilotfish.cli.tables import table
    from pilotfish.plan.analysis import analyse as analyse_run
    from pilotfish.plots import plot_format
    from pilotfish.plots.analysis_plot import write_plot
    from pilotfish.records import open_run

    if plot is not None:
        plot_format(plot)  # a name that cannot be drawn is refused before the work
    found = analyse_run(
        open_run(run),
        base,
        savers=name_list(saver) if saver else None,
        split=split,
        train=train,
        cost=cost,
        score=score,
        max_drop=fraction(max_drop, "--max-drop") or 0.0,
        draws=draws,
        seed=seed,
        group_by=group_by,
        metric=metric,
    )
    target = console(as_json)
    for made in analysis_tables(found):
        table(target, made.columns, made.rows, title=made.title)
        say(target, *made.after)
    if plot is not None:
        write_plot(found, plot)
        say(target, f"Plot: {plot}")
    notes(found.notes)
    if as_json:
        print_json(found.to_json())
