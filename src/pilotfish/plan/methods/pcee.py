"""PCEE and PCEE-WS (arXiv 2412.19325): one accuracy delta for all exits, read off reliability diagrams.

A sample exits at the first stage whose diagram, at the sample's score, is at least delta; else the last stage answers.
PCEE as in its abstract; bins, smoothing and the fallback (the last stage) are our choices. The diagrams are of
everybody, or of the samples that earlier exits left (``survivors``): those are harder at equal confidence, so
everybody's diagram promises them too much (methods 3.3).

Exiting where the diagram is at least delta leaves the exits' mean accuracy above delta. ``control=mean``, which is
ours, lets the highest part of each diagram exit whose mean is delta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Budget, ExitSets, from_bins, leaves
from pilotfish.errors import UsageError
from pilotfish.plan.path import PolicyPath, sets_path
from pilotfish.plan.trace import Trace
from pilotfish.scores.diagram import Binning, Diagram, binned, smoothed

F64 = NDArray[np.float64]
Population = Literal["everybody", "survivors"]
Control = Literal["each", "mean"]
MOST_DELTAS = 200


@dataclass(frozen=True)
class PceeOptions:
    """diagram: whose accuracy; control: what delta bounds, each exit or their mean; bins, binning: of the diagram;
    lower_bound: confidence of a bound to use instead of the share."""

    diagram: Population = "everybody"
    control: Control = "each"
    bins: int = 50
    binning: Binning = "width"
    lower_bound: float | None = None


@dataclass(frozen=True)
class PceeWsOptions:
    """smoothing: by so many ``neighbours`` on each side, a ``kernel`` of this ``width``, or ``isotonic``."""

    diagram: Population = "everybody"
    control: Control = "each"
    smoothing: Literal["neighbours", "kernel", "isotonic"] = "neighbours"
    neighbours: int = 150
    width: float = 0.02
    lower_bound: float | None = None

    def __post_init__(self) -> None:
        if self.lower_bound is not None and self.smoothing != "neighbours":
            raise UsageError(f"a lower bound needs counts; smoothing {self.smoothing} has none: use neighbours")
        if not self.width > 0:
            raise UsageError("the width of the kernel is above 0, in the unit of the score")


Options = PceeOptions | PceeWsOptions


def pcee_path(trace: Trace, budget: Budget, options: Options) -> PolicyPath:
    """The policies of falling delta, from "exit nobody" on; deltas are heights of everybody's diagrams and a grid."""
    if options.lower_bound is not None and trace.quality.dtype != np.bool_:
        raise UsageError(
            f"a lower bound counts right and wrong answers, and {trace.metric.says} is a number per sample; leave "
            "lower_bound out"
        )
    everybody = diagrams(trace, options)
    heights = np.unique(np.concatenate([d.accuracy for d in everybody]))
    heights = heights[np.isfinite(heights)]
    if options.diagram == "survivors" or options.control == "mean":
        heights = np.union1d(heights, np.arange(1, 200) / 200)
    if len(heights) > MOST_DELTAS:
        heights = heights[np.unique(np.linspace(0, len(heights) - 1, MOST_DELTAS).round().astype(int))]
    deltas = heights[::-1]
    sets = [exit_sets(trace, float(delta), options, everybody) for delta in deltas]
    return sets_path(sets, trace.stages, "delta", deltas)


def diagrams(trace: Trace, options: Options) -> list[Diagram]:
    """The diagram of each stage but the last, on all samples of *trace*."""
    return [_diagram(trace, k, np.arange(len(trace)), options) for k in range(trace.stages - 1)]


def exit_sets(trace: Trace, delta: float, options: Options, everybody: Sequence[Diagram] | None = None) -> ExitSets:
    """The scores that exit at each stage for one delta; *trace* is what the diagrams are fitted on."""
    if options.diagram == "everybody":
        drawn = everybody if everybody is not None else diagrams(trace, options)
        return tuple(_accepted(d, delta, options) for d in drawn)
    sets, rows = [], np.arange(len(trace))
    for k in range(trace.stages - 1):
        first = everybody[0] if k == 0 and everybody is not None else None
        accepted = _accepted(first or _diagram(trace, k, rows, options), delta, options)
        sets.append(accepted)
        rows = rows[~leaves(trace.values[k][rows], accepted)]
    return tuple(sets)


def _accepted(diagram: Diagram, delta: float, options: Options) -> tuple[float, ...]:
    bins = diagram.at_least(delta) if options.control == "each" else diagram.at_least_on_average(delta)
    return tuple(from_bins(diagram.edges, bins).tolist())


def _diagram(trace: Trace, k: int, rows: NDArray[np.intp], options: Options) -> Diagram:
    values, right, scale = trace.values[k][rows], trace.quality[k][rows], trace.scales[k]
    if isinstance(options, PceeOptions):
        return binned(values, right, scale, options.bins, options.binning, options.lower_bound)
    return smoothed(values, right, scale, options.smoothing, options.neighbours, options.width, options.lower_bound)
