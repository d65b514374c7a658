"""``pilotfish tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotfish.cli.options import (
    AllowBadBase,
    AllowPython,
    AsJson,
    ClassMaxDrop,
    CostKey,
    Embed,
    GroupBy,
    Guarantee,
    Holdout,
    JudgeOn,
    MaxCost,
    MaxDrop,
    MaxLatencyP95,
    MetricName,
    MinMetric,
    RunFolder,
    Seed,
    Split,
    TrainedOn,
    WorstClassDrop,
)


def tune(
    run: RunFolder,
    stages: Annotated[
        list[str], typer.Option(metavar="S,B", help="Savers, cheapest first, then the base, separated by commas.")
    ],
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="sweep, pcee, pcee-ws, dyce, msdnet, ensemble, average, agreement, patience, first_violation or "
            "grid50.",
        ),
    ] = "sweep",
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the method, such as diagram=survivors; repeatable."),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="max_prob, margin, entropy, energy; fitted: temperature, per_class, learned_right, learned_gain, "
            "learned_base_gain, dirichlet, learned; auto chooses by cross-validation. By default "
            "max_prob, or the task's own.",
        ),
    ] = None,
    max_drop: MaxDrop = None,
    max_cost: MaxCost = None,
    min_metric: MinMetric = None,
    class_max_drop: ClassMaxDrop = None,
    worst_class_drop: WorstClassDrop = None,
    max_latency_p95: MaxLatencyP95 = None,
    cost: CostKey = "macs",
    guarantee: Guarantee = None,
    test: Annotated[
        str, typer.Option(metavar="NAME", help="Test behind the guarantee: auto, exact, paired_cp, wsr or jackknife.")
    ] = "auto",
    savers_tried: Annotated[
        int,
        typer.Option(
            metavar="K", help="Number of savers compared on these samples; the error probability is divided by it."
        ),
    ] = 1,
    split: Split = "val",
    holdout: Holdout = 0.5,
    judge_on: JudgeOn = "random",
    trained_on: TrainedOn = None,
    seed: Seed = 0,
    allow_bad_base: AllowBadBase = False,
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="Cascade folder to write.")] = None,
    embed: Embed = False,
    allow_python: AllowPython = None,
    group_by: GroupBy = None,
    metric: MetricName = None,
    as_json: AsJson = False,
) -> None:
    """Choose the exit thresholds of a cascade for one budget.

    \b
    Example: pilotfish tune run --stages timm:resnet18,timm:resnet152 \\
        --max-drop 0.5% --guarantee 90% --out cascade
    """
    from pilotfish.cli.output import console, notes, print_json, say, verdict
    from pilotfish.cli.parse import choices, class_drop, class_drops, confidence, name_list, one_budget
    from pilotfish.cli.performance_tables import limits_table, performance_columns, performance_row
    from pilotfish.cli.tables import table
    from pilotfish.plan import tune as run_tune
    from pilotfish.records import open_run
    from pilotfish.report.policy import describe_guarantee, describe_policy

    budget = one_budget(max_drop, max_cost, min_metric, ("--max-drop", "--max-cost", "--min-metric"))
    if embed and out is None:
        raise typer.BadParameter("--embed copies weights into the cascade folder; give it with --out")
    if trained_on is not None:
        from pilotfish.api import check_trained_on

        check_trained_on(run, name_list(stages), trained_on, split)
    result = run_tune(
        open_run(run),
        name_list(stages),
        **budget,
        method=method,
        score=score,
        cost=cost,
        split=split,
        holdout=holdout,
        seed=seed,
        guarantee=confidence(guarantee, "--guarantee"),
        test=test,
        savers_tried=savers_tried,
        options=choices(option or [], "--option"),
        group_by=group_by,
        metric=metric,
        judge_on=judge_on,
        allow_bad_base=allow_bad_base,
        class_max_drop=class_drops(class_max_drop or [], "--class-max-drop"),
        worst_class_drop=class_drop(worst_class_drop, "--worst-class-drop"),
        max_latency_p95=max_latency_p95,
    )
    more: list[str] = []
    if out is not None and embed:
        from pilotfish.runtime import save_with_weights

        save_with_weights(result.artefact, out, allow_python or (), more.append)
    elif out is not None:
        result.save(out)
    key = result.artefact.cost_key
    parts = [("calibration", result.calibration), ("evaluation", result.evaluation)]
    rows = [performance_row(what, p, key) for what, p in parts if p is not None]
    target = console(as_json)
    left = verdict(target, result.notes)
    title = f"{' → '.join(s.name for s in result.artefact.stages)}, {describe_policy(result.artefact)}"
    table(target, performance_columns("part", result.calibration), rows, title=title)
    limits_table(target, result.evaluation or result.calibration, result.artefact.limits, result.guarantee)
    if result.guarantee is not None:
        say(target, describe_guarantee(result.guarantee, key))
    if out is not None:
        say(target, f"Cascade written to {out}")
    inert = [stage.name for stage in result.artefact.stages if stage.spec is None]
    if inert and out is not None:
        more.append(
            f"the cascade can be reported but not run: {', '.join(inert)} come from imported predictions, without "
            "a model to load; record the models with pilotfish record and tune again to run it"
        )
    notes([*left, *more])
    if as_json:
        document = result.to_json()
        print_json({**document, "notes": [*document["notes"], *more]})
