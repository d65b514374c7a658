"""Tables of a cascade's performance and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilotfish.cli.output import say
from pilotfish.cli.tables import table
from pilotfish.text import quantity

if TYPE_CHECKING:
    from rich.console import Console

    from pilotfish.cascade import Limits, Performance


MOST_CLASSES = 20


def performance_columns(first: str, shown: Performance) -> list[tuple[str, str]]:
    """The columns of a table of performances; *first* is the heading of the first one."""
    from pilotfish.tasks import says_of

    numbers = ("n", says_of(shown.metric), "base", "drop [95 %]", "cost per sample", "exit ratio")
    return [(first, "left"), *((heading, "right") for heading in numbers)]


def performance_row(what: str, p: Performance, key: str | None) -> list[str]:
    """A row of that table. key: cost key."""
    from pilotfish.report.format import cost_unit, format_cost, format_count, percent, plain_points

    unit = None if key is None or p.base_cost is None else cost_unit(key, p.base_cost)
    of_base = "" if p.cost is None or not p.base_cost else f" ({percent(p.cost / p.base_cost, 1)} of base)"
    low, high = p.drop_interval
    drop = f"{plain_points(p.drop)} [{plain_points(low)}, {plain_points(high)}]"
    counted = format_count(p.n) + (f" in {quantity(p.groups, 'group')}" if p.groups else "")
    exits = " / ".join(percent(r, 1) for r in p.exit_ratio)
    return [
        what,
        counted,
        percent(p.value),
        percent(p.base_value),
        drop,
        format_cost(key, p.cost, unit) + of_base,
        exits,
    ]


def limits_table(
    target: Console, judged: Performance, limits: Limits | None, guarantee: Mapping[str, Any] | None
) -> None:
    """Print drops per class and latency against their limits, if there are any. Classes closest to their limit, or
    farthest above it, come first."""
    from pilotfish.report.format import format_count, milliseconds, plain_points

    bounds = {} if guarantee is None else guarantee.get("classes", {})
    columns = [("class", "left"), ("n", "right"), ("drop [95 %]", "right"), ("limit", "right")]
    rows = []
    for c in sorted(judged.classes, key=lambda c: (c.limit or 0.0) - c.drop):
        low, high = c.drop_interval
        drop = f"{plain_points(c.drop)} [{plain_points(low)}, {plain_points(high)}]"
        bound = [plain_points(bounds[c.name]["bound"])] if c.name in bounds else [""] if bounds else []
        rows.append([c.name, format_count(c.n), drop, plain_points(c.limit or 0.0), *bound])
    shown, left = rows[:MOST_CLASSES], len(rows) - MOST_CLASSES
    rest = [[quantity(left, "other"), *[""] * (len(shown[0]) - 1)]] if left > 0 else []
    if rows:
        table(target, [*columns, *([("bound", "right")] if bounds else [])], [*shown, *rest])
    if judged.latency_p95 is not None and limits is not None:
        bound_ms = None if guarantee is None else guarantee["latency"]["bound"]
        bounded = "" if bound_ms is None else f"; bound {milliseconds(bound_ms)}"
        limit = milliseconds(limits.latency_p95)
        say(target, f"p95 of single requests: {milliseconds(judged.latency_p95)} (limit {limit}{bounded})")
