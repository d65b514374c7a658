"""``pilotfish build``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.options import (
    AllowBadBase,
    AsJson,
    ClassMaxDrop,
    Data,
    Device,
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
    Seed,
    Task,
    TrainedOn,
    WorstClassDrop,
)
from pilotfish.text import quantity

if TYPE_CHECKING:
    from pilotfish.flow import BuildResult


def build(
    data: Data,
    model: Annotated[list[str], typer.Option(metavar="NAME", help="Base and savers; repeat or separate by commas.")],
    out: Annotated[Path, typer.Option(metavar="PATH", help="Cascade folder to write.")],
    max_drop: MaxDrop = None,
    max_cost: MaxCost = None,
    min_metric: MinMetric = None,
    class_max_drop: ClassMaxDrop = None,
    worst_class_drop: WorstClassDrop = None,
    max_latency_p95: MaxLatencyP95 = None,
    base: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model to make cheaper; the most accurate by default.")
    ] = None,
    run: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the records; OUT-run by default.")] = None,
    cost: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Cost key to reduce: macs, ms@cpu (throughput), ms@cpu-b1, ms@cuda-b128, …; by default macs, or time "
            "with --precisions.",
        ),
    ] = None,
    guarantee: Guarantee = None,
    precisions: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Also record every model in these precisions, such as int8,bf16,fp32, and find the best chain of "
            "variants to the float32 base.",
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Samples to calibrate int8 on; by default part of --data."),
    ] = None,
    decoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Image decoder of the savers, such as turbojpeg.")
    ] = None,
    holdout: Holdout = 0.5,
    judge_on: JudgeOn = "random",
    trained_on: TrainedOn = None,
    seed: Seed = 0,
    runs: Annotated[int, typer.Option(metavar="N", help="Benchmark runs.")] = 5,
    device: Device = "cpu",
    group_by: GroupBy = None,
    task: Task = None,
    metric: MetricName = None,
    allow_bad_base: AllowBadBase = False,
    embed: Embed = False,
    as_json: AsJson = False,
) -> None:
    """Record, pick a saver, tune, bench and report in one go.

    \b
    Example: pilotfish build --data folder:photos \\
        --model timm:mobilenetv3_small_100,timm:convnext_base \\
        --max-drop 0.5% --out cascade

    \b
    Example: pilotfish build --data folder:photos --model timm:convnext_base \\
        --precisions int8,bf16,fp32 --max-drop 0.5% --guarantee 90% --out cascade
    """
    from pilotfish.cli.output import print_json
    from pilotfish.cli.parse import class_limits, confidence, least, name_list, one_budget
    from pilotfish.cli.progress import progress_bars
    from pilotfish.flow import build as run_build
    from pilotfish.recording import RecordOptions

    one_budget(max_drop, max_cost, min_metric, ("--max-drop", "--max-cost", "--min-metric"))
    with progress_bars() as progress:
        result = run_build(
            data,
            name_list(model),
            out,
            max_drop=max_drop,
            max_cost=max_cost,
            min_metric=least(min_metric),
            class_max_drop=class_limits(class_max_drop or [], "--class-max-drop"),
            worst_class_drop=worst_class_drop,
            max_latency_p95=max_latency_p95,
            base=base,
            run=run,
            cost=cost,
            holdout=holdout,
            seed=seed,
            runs=runs,
            embed=embed,
            judge_on=judge_on,
            trained_on=trained_on,
            allow_bad_base=allow_bad_base,
            guarantee=confidence(guarantee, "--guarantee"),
            precisions=precisions,
            calibrate=calibrate,
            decoder=decoder,
            metric=metric,
            options=RecordOptions(device=device, group_by=group_by, task=task),
            progress=progress,
        )
    show_build(result, to_stderr=as_json)
    if as_json:
        print_json(result.to_json())


def show_build(result: BuildResult, to_stderr: bool) -> None:
    """Print the results of ``demo`` and ``build``: the models, and the cascade beside its base and its ideal."""
    from pilotfish.cli.output import console, notes, say, verdict
    from pilotfish.cli.performance_tables import limits_table
    from pilotfish.cli.tables import table
    from pilotfish.report.format import cost_unit, format_cost, format_threshold, percent, plain_points
    from pilotfish.report.policy import describe_guarantee
    from pilotfish.tasks import says_of

    target = console(to_stderr)
    tuning, timed = result.tuning, result.bench
    left = verdict(target, result.notes)
    key = tuning.artefact.cost_key
    judged = tuning.evaluation or tuning.calibration
    unit = cost_unit(key, max(s.cost or 0.0 for s in result.singles)) if key else None
    stages = [stage.name for stage in tuning.artefact.stages]
    base = stages[-1]
    alone = {name: t.median for name, t in zip(timed.stages, timed.end_to_end.stages_ms, strict=True)}
    base_ms = alone[base] = timed.end_to_end.base_ms.median

    def row(
        name: str, accuracy: float, drop: float, cost: float | None, exits: str, ms: float | None, *variant: str
    ) -> list[str]:
        speed = "" if ms is None else f"{base_ms / ms:.2f}x"
        time = "" if ms is None else f"{ms:.3f}"
        computed = variant if result.precisions else ()
        return [
            name,
            *computed,
            percent(accuracy),
            plain_points(drop),
            format_cost(key, cost, unit),
            exits,
            time,
            speed,
        ]

    rows = [
        row(
            s.name,
            s.accuracy,
            _base_accuracy(result, base) - s.accuracy,
            s.cost,
            "",
            alone.get(s.name),
            s.precision,
            "" if s.agreement is None else percent(s.agreement, 1),
        )
        for s in result.singles
    ]
    realised, ideal = timed.end_to_end.realised_ms.median, timed.end_to_end.ideal_ms.median
    name = f"cascade {' → '.join(stages)}"
    exits = " / ".join(percent(share, 1) for share in judged.exit_ratio[: len(stages) - (len(stages) == 2)])
    rows.append(row(name, judged.value, judged.drop, judged.cost, exits, realised, "", ""))
    columns = [("model", "left"), (says_of(judged.metric), "right"), ("drop (points)", "right")]
    columns[1:1] = [("precision", "left"), ("agrees with float32", "right")] if result.precisions else []
    columns += [("cost per sample", "right")]
    columns += [("exit ratio", "right"), ("ms per sample", "right"), ("speed-up", "right")]
    table(target, columns, rows, strong=len(rows) - 1)
    limits_table(target, judged, tuning.artefact.limits, tuning.guarantee)
    low, high = judged.drop_interval
    where = "held-out samples" if tuning.evaluation else "the samples the threshold was chosen on"
    thresholds = " / ".join(format_threshold(t) for t in tuning.thresholds)
    say(
        target,
        f"Cascade row: {judged.n} {where}; drop {plain_points(judged.drop)} points "
        f"(95 %: {plain_points(low)} to {plain_points(high)}), threshold {thresholds}. "
        f"Other rows: all {sum(tuning.split.values())} samples.",
        f"Speed, {quantity(timed.n, 'sample')}, median of {quantity(timed.runs, 'run')}: "
        f"{timed.speedup.median:.2f}x the base alone, "
        f"{base_ms / ideal:.2f}x would be ideal (efficiency {timed.end_to_end.efficiency.median:.2f} end to end, "
        f"{timed.model_only.efficiency.median:.2f} models only).",
        *([] if tuning.guarantee is None else [describe_guarantee(tuning.guarantee, key)]),
        *_beside_float32(result),
        f"Cascade: {result.cascade}",
        f"Records: {result.run}",
        f"Report:  {result.report}",
    )
    notes(left)


def _base_accuracy(result: BuildResult, base: str) -> float:
    return next(s.accuracy for s in result.singles if s.name == base)


def _beside_float32(result: BuildResult) -> list[str]:
    """A line on what precision gains over the best pair in float32."""
    pair = result.float32_pair
    if pair is None or pair.tuning.artefact.stages == result.tuning.artefact.stages:
        return []
    times = {part: spread.median for part, spread in pair.times_faster.items() if spread is not None}
    faster = f"{times['model_only']:.2f}x as fast models only, {times['end_to_end']:.2f}x end to end"
    return [f"Beside the best float32 pair at this budget, {' → '.join(pair.stages)}: {faster}."]
