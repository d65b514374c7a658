"""Where the saver's mistakes are, and what the base makes of them (Little-Big Fig. 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.plan.sweep import F64
from pilotfish.plan.trace import Trace
from pilotfish.report.format import format_count, format_threshold, shorten_all
from pilotfish.report.html import Markup, tag
from pilotfish.report.mistakes import Mistakes, mistakes
from pilotfish.report.subject import Subject
from pilotfish.report.svg import BASE, CASCADE, OTHER, SAVER, Size, legend, plot
from pilotfish.scores import Scale, from_shown, to_shown
from pilotfish.text import quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection
    from matplotlib.figure import Figure

TICKS: tuple[tuple[float, str], ...] = (
    *((float(from_shown("log_odds", p)), f"{p:g}") for p in (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)),
    *((nines * math.log(10), f"1−10{power}") for nines, power in ((5, "⁻⁵"), (6, "⁻⁶"), (7, "⁻⁷"), (8, "⁻⁸"))),
)


def mistakes_figure(subject: Subject, pair: Trace) -> Markup:
    """The figure with its legend, caption and counts."""
    found, (saver, base) = mistakes(pair, subject.threshold), pair.names
    counts = found.counts
    labelled, binary = subject.reference == "label", pair.quality.dtype == np.bool_
    what = "Differences" if not labelled else "Mistakes" if binary else "Worse and better answers"
    first = "saver and base differ" if not labelled else "the base corrects" if binary else "the base does better"
    keys: list[tuple[str, str, object]] = [(BASE, "box", f"{first}: {format_count(counts.corrected)}")]
    if labelled and not binary:
        keys.append((SAVER, "box", f"the saver does better: {format_count(counts.spoiled)}"))
    elif labelled:
        keys.append((OTHER, "box", f"neither is right: {format_count(counts.shared)}"))
        keys.append((SAVER, "box", f"the saver is right, the base wrong: {format_count(counts.spoiled)}"))
    keys.append((CASCADE, "line", f"threshold {_threshold(subject, pair)}"))

    def draw(figure: Figure, size: Size) -> Mapping[str, str]:
        _draw(figure.add_subplot(), size, pair.scales[0], subject.threshold, found)
        return {}

    drawn = (
        f"{counts.corrected} that {base} corrects, {counts.shared} that neither gets right, {counts.spoiled} that only "
        f"{saver} gets right."
    )
    if not binary:
        drawn = f"{counts.corrected} where {base} does better, {counts.spoiled} where {saver} does."
    return tag(
        "figure",
        tag("h2", f"{what} by the saver's confidence"),
        legend(*keys),
        plot(
            draw,
            "mistakes",
            f"Histogram of {what.lower()} by the confidence of {saver}: {drawn}",
        ),
        tag("figcaption", _caption(labelled, binary)),
        tag("p", _sentence(subject, pair, found), class_="small"),
    )


def _draw(axes: Axes, size: Size, scale: Scale, threshold: float, found: Mistakes) -> None:
    from matplotlib.ticker import MaxNLocator

    edges, bottom = found.edges, np.zeros(len(found.corrected))
    for counts, colour in ((found.corrected, BASE), (found.shared, OTHER), (found.spoiled, SAVER)):
        axes.add_collection(_bars(edges, bottom, bottom + counts, colour))
        bottom = bottom + counts
    left, right = float(edges[0]), float(edges[-1])
    span, top = right - left, max(float(bottom.max()), 1.0)
    axes.set_ylim(0, top * 1.16)
    axes.set_xlim(left - 0.02 * span, right + 0.02 * span)
    at = min(max(threshold, left - 0.01 * span), right + 0.01 * span)
    axes.axvline(at, color=CASCADE, lw=2)
    place = (at - left) / span
    if place > 0.25:
        _word(axes, at - 0.012 * span, top, "to the base ←", "right")
    if place < 0.85:
        _word(axes, at + 0.012 * span, top, "→ exit", "left")
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="x", visible=False)
    axes.set_xlabel("the saver's confidence" + (", a probability" if scale == "log_odds" else ""))
    axes.set_ylabel("" if size.narrow else "inputs")
    if scale == "log_odds":
        _probability_ticks(axes, left, right, 5 if size.narrow else 9)


def _bars(edges: F64, bottom: F64, top: F64, colour: str) -> PolyCollection:
    """One layer of the stack as one artist."""
    from matplotlib.collections import PolyCollection

    left, right = edges[:-1], edges[:-1] + 0.9 * np.diff(edges)
    x = np.stack([left, left, right, right], axis=1)
    y = np.stack([bottom, top, top, bottom], axis=1)
    return PolyCollection(list(np.stack([x, y], axis=2)[top > bottom]), facecolors=colour, linewidths=0)


def _word(axes: Axes, x: float, top: float, text: str, side: str) -> None:
    axes.text(x, top * 1.09, text, ha=side, va="center", color=CASCADE)


def _probability_ticks(axes: Axes, left: float, right: float, most: int) -> None:
    """Log-odds read as probabilities. Confidence above 0.9 is where thresholds lie, so it gets most of the room."""
    inside = [(x, text) for x, text in TICKS if left <= x <= right]
    if len(inside) < 2:
        spread = np.linspace(left, right, 4).tolist()
        inside = [(x, f"{float(to_shown('log_odds', x)):.4g}") for x in spread]
    step = math.ceil(len(inside) / most)
    axes.set_xticks([x for x, _ in inside[::step]], [text for _, text in inside[::step]])


def _threshold(subject: Subject, pair: Trace) -> str:
    return format_threshold(float(to_shown(pair.scales[0], subject.threshold)))


def _caption(labelled: bool, binary: bool) -> str:
    if not labelled:
        return (
            "Each bar counts inputs whose answer the base changes, by how confident the saver was. A good saver has "
            "them on the left, below the threshold: those go to the base."
        )
    if not binary:
        return (
            "Each bar counts inputs that one model answers better than the other, by how confident the saver was. Blue "
            "ones should lie left of the threshold, where inputs go to the base. Orange ones lose when they go there."
        )
    return (
        "Each bar counts inputs that the two models do not both get right, by how confident the saver was. Blue ones "
        "should lie left of the threshold, where inputs go to the base; right of it the saver keeps its mistake. Grey "
        "ones no threshold can mend. Orange ones are lost when they go to the base."
    )


def _sentence(subject: Subject, pair: Trace, found: Mistakes) -> str:
    counts, short = found.counts, shorten_all(pair.names)
    saver, base = (short[name] for name in pair.names)
    labelled, binary = subject.reference == "label", pair.quality.dtype == np.bool_
    parts = []
    if counts.median is not None and counts.q90 is not None:
        noun = "mistakes that the base corrects" if labelled else "differences"
        noun = noun if binary else "answers that the base does better"
        parts.append(
            f"Of the {format_count(counts.corrected)} {noun}, half have a confidence below "
            f"{format_threshold(counts.median)} and 90% below {format_threshold(counts.q90)}."
        )
    if subject.threshold == math.inf:
        parts.append(f"Nobody exits: the answers of {saver} are never used.")
    else:
        where = "Everybody exits" if subject.threshold == -math.inf else f"At the threshold {_threshold(subject, pair)}"
        parts.append(f"{where}: {format_count(counts.corrected_kept)} of these exit all the same and are lost.")
        if labelled and not binary:
            parts.append(f"In return, {format_count(counts.spoiled_kept)} exit that {base} would do worse.")
        elif labelled:
            parts.append(
                f"In return, {format_count(counts.spoiled_kept)} right answers of {saver} exit before "
                f"{base} gets them wrong."
            )
    if counts.unscored:
        many = "inputs have no finite confidence and always go"
        one = "input has no finite confidence and always goes"
        parts.append(f"{quantity(counts.unscored, one, many)} to the base.")
    return " ".join(parts)
