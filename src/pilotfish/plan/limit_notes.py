"""What is said of limits beside the budget: that they are missed, or that too few samples tell."""

from __future__ import annotations

from pilotfish.cascade import Limits, Performance
from pilotfish.cascade.budget import SLACK
from pilotfish.text import quantity

MISSED = "BUDGET MISSED"


def limits_missed(judged: Performance, limits: Limits | None, where: str) -> list[str]:
    """A line when a class loses more than its limit on *judged*, and one when requests take longer. where: such as
    ``held-out samples``."""
    return [*_classes_missed(judged, where), *_latency_missed(judged, limits, where)]


def _latency_missed(judged: Performance, limits: Limits | None, where: str) -> list[str]:
    limit = None if limits is None else limits.latency_p95
    if limit is None or judged.latency_p95 is None or judged.latency_p95 <= limit * (1 + 1e-9):
        return []
    line = (
        f"{MISSED} on {where}: p95 {judged.latency_p95:.4g} ms against {limit:g}: these samples exit less often than "
        "those it was chosen on"
    )
    return [line]


def _classes_missed(judged: Performance, where: str) -> list[str]:
    over = [c for c in judged.classes if c.limit is not None and c.drop > c.limit + SLACK]
    if not over:
        return []
    worst = max(over, key=lambda c: c.drop - (c.limit or 0.0))
    limit, (low, high) = worst.limit or 0.0, worst.drop_interval
    why = "outside" if low > limit else "inside"
    more = f"; {len(over) - 1} more {'class does' if len(over) == 2 else 'classes do'} too" if len(over) > 1 else ""
    line = (
        f"{MISSED} on {where}: class {worst.name} loses {100 * worst.drop:.1f} points against {100 * limit:.4g}; the "
        f"limit lies {why} the 95 % interval {100 * low:.1f} to {100 * high:.1f} ({quantity(worst.n, 'sample')}){more}"
    )
    return [line]


def notes_on_limits(chosen: Performance, promised: bool) -> list[str]:
    """What the reader should know of limits: classes of so few samples that they cannot tell their limit from none."""
    if promised:
        return []
    coarse = [c for c in chosen.classes if c.limit is not None and _half(c.drop_interval) > max(c.limit, SLACK)]
    if not coarse:
        return []
    worst = max(coarse, key=lambda c: _half(c.drop_interval) - (c.limit or 0.0))
    which = f"{len(coarse)} of the {len(chosen.classes)} limited classes have" if len(coarse) > 1 else "one class has"
    note = (
        f"{which} too few samples to tell the limit from a drop of 0: the {worst.n:,} of {worst.name} resolve it to "
        f"about ±{100 * _half(worst.drop_interval):.1f} points, against {100 * (worst.limit or 0.0):.4g}; read the "
        "intervals, or use --guarantee"
    )
    return [note]


def _half(interval: tuple[float, float]) -> float:
    return (interval[1] - interval[0]) / 2
