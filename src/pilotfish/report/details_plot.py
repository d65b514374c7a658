"""The task's own figures: a value per class, a table, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.plan.sweep import F64
from pilotfish.report.details import Detail
from pilotfish.report.format import NOTHING, format_count, percent, plain_points
from pilotfish.report.html import Markup, join, row, table, tag
from pilotfish.report.subject import Subject
from pilotfish.report.svg import BASE, CASCADE, SAVER, Size, legend, plot
from pilotfish.text import quantity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"saver": SAVER, "base": BASE, "cascade": CASCADE}
STYLES = ("-", (0, (5, 2)), (0, (1, 1)))
DRAWN, LISTED = 30, 100  # classes


def details_sections(subject: Subject) -> Markup:
    """What there is of: a value per class, further figures, curves."""
    found = subject.details
    parts = []
    if any(one.curves for one in found):
        parts.append(_curves(subject, found))
    if any(one.figures for one in found):
        parts.append(_figures(found))
    if any(one.who == "base" and one.by_class is not None and not np.isnan(one.by_class).all() for one in found):
        parts.append(_by_class(subject, found))
    return join(parts)


def _by_class(subject: Subject, found: Sequence[Detail]) -> Markup:
    """A dot per class and model, and the numbers, the class that loses most first."""
    values = {one.who: one.by_class for one in found if one.by_class is not None}
    classes = max(len(value) for value in values.values())
    values = {who: _padded(value, classes) for who, value in values.items()}
    names = [*subject.class_names[:classes]]
    names += [f"class {k}" for k in range(len(names), classes)]
    kept = values.get("cascade", values.get("saver", values["base"]))
    there = np.flatnonzero(~np.isnan(values["base"]))
    loss = (values["base"] - kept)[there]
    order = there[np.argsort(-np.nan_to_num(loss, nan=-np.inf), kind="stable")]
    says = subject.by_class

    def draw(figure: Figure, size: Size) -> Mapping[str, str]:
        _dots(figure, size, {who: value[order[:DRAWN]] for who, value in values.items()}, says)
        figure.axes[0].set_yticks(range(len(order[:DRAWN])), [_short(names[k], size) for k in order[:DRAWN].tolist()])
        figure.subplots_adjust(left=(8 if size.narrow else 11) * size.text / size.width)
        return {}

    rows = [
        row(
            [names[k], *(percent(float(value[k])) for value in values.values())]
            + ([plain_points(float(values["base"][k] - kept[k]))] if len(values) > 1 else []),
            first="th",
        )
        for k in order[:LISTED].tolist()
    ]
    more = len(order) - len(rows)
    return tag(
        "figure",
        tag("h2", f"{says} per class"),
        legend(*((COLOURS[who], "dot", _called(subject, who)) for who in values)),
        plot(draw, "classes", f"{says} of each class, for {', '.join(values)}", 0.35 + 0.055 * min(len(order), DRAWN)),
        table(["class", *values, *(["drop, points"] if len(values) > 1 else [])], rows),
        tag(
            "figcaption",
            f"Of {format_count(len(order))} classes, the one that loses most first."
            + (f" {quantity(more, 'other is', 'others are')} not listed." if more else "")
            + (f" {classes - len(there)} are neither in the truth nor in the answers." if classes > len(there) else ""),
        ),
    )


def _dots(figure: Figure, size: Size, values: Mapping[str, F64], says: str) -> None:
    from matplotlib.ticker import PercentFormatter

    axes = figure.add_subplot()
    n = len(next(iter(values.values())))
    stacked = np.stack(list(values.values()))
    for at in range(n):
        low, high = np.nanmin(stacked[:, at]), np.nanmax(stacked[:, at])
        axes.plot([low, high], [at, at], color=COLOURS["base"], lw=1, alpha=0.35, zorder=1)
    for who, value in values.items():
        axes.scatter(value, np.arange(n), s=46 if who == "cascade" else 30, color=COLOURS[who], zorder=3)
    axes.set_ylim(n - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel(says)


def _figures(found: Sequence[Detail]) -> Markup:
    """Further figures: a row each, a column for each who answers."""
    names = list(next(one.figures for one in found if one.figures))
    rows = [row([name, *(percent(one.figures.get(name)) for one in found)], first="th") for name in names]
    return tag(
        "section",
        tag("h2", "As COCO prints it"),
        table(["", *(one.who for one in found)], rows),
        tag(
            "p",
            "AP is the mean average precision over IoU .50 to .95 and all classes, AR the mean recall with so many "
            "boxes per image; small, medium and large are areas below 32², below 96² and above. "
            f"{NOTHING}: no such object.",
            class_="small",
        ),
    )


def _curves(subject: Subject, found: Sequence[Detail]) -> Markup:
    names = list(next(one.curves for one in found if one.curves))

    def draw(figure: Figure, size: Size) -> Mapping[str, str]:
        from matplotlib.ticker import PercentFormatter

        axes = figure.add_subplot()
        for one in found:
            for (x, y), style in zip(one.curves.values(), STYLES, strict=False):
                axes.plot(x, y, color=COLOURS[one.who], lw=2, ls=style)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("recall")
        axes.set_ylabel("" if size.narrow else "precision")
        return {}

    styled = [(BASE, "line" if k == 0 else "dash", name) for k, name in enumerate(names)]
    return tag(
        "figure",
        tag("h2", "Precision and recall"),
        legend(*((COLOURS[one.who], "box", _called(subject, one.who)) for one in found), *styled),
        plot(draw, "curves", "Precision at each recall: " + "; ".join(one.who for one in found)),
        tag("figcaption", "Precision at each recall, a mean over the classes that are in the images."),
    )


def _called(subject: Subject, who: str) -> str:
    name = {"saver": subject.saver, "base": subject.base}.get(who)
    return who if name is None else f"{who}: {name}"


def _padded(value: F64, classes: int) -> F64:
    return np.concatenate([value, np.full(classes - len(value), np.nan)])


def _short(name: str, size: Size) -> str:
    most = 12 if size.narrow else 20
    return name if len(name) <= most else f"{name[: most - 1]}…"
