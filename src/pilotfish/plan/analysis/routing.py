"""What to hold a pair's curve against: oracle and random routing, mixing without a saver's cost, the models alone.

All are lines between a few corners, exact at every whole number of samples (where answers are not right or wrong, those
of the oracles are thinned to 500):

    oracle        knows who is better after the saver ran: what the base wins most on goes to it first, what it loses
                  never. Cost C_S + q C_B for a share q that reaches the base (TinySaver Eq. 1)
    prior_oracle  knows it before: cost (1 - q) C_S + q C_B. No router can be better (Eq. 2 at no cost of its own)
    random        a random share q goes on to the base, the saver paid by all
    mixing        a coin chooses one model for each sample: cost (1 - q) C_S + q C_B
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.plan.analysis.curves import thin
from pilotfish.plan.analysis.ties import groups
from pilotfish.plan.sweep import F64, advantage
from pilotfish.plan.trace import Trace


@dataclass(frozen=True)
class Line:
    """Corners of a policy line, straight in between.

    deferred  float64 (P,), rising: the share that reaches the base
    accuracy  float64 (P,)
    cost      float64 (P,), mean per sample; None without costs
    """

    deferred: F64
    accuracy: F64
    cost: F64 | None

    def at(self, deferred: float) -> float:
        """The accuracy where a share *deferred* reaches the base."""
        return float(np.interp(deferred, self.deferred, self.accuracy))

    def at_cost(self, cost: float) -> float | None:
        """The accuracy at a mean cost, the ends' beyond them; None without costs."""
        return None if self.cost is None else float(np.interp(cost, self.cost, self.accuracy))


@dataclass(frozen=True)
class References:
    """The lines of the module's docstring, the models alone, and how much of the oracle's advantage the score has.

    captured  area between the pair's curve and random, over the area between oracle and random, both over the exit
              ratio: 1 ranks as the oracle, 0 as a coin, less is worse than that; None where no order matters
    """

    saver_accuracy: float
    base_accuracy: float
    oracle: Line
    prior_oracle: Line
    random: Line
    mixing: Line
    captured: float | None


def references(trace: Trace) -> References:
    """The reference lines of a saver and its base."""
    saver, base = (float(one.mean()) for one in trace.quality)
    best, straight = _oracle(trace), (np.array([0.0, 1.0]), np.array([saver, base]))
    return References(
        saver_accuracy=saver,
        base_accuracy=base,
        oracle=_line(*best, trace, saver_first=True),
        prior_oracle=_line(*best, trace, saver_first=False),
        random=_line(*straight, trace, saver_first=True),
        mixing=_line(*straight, trace, saver_first=False),
        captured=captured(trace),
    )


def captured(trace: Trace) -> float | None:
    """See :class:`References`. Ties count as a random order would have them; NaN exits last."""
    change = advantage(*trace.quality).astype(np.float64)
    inverse, counts = groups(trace.values[0])
    gains = np.bincount(inverse, weights=change, minlength=len(counts))[::-1]
    ours = _area(np.cumsum(counts[::-1]), np.cumsum(gains))
    best = _area(np.arange(1, len(change) + 1), np.cumsum(np.sort(change)[::-1]))
    chance = len(change) * float(change.sum()) / 2
    return None if change.min() == change.max() else (ours - chance) / (best - chance)


def _area(exited: NDArray[np.integer], gain: F64) -> float:
    """Under the line from nothing through these points."""
    steps, before = np.diff(exited, prepend=0), np.concatenate([[0.0], gain[:-1]])
    return float((steps * (gain + before) / 2).sum())


def _oracle(trace: Trace) -> tuple[F64, F64]:
    """(share that goes to the base, mean quality): the samples that gain most by it first, none that lose."""
    gain = -advantage(*trace.quality)
    levels, counts = np.unique(np.append(gain[gain > 0], 0), return_counts=True)
    counts[0] = 0
    deferred, won = (np.cumsum(c[::-1], dtype=np.float64)[: max(len(c) - 1, 1)] for c in (counts, levels * counts))
    rows = thin(deferred)
    worth = float(trace.quality[0].mean()) + np.concatenate([[0.0], won[rows], won[-1:]]) / len(trace)
    return np.concatenate([[0.0], deferred[rows] / len(trace), [1.0]]), worth


def _line(deferred: F64, accuracy: F64, trace: Trace, saver_first: bool) -> Line:
    if trace.costs is None:
        return Line(deferred, accuracy, None)
    C_S, C_B = trace.costs
    return Line(deferred, accuracy, deferred * C_B + (C_S if saver_first else (1 - deferred) * C_S))
