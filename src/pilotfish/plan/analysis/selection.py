"""Does the saver that looks best on train save most in use? ΔC_tr against realised savings (TinySaver 3.3, Eq. 10).

Savers are ranked on one set of samples by ΔC_tr = C_S / C_B - r. On another set, with the threshold kept, each has
its realised ΔC. A rank correlation says how well the one predicts the other, the regret what the choice cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pilotfish.documents import as_document
from pilotfish.plan.analysis.pair import Pair, check_drop
from pilotfish.plan.analysis.ties import spearman
from pilotfish.plan.sweep import at_thresholds, sweep


@dataclass(frozen=True)
class SelectedSaver:
    """One saver on both sets.

    train_exit_ratio, train_delta  at the largest exit ratio within the drop on train
    exit_ratio, delta, drop        on the judging samples at that threshold: delta is the realised ΔC
    own_exit_ratio, own_delta      on the judging samples at the threshold that they themselves would choose: what
                                   can be saved there at the same drop
    ``*delta`` is None where a cost is unknown.
    """

    saver: str
    cost_ratio: float | None
    threshold: float
    train_exit_ratio: float
    train_delta: float | None
    exit_ratio: float
    delta: float | None
    drop: float
    own_exit_ratio: float
    own_delta: float | None


@dataclass(frozen=True)
class Selection:
    """Savers of one base, the best on train first.

    by            ``delta_cost``, or ``exit_ratio`` where the base's cost is unknown (then regret is in exit ratio)
    spearman      rank correlation of ΔC_tr with realised ΔC; None under 3 savers
    spearman_own  the same with ``own_delta``
    selected      the smallest ΔC_tr below 0, or None: run the base alone, at ΔC 0
    best          the smallest realised ΔC below 0, or None
    regret        realised ΔC of the selected minus that of the best, at least 0
    """

    base: str
    by: str
    max_drop: float
    n_train: int
    n_judged: int
    savers: tuple[SelectedSaver, ...]
    spearman: float | None
    spearman_own: float | None
    selected: str | None
    best: str | None
    regret: float

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        rows = [{**asdict(s), "threshold": as_document(s.threshold)} for s in self.savers]
        return {**asdict(self), "savers": rows}


def selection(train: Sequence[Pair], judged: Sequence[Pair], max_drop: float = 0.0) -> Selection:
    """Rank *train* and realise on *judged*: the same savers in the same order, at least one.

    At ``max_drop`` 0 the ratio is TinySaver's r_match.
    """
    check_drop(max_drop)
    found = [_both(a, b, max_drop) for a, b in zip(train, judged, strict=True)]
    by_cost = all(s.cost_ratio is not None for s in found)
    on_train, realised, own = (np.array([_key(s, which, by_cost) for s in found]) for which in _KEYS)
    selected, best = int(on_train.argmin()), int(realised.argmin())
    reached = realised[selected] if on_train[selected] < 0 else 0.0
    return Selection(
        base=train[0].base,
        by="delta_cost" if by_cost else "exit_ratio",
        max_drop=max_drop,
        n_train=len(train[0]),
        n_judged=len(judged[0]),
        savers=tuple(found[i] for i in np.argsort(on_train, kind="stable")),
        spearman=spearman(on_train.tolist(), realised.tolist()),
        spearman_own=spearman(on_train.tolist(), own.tolist()),
        selected=found[selected].saver if on_train[selected] < 0 else None,
        best=found[best].saver if realised[best] < 0 else None,
        regret=float(reached - min(realised[best], 0.0)),
    )


_KEYS = ("train_", "", "own_")


def _key(saver: SelectedSaver, which: str, by_cost: bool) -> float:
    """What ranks, smaller is better: ΔC, or without costs the exit ratio."""
    return float(getattr(saver, f"{which}delta") if by_cost else -getattr(saver, f"{which}exit_ratio"))


def _both(train: Pair, judged: Pair, max_drop: float) -> SelectedSaver:
    ratio = judged.cost_ratio
    path, own = (sweep(p.score, p.saver_correct, p.base_correct) for p in (train, judged))
    point = path.last_feasible(max_drop)
    threshold = path.thresholds[point : point + 1]
    there = at_thresholds(judged.score, judged.saver_correct, judged.base_correct, threshold)
    r_train = float(path.exited[point] / path.n)
    r = float(there.exited[1] / there.n)
    r_own = float(own.exited[own.last_feasible(max_drop)] / own.n)
    return SelectedSaver(
        saver=train.saver,
        cost_ratio=ratio,
        threshold=train.shown(float(threshold[0])),
        train_exit_ratio=r_train,
        train_delta=None if ratio is None else ratio - r_train,
        exit_ratio=r,
        delta=None if ratio is None else ratio - r,
        drop=float(-there.gain[1] / there.n),
        own_exit_ratio=r_own,
        own_delta=None if ratio is None else ratio - r_own,
    )
