"""``pilotfish savers``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def savers(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder with records.")],
    base: Annotated[str, typer.Option(metavar="NAME", help="The model to make cheaper.")],
    cost: Annotated[
        str, typer.Option(metavar="KEY", help="Cost key: macs, ms, ms@cpu-b8, or one of your own.")
    ] = "macs",
    score: Annotated[str, typer.Option(metavar="NAME", help="Exit score.")] = "max_prob",
    split: Annotated[str, typer.Option(metavar="NAME", help="Split to judge on.")] = "val",
    holdout: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of the samples kept to check the drop on.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the split.")] = 0,
    method: Annotated[str, typer.Option(metavar="NAME", help="sweep, first_violation or grid50.")] = "sweep",
    max_drop: Annotated[str, typer.Option(metavar="DROP", help="Accuracy that may be lost, such as 0.5%.")] = "0",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Rank the models of a run as savers for a base, by the cost they would save.

    Example: pilotfish savers run --base timm:resnet152
    """
    from pilotfish.cli.output import console, notes, print_json, say, table
    from pilotfish.cli.parse import fraction
    from pilotfish.plan import rank_savers
    from pilotfish.records import open_run
    from pilotfish.report.format import format_threshold, percent, plain_points, signed_percent

    found = rank_savers(
        open_run(run),
        base,
        cost=cost,
        score=score,
        split=split,
        holdout=holdout,
        seed=seed,
        method=method,
        max_drop=fraction(max_drop, "--max-drop") or 0.0,
    )
    rows = []
    for s in found.savers:
        ratio = "–" if s.cost_ratio is None else f"{s.cost_ratio:.4f}"
        row = [s.saver, percent(s.accuracy), ratio, percent(s.exit_ratio, 1), format_threshold(s.threshold)]
        row.append(signed_percent(s.delta_cost, 1))
        if s.held_out is not None:
            row += [percent(s.held_out["exit_ratio"], 1), plain_points(s.held_out["drop"] or 0.0)]
        rows.append(row)
    columns = [("saver", "left"), ("accuracy", "right"), ("C_S/C_B", "right"), ("exit ratio", "right")]
    columns += [("threshold", "right"), ("ΔC", "right")]
    if found.holdout > 0:
        columns += [("held out: exit ratio", "right"), ("drop (points)", "right")]
    what = "agreement" if found.reference == "base" else "accuracy"
    title = f"Savers for {base} ({what} {percent(found.base_accuracy)}, n = {found.n:,})"
    target = console(as_json)
    best = next((i for i, s in enumerate(found.savers) if s.saver == found.best), None)
    table(target, columns, rows, title=title, strong=best)
    if found.best is None:
        costs_known = any(s.delta_cost is not None for s in found.savers)
        unknown = (
            "Without costs no saving is known." if found.savers else f"No other model here can be a saver for {base}."
        )
        say(target, "No saver saves anything: run the base alone." if costs_known else unknown)
    else:
        say(target, f"Best: {found.best}. Next: {_next_command(run, found.best, base)}")
    notes(found.notes)
    if as_json:
        print_json(found.to_json())


def _next_command(run: Path, saver: str, base: str) -> str:
    import shlex

    return shlex.join(["pilotfish", "tune", str(run), "--stages", f"{saver},{base}", "--max-drop", "0.5%"])
