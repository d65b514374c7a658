"""``pilotfish evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.options import AllowPython, AsJson, CascadeFolder, Device, GroupBy, Split, Workers

if TYPE_CHECKING:
    from pilotfish.plan import Evaluation

BROKEN = 3  # exit code


def evaluate(
    cascade: CascadeFolder,
    data: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="New samples, with or without labels: folder:PATH, arrays:FILE.npz, …"),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Instead of --data: records of all stages; no model is run.")
    ] = None,
    split: Split = "val",
    audit: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Run the base on this share of the samples, such as 10%; all by default."),
    ] = None,
    group_by: GroupBy = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the draw of --audit.")] = 0,
    device: Device = "cpu",
    workers: Workers = None,
    allow_python: AllowPython = None,
    as_json: AsJson = False,
) -> None:
    """Check whether a cascade still holds on new samples. The exit code is 3 when its promise is broken.

    Example: pilotfish evaluate cascade --data folder:photos-of-may

    Example: pilotfish evaluate cascade --data folder:unlabelled --audit 10%
    """
    from pilotfish.cli.output import console, notes, print_json, say
    from pilotfish.cli.parse import share
    from pilotfish.cli.progress import progress_bars
    from pilotfish.cli.tables import table
    from pilotfish.flow.evaluate_cascade import evaluate as run_evaluate

    if (data is None) == (run is None):
        raise typer.BadParameter("give --data, samples to run the cascade on, or --run, records of its stages")
    with progress_bars() as progress:
        found = run_evaluate(
            cascade,
            data,
            run=run,
            split=split,
            audit=share(audit, "--audit"),
            seed=seed,
            group_by=group_by,
            device=device,
            workers=workers,
            allow_python=allow_python or (),
            progress=progress,
        )
    target = console(as_json)
    say(target, found.headline)
    rows = _rows(found)
    table(target, [("", "left"), ("promised", "right"), ("found", "right"), ("95 % interval", "right")], rows)
    notes(found.notes)
    if as_json:
        print_json(found.to_json())
    if found.verdict == "broken":
        raise typer.Exit(BROKEN)


def _rows(found: Evaluation) -> list[list[str]]:
    """Rows of promised and found values."""
    from pilotfish.report.format import cost_unit, format_cost, format_count, milliseconds, percent, plain_points
    from pilotfish.tasks import says_of

    then, now = found.promised, found.found
    key, says = found.cost_key, says_of(now.metric)
    points = [f"{plain_points(low)} to {plain_points(high)}" for low, high in (now.drop_interval, then.drop_interval)]
    rows = [["samples", format_count(then.n), format_count(now.n), ""]]
    if found.reference == "label":
        rows.append([says, percent(then.value), percent(now.value), ""])
        rows.append([f"{says} of the base", percent(then.base_value), percent(now.base_value), ""])
    said = "drop, in points" if found.reference == "label" else "disagreement with the base, in points"
    rows.append([said, f"{plain_points(then.drop)} [{points[1]}]", plain_points(now.drop), points[0]])
    if found.reference == "base" and found.kind != "agreement":  # a drop was promised
        rows[-1][1] = ""
    classes = {one.name: one for one in then.classes}
    for one in now.classes:
        ends = [plain_points(end) for end in one.drop_interval]
        before = plain_points(classes[one.name].drop) if one.name in classes else ""
        rows.append([f"drop of {one.name}", before, plain_points(one.drop), " to ".join(ends)])
    for k, (low, high) in enumerate(found.exit_ratio_interval):
        shares = [percent(one.exit_ratio[k], 1) for one in (then, now)]
        rows.append([f"answered by {found.stages[k]}", *shares, f"{percent(low, 1)} to {percent(high, 1)}"])
    if key is not None and now.cost is not None and found.cost_interval is not None:
        unit = None if then.base_cost is None else cost_unit(key, then.base_cost)
        cells = [format_cost(key, one.cost, unit) for one in (then, now)]
        ends = [format_cost(key, end, unit) for end in found.cost_interval]
        rows.append(["cost per sample", *cells, " to ".join(ends)])
    if now.latency_p95 is not None and found.latency_interval is not None:
        p95s = ["" if one.latency_p95 is None else milliseconds(one.latency_p95) for one in (then, now)]
        rows.append(["p95 of single requests", *p95s, " to ".join(map(milliseconds, found.latency_interval))])
    if found.ms is not None:
        promised = f"{then.cost:.3f} ms (models)" if key is not None and key.startswith("ms") and then.cost else ""
        rows.append(["time, file to answer", promised, f"{found.ms:.3f} ms", ""])
    return rows
