"""``pilotfish chains``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.options import (
    AsJson,
    Base,
    CostKey,
    GroupBy,
    Holdout,
    MaxCost,
    MaxDrop,
    MetricName,
    RunFolder,
    Score,
    Seed,
    Split,
)

if TYPE_CHECKING:
    from pilotfish.plan.chains import FoundChain


def chains(
    run: RunFolder,
    base: Base,
    max_drop: MaxDrop = None,
    max_cost: MaxCost = None,
    max_stages: Annotated[int, typer.Option(metavar="K", help="Largest number of stages, the base included.")] = 3,
    top: Annotated[int, typer.Option(metavar="N", help="How many chains to show.")] = 10,
    cost: CostKey = "macs",
    score: Score = None,
    split: Split = "val",
    holdout: Holdout = 0.5,
    seed: Seed = 0,
    group_by: GroupBy = None,
    metric: MetricName = None,
    as_json: AsJson = False,
) -> None:
    """Search chains of savers; show what each stage saves.

    Example: pilotfish chains run --base timm:resnet152 --max-drop 0.5%
    """
    from pilotfish.cli.output import console, next_command, notes, print_json, say, verdict
    from pilotfish.cli.parse import one_budget
    from pilotfish.cli.tables import table
    from pilotfish.cli.tune_command import tune
    from pilotfish.plan import find_chains
    from pilotfish.records import open_run
    from pilotfish.report.format import cost_unit, format_cost, format_threshold, percent, plain_points

    budget = one_budget(max_drop, max_cost)
    found = find_chains(
        open_run(run),
        base,
        **budget,
        max_stages=max_stages,
        top=top,
        cost=cost,
        score=score,
        split=split,
        holdout=holdout,
        seed=seed,
        group_by=group_by,
        metric=metric,
    )
    search = found.search
    unit = cost_unit(cost, search.base_cost)
    rows = []
    for i, chain in enumerate(search.chains):
        bought = chain.over_shorter
        row = [
            " → ".join(chain.stages),
            " / ".join(format_threshold(t) for t in chain.thresholds) or "–",
            " / ".join(percent(r, 1) for r in chain.exit_ratio),
            f"{format_cost(cost, chain.cost, unit)} ({percent(chain.cost / search.base_cost, 1)})",
            plain_points(chain.drop),
            "–" if bought is None else percent(bought.saving, 1),
        ]
        if found.held_out:
            held = found.held_out[i]
            low, high = held.drop_interval
            row += [percent((held.cost or 0.0) / search.base_cost, 1)]
            row += [f"{plain_points(held.drop)} [{plain_points(low)}, {plain_points(high)}]"]
        rows.append(row)
    columns = [("chain", "left"), ("thresholds", "right"), ("exit ratio", "right"), ("cost (of base)", "right")]
    columns += [("drop", "right"), ("last stage saves", "right")]
    if found.held_out:
        columns += [("held out: cost", "right"), ("drop [95 %]", "right")]
    target = console(as_json)
    left = verdict(target, found.notes)
    table(target, columns, rows, title=f"Chains to {base} ({found.budget}, n = {search.n:,})", strong=0)
    stages = ",".join(found.best.stages)
    following = next_command(
        tune,
        str(run),
        stages=stages,
        max_drop=max_drop,
        max_cost=max_cost,
        cost=cost,
        score=score,
        split=split,
        holdout=holdout,
        seed=seed,
        group_by=group_by,
        metric=metric,
    )
    say(target, *_summary(found.best, following), whole=True)
    notes(left)
    if as_json:
        print_json(found.to_json())


def _summary(best: FoundChain, following: str) -> list[str]:
    from pilotfish.report.format import percent

    if len(best.stages) == 1:
        return ["No chain saves anything: run the base alone."]
    lines = [f"Best: {' → '.join(best.stages)}. Next: {following}"]
    if len(best.stages) > 2 and best.over_pair is not None:
        pair = best.over_pair
        lines.append(
            f"Beside the best pair ({' → '.join(pair.stages)}) it costs {percent(pair.saving, 1)} less "
            "on the samples searched."
        )
    return lines
