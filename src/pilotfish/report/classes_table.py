"""What each class loses, as a table, worst first."""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.cascade import ClassDrop
from pilotfish.report.format import NOTHING, format_count, plain_points
from pilotfish.report.html import Markup, row, table, tag
from pilotfish.report.subject import Subject
from pilotfish.text import quantity

MOST = 20


def classes_section(subject: Subject) -> Markup:
    """The classes that lose most, and the others in one row; nothing where drops per class are unknown."""
    worst = sorted(subject.classes, key=lambda c: -c.drop)
    if not worst:
        return Markup("")
    limited = any(c.limit is not None for c in worst)
    head = ["class", "samples", "drop, points", "95% interval", *(["limit"] if limited else [])]
    rows, rest = [_row(c, limited) for c in worst[:MOST]], worst[MOST:]
    return tag(
        "section",
        tag("h2", "Drop per class"),
        table(head, rows, foot=_others(rest, limited) if rest else None),
        tag("p", _caption(worst), class_="small"),
    )


def _row(one: ClassDrop, limited: bool) -> Markup:
    low, high = one.drop_interval
    cells = [one.name, format_count(one.n), plain_points(one.drop), f"{plain_points(low)} to {plain_points(high)}"]
    if limited:
        cells.append(NOTHING if one.limit is None else plain_points(one.limit))
    return row(cells, first="th", class_="best" if one.limit is not None and one.drop > one.limit else None)


def _others(rest: Sequence[ClassDrop], limited: bool) -> Markup:
    name = quantity(len(rest), "other")
    cells = [name, format_count(sum(c.n for c in rest)), f"at most {plain_points(rest[0].drop)}", NOTHING]
    return row([*cells, *([NOTHING] if limited else [])], first="th")


def _caption(worst: Sequence[ClassDrop]) -> str:
    over = sum(c.limit is not None and c.drop > c.limit for c in worst)
    return (
        f"Accuracy lost among the samples labelled so, the worst of {format_count(len(worst))} classes first. "
        "The worst of many does better on other samples, as a rule: read its interval."
        + (f" In bold: {format_count(over)} above the limit." if over else "")
    )
