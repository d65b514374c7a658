"""A threshold chosen on some samples and kept on others: from split to split, and from the samples that savers are
chosen on to those that judge the choice.

Between splits (Little-Big Tables 2 and 8): at a fixed threshold the share that exits needs no labels. If inputs become
harder, fewer exit and the cost rises: the change of cost measures the distance of the splits as the saver sees it.

Between savers (TinySaver 3.3, Eq. 10): ranked by ΔC_tr = C_S / C_B - r on one set, each has its realised ΔC on another.
A rank correlation says how well the one predicts the other, the regret what the choice cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pilotfish.cascade import make_budget
from pilotfish.plan.analysis.ties import spearman
from pilotfish.plan.evaluate import evaluate
from pilotfish.plan.sweep import sweep
from pilotfish.plan.trace import Trace
from pilotfish.scores import to_shown


@dataclass(frozen=True)
class Transfer:
    """A threshold from split ``tuned_on``, judged on split ``judged_on``.

    threshold          as people read it
    tuned_exit_ratio   on the split that it was tuned on
    exit_ratio, drop   on the other one; drop_interval at 95 %
    delta_cost         ΔC there; None without costs
    own_exit_ratio     what the other split would have chosen for itself at the same drop
    cost_shift         cost at the threshold there minus here, as a share of C_B: tuned_exit_ratio - exit_ratio
    z, p_value         of the two exit ratios being one (pooled, two-sided, samples independent). The threshold was
                       chosen on the first split, so p is a little too small; for an alarm, not for a proof
    """

    tuned_on: str
    judged_on: str
    n: int
    threshold: float
    tuned_exit_ratio: float
    exit_ratio: float
    drop: float
    drop_interval: tuple[float, float]
    delta_cost: float | None
    own_exit_ratio: float
    cost_shift: float
    z: float
    p_value: float


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


@dataclass(frozen=True)
class _Chosen:
    """The largest exit ratio within a drop on some samples: how many exit there, and from which score on."""

    n: int
    exited: int
    threshold: float

    @property
    def exit_ratio(self) -> float:
        return self.exited / self.n


def _choose(trace: Trace, max_drop: float) -> _Chosen:
    path = sweep(trace.values[0], *trace.quality)
    point = path.last_feasible(max_drop)
    return _Chosen(path.n, int(path.exited[point]), float(path.thresholds[point]))


def delta_cost(trace: Trace, exit_ratio: float) -> float | None:
    """ΔC of a saver and its base, the change of the mean cost as a share of the base's: C_S / C_B - r for whole models
    (TinySaver Eq. 10). None without costs."""
    if trace.costs is None or not trace.base_cost:
        return None
    return (trace.costs[0] + (1 - exit_ratio) * trace.costs[1]) / trace.base_cost - 1


def transfers(pairs: Mapping[str, Trace], max_drop: float = 0.0) -> tuple[Transfer, ...]:
    """All ordered pairs of splits: the same saver and base, by the name of the split."""
    make_budget(max_drop=max_drop)  # refuses what is no drop
    chosen = {split: _choose(trace, max_drop) for split, trace in pairs.items()}
    return tuple(_transfer(a, b, chosen[a], chosen[b], pairs[b]) for a in pairs for b in pairs if a != b)


def _transfer(a: str, b: str, here: _Chosen, own: _Chosen, judged: Trace) -> Transfer:
    there = evaluate(judged, ((here.threshold,),))
    z, p = two_sample(here.exited, here.n, round(there.exit_ratio[0] * there.n), there.n)
    return Transfer(
        tuned_on=a,
        judged_on=b,
        n=there.n,
        threshold=float(to_shown(judged.scales[0], here.threshold)),
        tuned_exit_ratio=here.exit_ratio,
        exit_ratio=there.exit_ratio[0],
        drop=there.drop,
        drop_interval=there.drop_interval,
        delta_cost=delta_cost(judged, there.exit_ratio[0]),
        own_exit_ratio=own.exit_ratio,
        cost_shift=here.exit_ratio - there.exit_ratio[0],
        z=z,
        p_value=p,
    )


def selection(train: Sequence[Trace], judged: Sequence[Trace], max_drop: float = 0.0) -> Selection:
    """Rank *train* and realise on *judged*: the same savers in the same order, at least one.

    At ``max_drop`` 0 the ratio is TinySaver's r_match.
    """
    make_budget(max_drop=max_drop)  # refuses what is no drop
    found = [_on_both(a, b, max_drop) for a, b in zip(train, judged, strict=True)]
    by_cost = all(s.cost_ratio is not None for s in found)
    on_train, realised, own = (np.array([_key(s, which, by_cost) for s in found]) for which in ("train_", "", "own_"))
    selected, best = int(on_train.argmin()), int(realised.argmin())
    reached = realised[selected] if on_train[selected] < 0 else 0.0
    return Selection(
        base=train[0].names[-1],
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


def _key(saver: SelectedSaver, which: str, by_cost: bool) -> float:
    """What ranks, smaller is better: ΔC, or without costs the exit ratio."""
    return float(getattr(saver, f"{which}delta") if by_cost else -getattr(saver, f"{which}exit_ratio"))


def _on_both(train: Trace, judged: Trace, max_drop: float) -> SelectedSaver:
    chosen, own = _choose(train, max_drop), _choose(judged, max_drop)
    there = evaluate(judged, ((chosen.threshold,),))
    return SelectedSaver(
        saver=train.names[0],
        cost_ratio=judged.costs[0] / judged.base_cost if judged.costs is not None and judged.base_cost else None,
        threshold=float(to_shown(train.scales[0], chosen.threshold)),
        train_exit_ratio=chosen.exit_ratio,
        train_delta=delta_cost(judged, chosen.exit_ratio),
        exit_ratio=there.exit_ratio[0],
        delta=delta_cost(judged, there.exit_ratio[0]),
        drop=there.drop,
        own_exit_ratio=own.exit_ratio,
        own_delta=delta_cost(judged, own.exit_ratio),
    )


def two_sample(k_a: int, n_a: int, k_b: int, n_b: int) -> tuple[float, float]:
    """(z, two-sided p) of k_a of n_a and k_b of n_b having one probability; z > 0 where the second share is smaller."""
    pooled = (k_a + k_b) / (n_a + n_b)
    variance = pooled * (1 - pooled) * (1 / n_a + 1 / n_b)
    z = (k_a / n_a - k_b / n_b) / math.sqrt(variance) if variance > 0 else 0.0
    return z, math.erfc(abs(z) / math.sqrt(2))
