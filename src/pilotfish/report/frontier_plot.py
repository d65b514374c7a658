"""Accuracy against cost: the models alone, random routing, the pair's frontier, the operating point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.report.format import cost_name, format_cost, format_count, percent, shorten
from pilotfish.report.frontier_data import FrontierData, frontier_data
from pilotfish.report.html import Markup, clean, join, tag
from pilotfish.report.labels import Label, place_labels
from pilotfish.report.subject import ModelPoint, Subject
from pilotfish.report.svg import BASE, CASCADE, MUTED, OTHER, SAVER, Size, legend, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_EDGE_NAMES = 6  # models at the lower edge that get a name; all have a hover text


def frontier_figure(subject: Subject) -> Markup:
    """The figure with its legend and caption; nothing where there is but one point to show."""
    data = frontier_data(subject)
    if data.curve is None and len(data.points) < 2:
        return Markup("")

    def draw(figure: Figure, size: Size) -> Mapping[str, str]:
        return _draw(figure.add_subplot(), size, subject, data)

    label = (
        f"Plot of {subject.measure} against {_x_name(subject)} for {len(data.points)} models alone"
        + (f" and the cascade {' → '.join(subject.stages)}" if data.curve is not None else "")
        + "."
    )
    return tag(
        "figure",
        tag("h2", f"{subject.measure.capitalize()} against {_x_name(subject)}"),
        _legend(subject, data),
        plot(draw, "frontier", label),
        tag("figcaption", _caption(subject, data)),
    )


def _legend(subject: Subject, data: FrontierData) -> Markup:
    names = {point.name for point, _ in data.points}
    keys: list[tuple[str, str, object]] = []
    if subject.saver in names:
        keys.append((SAVER, "dot", f"saver {shorten(str(subject.saver))}"))
    keys.append((BASE, "dot", f"base {shorten(subject.base)}"))
    if names - {subject.saver, subject.base}:
        keys.append((OTHER, "dot", "other models alone"))
    if data.curve is not None:
        keys.append((CASCADE, "line", "frontier of " + " → ".join(shorten(name) for name in subject.stages)))
    if data.routed is not None:
        keys.append((MUTED, "dash", "random routing"))
    if data.here is not None:
        keys.append((CASCADE, "ring", "operating point"))
    return legend(*keys)


def _draw(axes: Axes, size: Size, subject: Subject, data: FrontierData) -> Mapping[str, str]:
    axes.axhline(subject.base_accuracy, color=BASE, lw=1, ls=(0, (1, 2)), alpha=0.7, zorder=1)
    if data.routed is not None:
        axes.plot(*data.routed, color=MUTED, lw=1.2, ls=(0, (5, 3)), zorder=2)
    if data.curve is not None:
        axes.plot(*data.curve, color=CASCADE, lw=2.4, zorder=3, solid_capstyle="round")
    hover, names = _models(axes, size, subject, data)
    if data.here is not None:
        x, y = data.here
        ring: dict[str, Any] = {"ms": 15, "mfc": "none", "mec": CASCADE, "mew": 2.4}
        axes.plot([x], [y], "o", zorder=7, gid="here", clip_on=False, **ring)
        where = format_cost(subject.cost, x) if subject.cost else f"{percent(x)} reach the base"
        hover["here"] = f"operating point: {percent(y)}, {where}"
        names.insert(0, Label(percent(y), x, y, CASCADE, bold=True, must=True))
    _scales(axes, size, subject, data)
    names.sort(key=lambda name: not name.must)
    place_labels(axes, names, [line for line in (data.curve, data.routed) if line is not None], size.text - 1)
    return hover


def _models(axes: Axes, size: Size, subject: Subject, data: FrontierData) -> tuple[dict[str, str], list[Label]]:
    """Draws the models alone; hover texts and names to place."""
    hover, names = {}, []
    many_low = sum(point.accuracy < data.floor for point, _ in data.points) > MOST_EDGE_NAMES
    for number, (point, x) in enumerate(data.points):
        chief = point.name in (subject.base, subject.saver)
        colour = BASE if point.name == subject.base else SAVER if chief else OTHER
        low = point.accuracy < data.floor
        y = max(point.accuracy, data.floor)
        look: dict[str, Any] = {"ms": 10.5 if chief else 8, "mfc": colour, "mec": "white", "mew": 1}
        axes.plot([x], [y], "v" if low else "o", clip_on=False, zorder=6 if chief else 4, gid=f"model-{number}", **look)
        hover[f"model-{number}"] = _hover(point, subject)
        if not (low and many_low):
            text = clean(shorten(point.name, 20 if size.narrow else 28))
            text += f" ({percent(point.accuracy, 1)})" if low else ""
            names.append(Label(text, x, y, colour if chief else MUTED, bold=chief, must=chief))
    return hover, names


def _hover(point: ModelPoint, subject: Subject) -> str:
    cost = f", {format_cost(subject.cost, point.cost)}" if subject.cost else ""
    return f"{point.name}: {percent(point.accuracy)}{cost}"


def _scales(axes: Axes, size: Size, subject: Subject, data: FrontierData) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

    top = axes.get_ylim()[1]
    pad = 0.06 * max(top - data.floor, 0.01)
    axes.set_ylim(data.floor - pad, top + pad)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("" if size.narrow else subject.measure)
    if subject.cost is None:
        axes.set_xlim(-0.05, 1.05)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("share that reaches the base")
        return
    low, high = min(data.xs), max(data.xs)
    if data.log:
        _log_scale(axes, low, high)
    else:
        margin = 0.06 * (high - low or high or 1.0)
        axes.set_xlim(low - margin, high + 1.5 * margin)
        axes.xaxis.set_major_locator(MaxNLocator(5 if size.narrow else 8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / data.unit.divisor:g}"))
    name = f" ({cost_name(subject.cost)})" if "@" in subject.cost else ""
    axes.set_xlabel(f"mean cost per input, {clean(data.unit.name + name)}")


def _log_scale(axes: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    decades = float(np.log10(high / low))
    axes.set_xscale("log")
    axes.set_xlim(low / (high / low) ** 0.05, high * (high / low) ** 0.08)
    axes.xaxis.set_major_locator(LogLocator(subs=(1,) if decades > 3.5 else (1, 3) if decades > 2 else (1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())


def _x_name(subject: Subject) -> str:
    return "cost" if subject.cost is not None else "the share that reaches the base"


def _caption(subject: Subject, data: FrontierData) -> Markup:
    parts = [
        "Up is better, left is cheaper. " if subject.cost else "Up is better, left is cheaper; costs are unknown. "
    ]
    if any(point.accuracy < data.floor for point, _ in data.points):
        parts.append("Dots are single models; a triangle at the lower edge is a model far below the plot. ")
    if data.curve is not None:
        parts.append(
            "The frontier is the best that the cascade reaches at each cost as its threshold moves; above the dotted "
            "line it beats the base. "
        )
    if data.routed is not None:
        parts.append("The dashed line sends a random share to the base: what lies above it is what the score knows. ")
    policy = subject.policy
    if policy is not None and policy.drawn is not None and policy.drawn != policy.judged:
        which = "all those of the run" if subject.pair is not None else "those that thresholds were chosen on"
        parts.append(
            f"The plots show {format_count(policy.drawn.n)} samples, {which}; the figures at the top are of the "
            f"{format_count(policy.judged.n)} that it was judged on."
        )
    return join(parts)
