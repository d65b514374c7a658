"""What to hold a pair's curve against: oracle and random routing, mixing without a saver's cost, the models alone.

All are lines between a few corners, exact at every whole number of samples. With n10 samples that only the base gets
right and n01 that only the saver does:

    oracle        knows who is right after the saver ran: the n10 go to the base first, the n01 never.
                  Cost C_S + q C_B for a share q that reaches the base (TinySaver Eq. 1)
    prior_oracle  knows it before: cost (1 - q) C_S + q C_B. No router can be better (Eq. 2 at no cost of its own)
    random        a random share q goes on to the base, the saver paid by all
    mixing        a coin chooses one model for each sample: cost (1 - q) C_S + q C_B
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.plan.analysis.pair import Pair
from pilotfish.plan.analysis.ties import groups
from pilotfish.plan.sweep import F64


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

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        cost = None if self.cost is None else self.cost.tolist()
        return {"deferred": self.deferred.tolist(), "accuracy": self.accuracy.tolist(), "cost": cost}


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

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        lines = {name: getattr(self, name).to_json() for name in ("oracle", "prior_oracle", "random", "mixing")}
        alone = {"saver_accuracy": self.saver_accuracy, "base_accuracy": self.base_accuracy}
        return {**alone, **lines, "captured": self.captured}


def references(pair: Pair) -> References:
    """The reference lines of *pair*."""
    n = len(pair)
    saver, base = float(pair.saver_correct.mean()), float(pair.base_correct.mean())
    n10 = float((pair.base_correct & ~pair.saver_correct).sum()) / n
    best = (np.array([0.0, n10, 1.0]), np.array([saver, saver + n10, saver + n10]))
    straight = (np.array([0.0, 1.0]), np.array([saver, base]))
    return References(
        saver_accuracy=saver,
        base_accuracy=base,
        oracle=_line(*best, pair, saver_first=True),
        prior_oracle=_line(*best, pair, saver_first=False),
        random=_line(*straight, pair, saver_first=True),
        mixing=_line(*straight, pair, saver_first=False),
        captured=captured(pair),
    )


def captured(pair: Pair) -> float | None:
    """See :class:`References`. Ties count as a random order would have them; NaN exits last."""
    n = len(pair)
    change = pair.saver_correct.astype(np.float64) - pair.base_correct
    inverse, counts = groups(pair.score)
    gains = np.bincount(inverse, weights=change, minlength=len(counts))[::-1]
    ours = _area(np.append(0, np.cumsum(counts[::-1])), np.append(0, np.cumsum(gains)))
    n10, n01 = float((change < 0).sum()), float((change > 0).sum())
    best = _area(np.array([0, n01, n - n10, n]), np.array([0, n01, n01, n01 - n10]))
    chance = n * (n01 - n10) / 2
    return float((ours - chance) / (best - chance)) if best > chance else None


def _area(exited: F64, gain: F64) -> float:
    return float((np.diff(exited) * (gain[1:] + gain[:-1]) / 2).sum())


def _line(deferred: F64, accuracy: F64, pair: Pair, saver_first: bool) -> Line:
    C_S, C_B = pair.saver_cost, pair.base_cost
    if C_S is None or C_B is None:
        return Line(deferred, accuracy, None)
    return Line(deferred, accuracy, deferred * C_B + (C_S if saver_first else (1 - deferred) * C_S))
