"""``pilotfish update``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pilotfish.cli.options import AllowBadBase, AllowPython, AsJson, CascadeFolder, Data, Device, Embed, GroupBy


def update(
    cascade: CascadeFolder,
    model: Annotated[str, typer.Option(metavar="NAME", help="The new model (see pilotfish models).")],
    data: Data,
    out: Annotated[Path, typer.Option(metavar="PATH", help="Folder for the new cascade.")],
    stage: Annotated[
        str | None,
        typer.Option(metavar="K|NAME", help="Stage to replace; by default the one of the same name, if any."),
    ] = None,
    alias: Annotated[
        str | None, typer.Option("--as", metavar="ALIAS", help="Name for the model's records; by default the model's.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the records; by default the one beside the cascade.")
    ] = None,
    device: Device = "cpu",
    group_by: GroupBy = None,
    embed: Embed = False,
    force: Annotated[bool, typer.Option("--force", help="Allow --out to replace the old cascade.")] = False,
    allow_python: AllowPython = None,
    allow_bad_base: AllowBadBase = False,
    as_json: AsJson = False,
) -> None:
    """Record a new model and tune the cascade again with it.

    It is tuned as before, and shown beside the old one.

    \b
    Example: pilotfish update cascade --model onnx:retrained.onnx \\
        --data folder:photos --stage 0 --out cascade-2
    """
    from pilotfish.cli.output import console, notes, print_json, say, verdict
    from pilotfish.cli.performance_tables import limits_table, performance_columns, performance_row
    from pilotfish.cli.progress import progress_bars
    from pilotfish.cli.tables import table
    from pilotfish.flow.update import update as run_update
    from pilotfish.recording import RecordOptions
    from pilotfish.report.policy import describe_guarantee, describe_policy
    from pilotfish.tasks import says_of

    with progress_bars() as progress:
        found = run_update(
            cascade,
            model,
            data,
            out,
            stage=stage,
            alias=alias,
            run=run,
            embed=embed,
            force=force,
            allow_python=allow_python or (),
            allow_bad_base=allow_bad_base,
            options=RecordOptions(device=device, group_by=group_by),
            progress=progress,
        )
    target, made = console(as_json), found.tuning.artefact
    key = made.cost_key
    left = verdict(target, found.notes)
    rows = [
        performance_row(f"old: {' → '.join(found.before)}", found.old, key),
        performance_row(f"new: {' → '.join(found.stages)}", found.new, key),
    ]
    table(target, performance_columns("cascade", found.new), rows, title=f"Update of {cascade}", strong=1)
    limits_table(target, found.new, made.limits, found.tuning.guarantee)
    budget = made.operating_point.budget
    say(
        target, f"New: {'' if budget is None else f'{budget.says(says_of(found.new.metric))}, '}{describe_policy(made)}"
    )
    if found.tuning.guarantee is not None:
        say(target, describe_guarantee(found.tuning.guarantee, key))
    say(target, f"Cascade written to {out}; records in {found.run}")
    notes(left)
    if as_json:
        print_json(found.to_json())
