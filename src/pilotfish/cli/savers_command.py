"""``pilotfish savers``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotfish.cli.options import (
    AsJson,
    CostKey,
    GroupBy,
    Holdout,
    MaxDropOfAll,
    MetricName,
    RunFolder,
    Score,
    Seed,
    Split,
)


def savers(
    run: RunFolder,
    base: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model to make cheaper (or --all-bases).")
    ] = None,
    all_bases: Annotated[
        bool, typer.Option("--all-bases", help="Show the best saver of every model of the run.")
    ] = False,
    cost: CostKey = "macs",
    score: Score = None,
    split: Split = "val",
    holdout: Holdout = 0.0,
    seed: Seed = 0,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Tuning method: sweep, pcee, pcee-ws, dyce, msdnet, first_violation or grid50."
        ),
    ] = "sweep",
    max_drop: MaxDropOfAll = "0",
    guarantee: Annotated[
        str | None,
        typer.Option(metavar="CONF", help="Certify the drops of all savers jointly with this confidence, such as 90%."),
    ] = None,
    group_by: GroupBy = None,
    metric: MetricName = None,
    as_json: AsJson = False,
) -> None:
    """Rank savers for a base by the cost they would save.

    Example: pilotfish savers run --base timm:resnet152
    """
    from pilotfish.cli.output import console, next_command, notes, print_json, say, verdict
    from pilotfish.cli.parse import confidence, fraction
    from pilotfish.cli.tables import table
    from pilotfish.cli.tune_command import tune
    from pilotfish.plan import rank_savers
    from pilotfish.records import is_bad_base, open_run, read_table
    from pilotfish.report.format import format_count, format_threshold, percent, plain_points, signed_percent
    from pilotfish.tasks import says_of

    if (base is None) is not all_bases:
        raise typer.BadParameter(
            "Missing option '--base' (or --all-bases)" if base is None else "--all-bases and --base exclude each other"
        )
    if base is None:
        if holdout or guarantee is not None or method != "sweep":
            raise typer.BadParameter("--holdout, --guarantee and --method need one base: give --base")
        _pool(run, cost, score, split, fraction(max_drop, "--max-drop") or 0.0, group_by, as_json, metric)
        return
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
        guarantee=confidence(guarantee, "--guarantee"),
        group_by=group_by,
        metric=metric,
    )
    rows = []
    for s in found.savers:
        ratio = "–" if s.cost_ratio is None else f"{s.cost_ratio:.4f}"
        row = [s.saver, percent(s.accuracy), ratio, percent(s.exit_ratio, 1), format_threshold(s.threshold)]
        row.append(signed_percent(s.delta_cost, 1))
        if s.held_out is not None:
            low, high = s.held_out["drop_interval"]
            interval = f"[{plain_points(low)}, {plain_points(high)}]"
            row += [percent(s.held_out["exit_ratio"], 1), f"{plain_points(s.held_out['drop'])} {interval}"]
        if s.certified is not None:
            row += [percent(s.certified["exit_ratio"], 1), signed_percent(s.certified["delta_cost"], 1)]
        rows.append(row)
    columns = [("saver", "left"), (says_of(found.metric), "right"), ("C_S/C_B", "right"), ("exit ratio", "right")]
    if any(s.n != found.n for s in found.savers):
        columns.insert(1, ("n", "right"))
        for row, s in zip(rows, found.savers, strict=True):
            row.insert(1, format_count(s.n or 0))
    columns += [("threshold", "right"), ("ΔC", "right")]
    if found.holdout > 0:
        columns += [("held out: exit ratio", "right"), ("drop in points [95 %]", "right")]
    if found.guarantee is not None:
        certified = "certified (asymptotic)" if found.guarantee.get("asymptotic") else "certified"
        columns += [(f"{certified}: exit ratio", "right"), ("ΔC", "right")]
    what = "agreement" if found.reference == "base" else says_of(found.metric)
    title = f"Savers for {base} ({what} {percent(found.base_accuracy)}, n = {found.n:,})"
    target = console(as_json)
    left = verdict(target, found.notes)
    best = next((i for i, s in enumerate(found.savers) if s.saver == found.best), None)
    table(target, columns, rows, title=title, strong=best)
    if is_bad_base(read_table(open_run(run), [], base, split)):
        say(target, f"{base} is no better than chance on these labels, so no saver can be judged.")
    elif found.best is None:
        costs_known = any(s.delta_cost is not None for s in found.savers)
        unknown = (
            "Without costs, savings are unknown." if found.savers else f"No other model here can be a saver for {base}."
        )
        say(target, "No saver saves anything: run the base alone." if costs_known else unknown)
    else:
        following = next_command(
            tune,
            str(run),
            stages=f"{found.best},{base}",
            max_drop=max_drop if found.max_drop else "0.5%",
            cost=cost,
            score=score,
            method=method,
            split=split,
            holdout=holdout or None,
            seed=seed,
            guarantee=guarantee,
            savers_tried=None if found.guarantee is None else found.guarantee["savers"],
            group_by=group_by,
            metric=metric,
        )
        say(target, f"Best: {found.best}. Next: {following}", whole=True)
    notes(left)
    if as_json:
        print_json(found.to_json())


def _pool(
    run: Path,
    cost: str,
    score: str | None,
    split: str,
    max_drop: float,
    group_by: str | None,
    as_json: bool,
    metric: str | None,
) -> None:
    from pilotfish.cli.output import console, notes, print_json
    from pilotfish.cli.tables import table
    from pilotfish.errors import UsageError
    from pilotfish.plan import rank_pool
    from pilotfish.records import open_run
    from pilotfish.report.format import cost_unit, format_cost, percent, signed_percent

    if metric is not None:
        raise UsageError(
            "a pool of many bases is ranked by the task's first metric; remove --metric, or give --base NAME"
        )
    found = rank_pool(open_run(run), split=split, cost=cost, score=score, max_drop=max_drop, group_by=group_by)
    unit = cost_unit(cost, float(found.costs.max()))
    rows = []
    for b, name in enumerate(found.models):
        saver = found.best[name]
        s = None if saver is None else found.models.index(saver)
        row = [name, format_cost(cost, float(found.costs[b]), unit), saver or "none saves"]
        row += [percent(None if s is None else float(found.exit_ratio[s, b]), 1)]
        rows.append([*row, signed_percent(None if s is None else float(found.delta_cost[s, b]), 1)])
    columns = [("base", "left"), ("cost", "right"), ("best saver", "left"), ("exit ratio", "right"), ("ΔC", "right")]
    title = f"Best savers of every base (drop at most {percent(max_drop)}, n = {found.n:,})"
    table(console(as_json), columns, rows, title=title)
    notes(found.notes)
    if as_json:
        print_json(found.to_json())
