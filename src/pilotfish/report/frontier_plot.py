"""Accuracy against cost: what is shown, as numbers, and the plot of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.plan.analysis.curves import thin
from pilotfish.plan.sweep import F64
from pilotfish.report.format import Unit, capital, cost_name, cost_unit, format_cost, format_count, percent, shorten_all
from pilotfish.report.html import Markup, clean, join, tag
from pilotfish.report.labels import Label, place_labels
from pilotfish.report.subject import ModelPoint, Subject
from pilotfish.report.svg import BASE, CASCADE, MUTED, OTHER, SAVER, Size, legend, plot

LOG_SPREAD = 20
Curve = tuple[F64, F64]


@dataclass(frozen=True)
class FrontierData:
    """x is the mean cost per input or, without costs, the share that reaches the base; y is a fraction.

    points  models alone, with their x
    curve   the frontier, at most 400 points; None without a cascade
    routed  random routing of a pair
    here    the operating point
    floor   the lowest y drawn; what is worse stands at the edge
    log     whether x is logarithmic
    unit    of x
    """

    points: tuple[tuple[ModelPoint, float], ...]
    curve: Curve | None
    routed: Curve | None
    here: tuple[float, float] | None
    floor: float
    log: bool
    unit: Unit

    @property
    def xs(self) -> list[float]:
        """All x that the axis must hold."""
        routed = [] if self.routed is None else [float(self.routed[0].max())]
        return [x for _, x in self.points] + routed + ([] if self.here is None else [self.here[0]])


def frontier_data(subject: Subject) -> FrontierData:
    """The numbers of the plot."""
    points = _placed(subject)
    routed, here = _routed(subject, points), _here(subject)
    xs = [x for _, x in points] + ([] if here is None else [here[0]])
    log = subject.cost is not None and min(xs) > 0 and max(xs) / min(xs) > LOG_SPREAD
    curve = _curve(subject, log)
    return FrontierData(
        points=points,
        curve=curve,
        routed=routed,
        here=here,
        floor=_floor(subject, points, curve),
        log=log,
        unit=Unit("", 1.0) if subject.cost is None else cost_unit(subject.cost, max(xs)),
    )


def _placed(subject: Subject) -> tuple[tuple[ModelPoint, float], ...]:
    """Models with a place on the x axis. Without costs only the pair has one: the shares 0 and 1."""
    if subject.cost is not None:
        return tuple((point, point.cost) for point in subject.points if point.cost is not None)
    place = {subject.saver: 0.0, subject.base: 1.0}
    return tuple((point, place[point.name]) for point in subject.points if point.name in place)


def _curve(subject: Subject, log: bool) -> Curve | None:
    frontier = subject.frontier
    if frontier is None:
        return None
    x = frontier.cost if subject.cost is not None and frontier.cost is not None else frontier.exit_ratio[:, -1]
    rows = thin(np.log(x) if log else x)
    return x[rows], frontier.value[rows]


def _routed(subject: Subject, points: tuple[tuple[ModelPoint, float], ...]) -> Curve | None:
    """A random share r stays with the saver: cost C_S + (1 - r) C_B, accuracy between the two."""
    alone = {point.name: point.accuracy for point, _ in points}
    if len(subject.stages) != 2 or not alone.keys() >= set(subject.stages):
        return None
    reach = np.linspace(0, 1, 60)
    saver, base = (alone[name] for name in subject.stages)
    accuracy = saver + reach * (base - saver)
    if subject.cost is None or subject.stage_costs is None:
        return (reach, accuracy) if subject.cost is None else None
    return subject.stage_costs[0] + reach * subject.stage_costs[-1], accuracy


def _here(subject: Subject) -> tuple[float, float] | None:
    if subject.policy is None:
        return None
    point = subject.policy.on_curve
    x = point.exit_ratio[-1] if subject.cost is None else point.cost
    return None if x is None else (x, point.value)


def _floor(subject: Subject, points: tuple[tuple[ModelPoint, float], ...], curve: Curve | None) -> float:
    """Models far below the pair would press all that matters into a line; they stand at the lower edge instead."""
    chief = [point.accuracy for point, _ in points if point.name in (subject.base, subject.saver)]
    chief += [subject.base_accuracy] + ([] if curve is None else [float(curve[1].min()), float(curve[1].max())])
    span = max(max(chief) - min(chief), 0.02)
    near = [point.accuracy for point, _ in points if point.accuracy >= min(chief) - 1.2 * span]
    return min(chief + near)


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
        tag("h2", f"{capital(subject.measure)} against {_x_name(subject)}"),
        _legend(subject, data),
        plot(draw, "frontier", label),
        tag("figcaption", _caption(subject, data)),
    )


def _legend(subject: Subject, data: FrontierData) -> Markup:
    names = {point.name for point, _ in data.points}
    keys: list[tuple[str, str, object]] = []
    short = shorten_all([*names, *subject.stages, subject.base])
    if subject.saver in names:
        keys.append((SAVER, "dot", f"saver {short[str(subject.saver)]}"))
    keys.append((BASE, "dot", f"base {short[subject.base]}"))
    if names - {subject.saver, subject.base}:
        keys.append((OTHER, "dot", "other models alone"))
    if data.curve is not None:
        keys.append((CASCADE, "line", "frontier of " + " → ".join(short[name] for name in subject.stages)))
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
    short = shorten_all([point.name for point, _ in data.points], 20 if size.narrow else 28)
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
            text = clean(short[point.name])
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
