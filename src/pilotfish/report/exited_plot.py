"""Saver and base on the samples that exit, by exit ratio (TinySaver Fig. 3), and what exiting does to the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from pilotfish.plan.analysis import GainCurve, gain_curve
from pilotfish.plan.sweep import F64
from pilotfish.plan.trace import Trace
from pilotfish.report.format import capital, percent, shorten_all
from pilotfish.report.html import Markup, tag
from pilotfish.report.labels import Label, place_labels
from pilotfish.report.subject import Subject
from pilotfish.report.svg import BASE, CASCADE, MUTED, SAVER, Size, legend, plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 400
NOISY = 0.01  # below this share of the samples a curve is a handful of them and may leave the plot
CROSSING = "#c92a2a"


def exited_figure(subject: Subject, pair: Trace) -> Markup:
    """The figure with its legend and caption."""
    curve, (saver, base) = gain_curve(pair, MOST_POINTS), pair.names
    policy, what = subject.policy, _measured(subject, pair)
    here = None if policy is None or subject.chosen != "cascade" else policy.on_curve.exit_ratio[0]

    def draw(figure: Figure, size: Size) -> Mapping[str, str]:
        return _draw(figure, size, what, curve, here)

    short = shorten_all(pair.names)
    keys: list[tuple[str, str, object]] = [
        (SAVER, "line", f"saver {short[saver]}"),
        (BASE, "line", f"base {short[base]}"),
    ]
    if curve.r_match > 0:
        keys.append((CROSSING, "ring", f"r_match = {percent(curve.r_match)}"))
    if here is not None:
        keys.append((CASCADE, "dash", f"operating point: {percent(here)} exit"))
    return tag(
        "figure",
        tag("h2", "On the inputs that exit"),
        legend(*keys),
        plot(
            draw,
            "exited",
            f"{what} of {saver} and {base} on the exited samples against the exit "
            f"ratio; the saver is at least as good up to {percent(curve.r_match)}.",
            taller=1.35,
        ),
        tag("figcaption", _caption(what, curve), _stands_for(subject, what)),
    )


def _draw(figure: Figure, size: Size, what: str, curve: GainCurve, here: float | None) -> Mapping[str, str]:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[5, 3])
    _exited(upper, curve)
    _gain(lower, curve, here)
    for axes in (upper, lower):
        if here is not None:
            axes.axvline(here, color=CASCADE, lw=1.6, ls=(0, (5, 3)), zorder=1)
        if curve.r_match > 0:
            axes.axvline(curve.r_match, color=CROSSING, lw=1, ls=(0, (2, 2)), zorder=1)
    upper.xaxis.set_major_formatter(PercentFormatter(1.0))
    upper.yaxis.set_major_formatter(PercentFormatter(1.0))
    upper.yaxis.set_major_locator(MaxNLocator(6))
    lower.yaxis.set_major_locator(MaxNLocator(4))
    lower.set_xlabel("exit ratio, the most confident first")
    if not size.narrow:
        upper.set_ylabel(f"{what} on the exited")
        lower.set_ylabel("gain, points")
        figure.align_ylabels([upper, lower])
    names = []
    if curve.r_match > 0:
        x, y = curve.r_match, float(curve.saver[np.searchsorted(curve.exit_ratio, curve.r_match)])
        upper.plot([x], [y], "o", ms=13, mfc="none", mec=CROSSING, mew=2.2, zorder=5, clip_on=False, gid="match")
        names.append(Label(f"r_match {percent(x, 1)}", x, y, CROSSING, bold=True, must=True))
    r, saver, base = curve.exit_ratio[1:], curve.saver[1:], curve.base[1:]
    place_labels(upper, names, [(r, saver), (r, base)], size.text - 1)
    return {"match": f"r_match: {percent(curve.r_match)} can exit at no drop"}


def _exited(axes: Axes, curve: GainCurve) -> None:
    r, saver, base = curve.exit_ratio[1:], curve.saver[1:], curve.base[1:]
    _fill(axes, r, saver, base)
    axes.plot(r, base, color=BASE, lw=2)
    axes.plot(r, saver, color=SAVER, lw=2)
    steady = r >= min(NOISY, float(r[-1])) if len(r) else r > 0
    values = [*saver[steady].tolist(), *base[steady].tolist()] or [0.0, 1.0]
    low, high = min(values), max(values)
    pad = 0.07 * max(high - low, 0.01)
    axes.set_ylim(low - pad, high + pad)
    axes.set_xlim(-0.01, 1.03)


def _gain(axes: Axes, curve: GainCurve, here: float | None) -> None:
    """Cascade minus base over all samples, cut far below zero so that the crossing and *here* are seen."""
    r, gain = curve.exit_ratio[1:], 100 * curve.gain[1:]
    _fill(axes, r, gain, 0 * r)
    axes.axhline(0, color=BASE, lw=1.2)
    axes.plot(r, gain, color=CASCADE, lw=2)
    best = max(float(gain.max(initial=0.0)), 0.02)
    deepest = 0.3 if here is None or not len(r) else max(0.3, -1.5 * float(np.interp(here, r, gain)))
    lowest = max(float(gain.min(initial=0.0)), -max(deepest, 3 * best))
    axes.set_ylim(lowest - 0.15 * best, 1.2 * best)
    axes.spines["bottom"].set_color(MUTED)


def _fill(axes: Axes, r: F64, one: F64, other: F64) -> None:
    axes.fill_between(r, one, other, where=(one >= other).tolist(), color=SAVER, alpha=0.16, lw=0, interpolate=True)
    axes.fill_between(r, one, other, where=(one < other).tolist(), color=BASE, alpha=0.10, lw=0, interpolate=True)


def _measured(subject: Subject, pair: Trace) -> str:
    """What the curves are of. A metric that is no mean has no value on the exited alone: the mean of what each answer
    is worth by itself is drawn then."""
    if pair.metric.kind == "mean":
        return subject.measure
    return "mean quality" if subject.reference == "label" else "mean agreement"


def _stands_for(subject: Subject, what: str) -> str:
    if what in (subject.measure, "mean agreement"):
        return ""
    return (
        f" {capital(subject.measure)} is no mean over inputs: the mean quality of single answers stands for it here, "
        f"and its r_match may differ from that of {subject.measure}."
    )


def _caption(what: str, curve: GainCurve) -> str:
    how = (
        "From the left, inputs exit in order of the saver's confidence. Above: both models on those inputs alone. "
        f"Below: what that does to the {what} of the whole, the gain in points over the base (cut off far "
        "below zero). "
    )
    if curve.r_match == 0:
        return how + "Here the base is better at every exit ratio: nobody can exit without a drop."
    if curve.r_match == 1:
        return how + "Here the saver is at least as good on all inputs together: everybody can exit."
    return how + f"The last crossing, at {percent(curve.r_match)}, is the most that the saver can answer at no drop."
