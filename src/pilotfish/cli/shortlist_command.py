"""``pilotfish shortlist``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pilotfish.cli.options import AsJson, MaxDropOfAll
from pilotfish.text import quantity

if TYPE_CHECKING:
    from pilotfish.plan.shortlist import Shortlist

RECORDED = 4  # savers in the command line that is printed


def shortlist(
    base: Annotated[str, typer.Option(metavar="NAME", help="The model to make cheaper: timm:NAME or timm:NAME@SIZE.")],
    size: Annotated[
        str, typer.Option(metavar="native|PIXELS", help="native: each model at its own input size; 224: at 224 only.")
    ] = "native",
    cost: Annotated[
        str | None, typer.Option(metavar="KEY", help="macs or ms@DEVICE; macs by default.", show_default=False)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Short for --cost ms@NAME: rtx4090, rtx4090-compiled, cpu-i7-12700h, …"),
    ] = None,
    max_drop: MaxDropOfAll = "0",
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Number of savers to list.")] = 10,
    per_family: Annotated[
        int, typer.Option(metavar="N", min=1, help="Largest number of savers of one family, such as efficientnet.")
    ] = 2,
    table: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Table of newer results, made by tools/make_published_table.py."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List savers that are worth recording for a base.

    A prior from published accuracy and speed, before any measurement.

    \b
    Example: pilotfish shortlist --base timm:convnextv2_large.fcmae_ft_in1k \\
        --size 224 --cost ms@rtx4090
    """
    from pilotfish.cli.output import console, next_command, notes, print_json, say
    from pilotfish.cli.parse import fraction
    from pilotfish.cli.record_command import record
    from pilotfish.cli.tables import table as print_table
    from pilotfish.plan.shortlist import shortlist as make_shortlist
    from pilotfish.report.format import cost_name, cost_number, cost_unit, format_cost, percent, signed_percent

    found = make_shortlist(
        base,
        size=size,
        cost=cost,
        device=device,
        max_drop=fraction(max_drop, "--max-drop") or 0.0,
        top=top,
        per_family=per_family,
        table=table,
    )
    macs, unit = cost_unit("macs", found.base_macs), cost_unit(found.cost, found.base_cost)
    timed = found.device is not None
    columns = [("saver", "left"), ("px", "right"), ("top-1", "right"), (macs.name, "right")]
    columns += [(f"{unit.name} per sample", "right")] if timed else []
    columns += [("C_S/C_B", "right"), ("exit ratio (guess)", "right"), ("ΔC (guess)", "right")]
    rows = []
    for s in found.savers:
        row = [s.saver, str(s.img_size), percent(s.top1), cost_number(s.macs, macs)]
        row += [f"{s.cost:.3g}"] if timed else []
        rows.append([*row, f"{s.cost_ratio:.4f}", percent(s.exit_ratio, 0), signed_percent(s.delta_cost, 0)])
    price = f"{found.base_cost:.3g} ms on {found.device}" if timed else format_cost("macs", found.base_macs)
    where = f"at {found.base_img_size} px: top-1 {percent(found.base_top1)}, {price}"
    target = console(as_json)
    print_table(target, columns, rows, title=f"Worth recording for {found.base} ({where})") if rows else None
    say(target, *_told(found, cost_name(found.cost)))
    if found.worthwhile:
        names = ",".join([*(s.saver for s in found.worthwhile[:RECORDED]), found.base])
        following = next_command(record, model=names, run="run", data="folder:photos")
        say(target, f"Next, on your samples: {following}", whole=True)
    notes(found.notes)
    if as_json:
        print_json(found.to_json())


def _told(found: Shortlist, cost: str) -> list[str]:
    """The lines below the table."""
    if not found.savers:
        return [f"No published model costs less than {found.base} ({cost}) at this size."]
    counted = (
        f"{len(found.savers)} of {quantity(found.considered, 'model that costs', 'models that cost')} less ({cost})"
    )
    told = [
        f"{counted}, for a drop of at most {100 * found.max_drop:g} points.",
        "A prior from published results, not a measurement: the exit ratio is guessed from the two accuracies alone.",
        "On the papers' ImageNet pairs the guess is off by 7 points at no drop, by 3 at 0.1 to 1 point.",
    ]
    return told if found.worthwhile else [*told, f"None is expected to save anything: run {found.base} alone."]
