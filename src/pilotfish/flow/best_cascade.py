"""Which cascade: the pair, or the chain of up to three stages, that does best for a budget on the records of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pilotfish.errors import BudgetError
from pilotfish.plan import Tuning, find_chains, rank_savers, tune
from pilotfish.plan.adjust import adjusted
from pilotfish.records import Run, compare, fair_table
from pilotfish.text import quantity

TRIED = 5  # chains that are tuned, the best first


@dataclass(frozen=True)
class SingleModel:
    """One model on its own, on the samples the cascade was judged on.

    precision  what it computes in, where precisions were asked for
    agreement  share of its answers that are those of the same model in float32; None where it is that, or was not asked
    """

    name: str
    accuracy: float
    cost: float | None
    precision: str = ""
    agreement: float | None = None


@dataclass(frozen=True)
class Asked:
    """What a cascade is to keep to, and how it is chosen and judged, as :func:`pilotfish.plan.tune` takes it.

    budget  max_drop, max_cost, min_metric and min_accuracy, all but one of them None
    limits  what must hold beside the budget
    """

    budget: Mapping[str, Any]
    cost: str
    split: str
    holdout: float
    seed: int
    judge_on: str = "random"
    group_by: str | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    guarantee: float | None = None
    metric: str | None = None

    @property
    def drawn(self) -> dict[str, Any]:
        """Which samples choose, and which judge."""
        names = ("cost", "split", "holdout", "seed", "group_by", "metric")
        return {name: getattr(self, name) for name in names}

    def tuned(self, run: Run, stages: Sequence[str]) -> Tuning:
        """The thresholds of *stages*; BudgetError as ``tune`` raises it. A base was judged before, on all samples."""
        promised = {} if self.guarantee is None else {"guarantee": self.guarantee, "apart": True}
        own = {**self.drawn, **self.limits, **self.budget, **promised, "judge_on": self.judge_on}
        return tune(run, stages, **own, allow_bad_base=True)


def most_accurate(
    run: Run, names: Sequence[str], split: str, group_by: str | None = None, metric: str | None = None
) -> str:
    """The model that does best by the metric, its answers adjusted as they will be, of those that answered (nearly) all
    samples; without labels, the costliest by MACs."""
    table, _ = fair_table([run.read(name, split) for name in names], group_by, metric)
    compared = [name for name in names if name in table.meta]
    if table.reference_kind == "base":
        return max(compared, key=lambda name: table.meta[name].costs.get("macs", 0.0))
    return max(compared, key=adjusted(table, compared, np.arange(len(table))).value)


def best_pair(run: Run, names: Sequence[str], base: str, asked: Asked) -> Tuning:
    """Tune every candidate saver; take the one that does best on the calibration part: the cheapest, or the most
    accurate for a cost. BudgetError when none costs less than the base alone."""
    ranking = rank_savers(run, base, **asked.drawn)
    candidates = [s.saver for s in ranking.savers if s.saver in names and s.comparable]
    return _best(run, base, [(saver,) for saver in candidates], asked, len(candidates))


def best_chain(run: Run, savers: Sequence[str], base: str, asked: Asked, max_stages: int) -> Tuning:
    """Tune the best chains of *savers* to *base*, and take the one that does best on the calibration part.

    With a guarantee chains are searched on one half of that part, and the best of them is certified on the other.
    BudgetError when none costs less than the base alone.
    """
    budget = {name: value for name, value in asked.budget.items() if name != "min_accuracy"}
    if budget.get("min_metric") is None:
        budget["min_metric"] = asked.budget.get("min_accuracy")
    found = find_chains(
        run,
        base,
        **asked.drawn,
        **budget,
        max_stages=max_stages,
        top=1 if asked.guarantee is not None else TRIED,
        savers=savers,
        judge_on=asked.judge_on,
        apart=asked.guarantee is not None,
    )
    best = found.best
    chains = [chain.stages[:-1] for chain in found.search.chains]
    if best.over_pair is not None and asked.guarantee is None:
        chains.append(best.over_pair.stages[:-1])
    kept = [chain for chain in dict.fromkeys(chains) if chain]
    return _best(run, base, kept if chains[0] else [], asked, found.search.screened[2])


def _best(run: Run, base: str, chains: Sequence[Sequence[str]], asked: Asked, candidates: int) -> Tuning:
    """chains: savers, cheapest first, of each cascade to tune; candidates: how many savers there were."""
    tunings, refusals = [], []
    for savers in chains:
        try:
            tunings.append(asked.tuned(run, (*savers, base)))
        except BudgetError as error:
            refusals.append(f"{', '.join(savers)}: {error}")
    useful = [t for t in tunings if t.saves is not False]
    if not useful:
        why = refusals[0] if refusals and not tunings else f"none costs less than {base} alone"
        tried = quantity(candidates, "candidate")
        raise BudgetError(f"no saver: of {tried} for {base}, {why}; run the base alone")
    return min(useful, key=lambda tuning: merit(tuning, asked.budget.get("max_cost") is not None))


def merit(tuning: Tuning, for_cost: bool) -> tuple[float, float]:
    """What the best of several tunings has least of, on its calibration part: cost, then drop; *for_cost*, for a budget
    of cost, the other way round."""
    p = tuning.calibration
    effort = p.cost if p.cost is not None else p.exit_ratio[-1]
    return (p.drop, effort) if for_cost else (effort, p.drop)


def single_models(
    run: Run,
    names: Sequence[str],
    base: str,
    cost: str,
    split: str,
    group_by: str | None = None,
    metric: str | None = None,
) -> tuple[SingleModel, ...]:
    """Every model on its own, cheapest first."""
    rows = compare([run.read(name, split) for name in names if name != base], run.read(base, split), group_by, metric)
    singles = [
        SingleModel(name, adjusted(table, (name,), np.arange(len(table))).value(name), table.meta[name].costs.get(cost))
        for name, table in {**rows.tables, base: rows.common}.items()
    ]
    return tuple(sorted(singles, key=lambda s: (s.cost or 0.0, s.accuracy)))
