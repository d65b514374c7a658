"""The picture of an analysis: a pair between random routing and the oracle, and its r_match curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pilotfish.plan.analysis import Analysis, GainCurve, Line, PairAnalysis
from pilotfish.plots import TEXT, drawn
from pilotfish.report.format import MINUS, cost_name, cost_unit, format_count, percent, shorten_all, signed_percent
from pilotfish.report.html import clean
from pilotfish.report.labels import Label, place_labels
from pilotfish.report.svg import BASE, CASCADE, MUTED, OTHER, SAVER
from pilotfish.tasks import says_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_plot(analysis: Analysis, path: Path) -> None:
    """Draw the first pair of *analysis*, the others in grey beside it, into *path* (.png or .svg)."""
    with drawn(path, (14, 6.6), layout=None, dpi=100) as figure:
        figure.subplots_adjust(left=0.055, right=0.985, top=0.87, bottom=0.18, wspace=0.16)
        left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
        pair = (analysis.pairs[0].saver, analysis.base)
        short = shorten_all(pair, 40)
        names = " → ".join(short[name] for name in pair)
        count = f"split {analysis.split}, {format_count(analysis.n)} inputs"
        figure.suptitle(clean(f"{names}   ({count})"), x=0.012, ha="left", fontsize=TEXT + 3, fontweight="bold")
        _routing(left, analysis)
        _matching(right, analysis)


def _routing(axes: Axes, analysis: Analysis) -> None:
    """Accuracy against cost."""
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

    chief = analysis.pairs[0]
    lines = chief.references
    curve = _pair_line(chief, analysis)
    look: dict[str, dict[str, Any]] = {
        "oracle, the saver paid": {"color": SAVER, "lw": 1.8, "ls": (0, (6, 2))},
        "oracle before the saver": {"color": SAVER, "lw": 1.2, "ls": (0, (1, 1.5))},
        "random routing": {"color": MUTED, "lw": 1.5, "ls": (0, (5, 3))},
        "a coin for each input": {"color": MUTED, "lw": 1.2, "ls": (0, (1, 1.5))},
    }
    drawn = zip(look, (lines.oracle, lines.prior_oracle, lines.random, lines.mixing), strict=True)
    for name, line in drawn:
        axes.plot(*_xy(line), label=name, zorder=3, **look[name])
    axes.fill_between(
        *_xy(curve), np.interp(_x(curve), *_xy(lines.random)).tolist(), color=CASCADE, alpha=0.10, lw=0, zorder=1
    )
    axes.plot(*_xy(curve), color=CASCADE, lw=2.6, zorder=5, label="the pair, by its score")
    names = [*_here(axes, analysis, chief), *_models(axes, analysis, chief)]
    _limits(axes, analysis, chief, curve)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_locator(MaxNLocator(7))
    measure = says_of(analysis.metric) if analysis.reference == "label" else "agreement"
    axes.set_title(f"{measure.capitalize()} against cost")
    if curve.cost is None:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("share that reaches the base (costs are unknown)")
    else:
        unit = cost_unit(analysis.cost, max(float(curve.cost.max()), analysis.base_cost or 0.0))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / unit.divisor:g}"))
        where = f" ({cost_name(analysis.cost)})" if "@" in analysis.cost else ""
        axes.set_xlabel(clean(f"mean cost per input, {unit.name}{where}"))
    handles, labels = axes.get_legend_handles_labels()
    _legend(axes, [handles[-1], *handles[:-1]], [labels[-1], *labels[:-1]], 3)
    place_labels(axes, names, [_xy(line) for line in (curve, lines.random, lines.oracle)], TEXT - 1)
    for text in axes.texts:
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
        text.set_zorder(9)


def _legend(axes: Axes, handles: list[Any], labels: list[str], columns: int) -> None:
    """Below the axes, where it covers nothing."""
    axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(-0.02, -0.1), ncols=columns, columnspacing=1.6)


def _models(axes: Axes, analysis: Analysis, chief: PairAnalysis) -> list[Label]:
    """Dots of the models alone, and their names; the pair's own come first."""
    base_cost = None if chief.saver_cost is None else analysis.base_cost
    places = [(analysis.base, 1.0 if base_cost is None else base_cost, analysis.base_accuracy, BASE)]
    for pair in analysis.pairs:
        x = pair.saver_cost if base_cost is not None else 0.0 if pair is chief else None
        if x is not None:
            places.append((pair.saver, x, pair.references.saver_accuracy, SAVER if pair is chief else OTHER))
    for number, (_, x, y, colour) in enumerate(places):
        axes.plot(
            [x], [y], "o", ms=9 if number < 2 else 6, mfc=colour, mec="white", mew=1, zorder=7 if number < 2 else 4
        )
    short = shorten_all([name for name, *_ in places])
    return [
        Label(clean(short[name]), x, y, colour if k < 2 else MUTED, bold=k < 2, must=k < 2)
        for k, (name, x, y, colour) in enumerate(places)
    ]


def _here(axes: Axes, analysis: Analysis, chief: PairAnalysis) -> list[Label]:
    """A ring where the pair is cheapest within the drop; its name. Nothing without costs."""
    found = chief.break_even
    if found is None:
        return []
    x, y = found.cost_pair, analysis.base_accuracy - found.drop
    axes.plot([x], [y], "o", ms=13, mfc="none", mec=CASCADE, mew=2.2, zorder=8)
    saving = f"{signed_percent(x / found.base_cost - 1, 0)} cost, {percent(found.exit_ratio, 0)} exit"
    return [Label(saving, x, y, CASCADE, bold=True, must=True)]


def _limits(axes: Axes, analysis: Analysis, chief: PairAnalysis, curve: Line) -> None:
    """The pair and its lines fill the plot; models far below it leave it."""
    lines = chief.references
    xs = np.concatenate([_x(curve), _x(lines.random), _x(lines.mixing)])
    low = min(lines.saver_accuracy, lines.base_accuracy, float(curve.accuracy.min()))
    high = max(float(lines.oracle.accuracy.max()), float(curve.accuracy.max()))
    pad = 0.07 * max(high - low, 0.01)
    axes.set_ylim(low - 2 * pad, high + pad)
    margin = 0.05 * float(np.ptp(xs))
    left = min(float(xs.min()), *(p.saver_cost or 0.0 for p in analysis.pairs)) if curve.cost is not None else 0.0
    axes.set_xlim(left - margin, float(xs.max()) + margin)


def _matching(axes: Axes, analysis: Analysis) -> None:
    """What exiting wins or loses on train and on validation, by exit ratio."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    chief = analysis.pairs[0]
    split, train = analysis.split, analysis.train or f"{analysis.split}, one half"
    judged = split if analysis.train else f"{split}, the other half"
    sides: list[tuple[str, GainCurve, str, Any]] = [(judged, chief.curve, CASCADE, "-")]
    if chief.curves is not None:
        sides = [(judged, chief.curves.validation, CASCADE, "-"), (train, chief.curves.train, SAVER, (0, (6, 2)))]
    for pair in analysis.pairs[1:]:
        curve = pair.curve if pair.curves is None else pair.curves.validation
        axes.plot(curve.exit_ratio, 100 * curve.gain, color=OTHER, lw=0.8, alpha=0.4, zorder=2)
    axes.axhline(0, color=BASE, lw=1.3, zorder=3)
    if analysis.max_drop > 0:
        axes.axhline(-100 * analysis.max_drop, color=BASE, lw=1, ls=(0, (1, 2)), zorder=3)
    for name, curve, colour, dash in sides:
        axes.plot(
            curve.exit_ratio, 100 * curve.gain, color=colour, lw=2.2, ls=dash, zorder=5, label=_match_name(name, curve)
        )
        axes.plot([curve.r_match], [_gain_at_match(curve)], "o", ms=11, mfc="none", mec=colour, mew=2.2, zorder=6)
    best = max(0.1, *(float(100 * curve.gain.max()) for _, curve, _, _ in sides))
    worst = min(float(100 * curve.gain.min()) for _, curve, _, _ in sides)
    axes.set_ylim(max(worst, -max(6 * best, 300 * analysis.max_drop)) - 0.2 * best, 1.25 * best)
    axes.set_xlim(-0.02, 1.03)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_locator(MaxNLocator(7))
    axes.set_xlabel("exit ratio, the most confident first")
    axes.set_ylabel("gain over the base, points")
    axes.set_title("What exiting wins and loses")
    _legend(axes, *axes.get_legend_handles_labels(), 1)
    if analysis.max_drop > 0:
        text = f"{MINUS}{percent(analysis.max_drop, 1).removesuffix('%')} points"
        axes.text(0, -100 * analysis.max_drop, text, color=BASE, fontsize=TEXT - 2, ha="left", va="bottom")


def _match_name(name: str, curve: GainCurve) -> str:
    return clean(f"{name}: r_match {percent(curve.r_match, 1)}")


def _gain_at_match(curve: GainCurve) -> float:
    """Points; r_match is among the curve's points."""
    return float(100 * curve.gain[int(np.abs(curve.exit_ratio - curve.r_match).argmin())])


def _pair_line(pair: PairAnalysis, analysis: Analysis) -> Line:
    """The pair's own curve, everybody deferred last."""
    deferred, accuracy = 1 - pair.curve.exit_ratio[::-1], analysis.base_accuracy + pair.curve.gain[::-1]
    if pair.saver_cost is None or analysis.base_cost is None:
        return Line(deferred, accuracy, None)
    return Line(deferred, accuracy, pair.saver_cost + deferred * analysis.base_cost)


def _x(line: Line) -> Any:
    return line.deferred if line.cost is None else line.cost


def _xy(line: Line) -> tuple[Any, Any]:
    return _x(line), line.accuracy
