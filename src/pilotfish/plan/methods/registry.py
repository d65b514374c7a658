"""All methods of tuning by name. Each makes a policy path from a trace; what follows does not know which it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Budget, Frontier, Limits, RuleKind, choose
from pilotfish.errors import UsageError, nearest
from pilotfish.plan.methods import grids
from pilotfish.plan.methods.dyce import DyceOptions, dyce_path
from pilotfish.plan.methods.exact_sweep import sweep_path
from pilotfish.plan.methods.options import NoOptions
from pilotfish.plan.methods.pcee import PceeOptions, PceeWsOptions, pcee_path
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace

WEIGHTS = tuple(float(w) for w in np.arange(10, -1, -1) / 10)


@dataclass(frozen=True)
class EnsembleOptions:
    """weight: w of Eq. 8, the share of the last model; None searches 0, 0.1 … 1 where thresholds are chosen."""

    weight: float | None = None


@dataclass(frozen=True)
class Method:
    """One way to tune.

    path        (trace, budget, options) -> policies from "exit nobody" on
    says        one line for help
    rule        how stages decide; see :mod:`pilotfish.cascade.rule`
    options     dataclass of further choices
    pairs_only  whether it is defined for two stages alone
    takes_last  the rule takes the policy where its scan stopped, whatever the budget
    fitted      whether the path depends on the samples by more than the order of their scores, so that a certificate
                needs other samples
    """

    path: Callable[[Trace, Budget, Any], PolicyPath]
    says: str
    rule: RuleKind = "score"
    options: type = NoOptions
    pairs_only: bool = False
    takes_last: bool = False
    fitted: bool = True

    def point(
        self, frontier: Frontier, budget: Budget, kept: NDArray[np.bool_] | None = None, limits: Limits | None = None
    ) -> int:
        """Index of the policy that the method takes for *budget*. BudgetError when none meets it. kept, limits: as
        :func:`pilotfish.cascade.choose` has them."""
        return len(frontier) - 1 if self.takes_last else choose(frontier, budget, kept, limits)


METHODS: dict[str, Method] = {
    "sweep": Method(sweep_path, "every distinct threshold, exact up to three stages", fitted=False),
    "pcee": Method(pcee_path, "one accuracy for all exits, by binned reliability diagrams", options=PceeOptions),
    "pcee-ws": Method(pcee_path, "the same with smoothed diagrams", options=PceeWsOptions),
    "dyce": Method(dyce_path, "accuracy against cost at every weight, by exact sweeps", options=DyceOptions),
    "msdnet": Method(grids.msdnet_path, "a geometric share leaves at each exit"),
    "patience": Method(
        grids.patience_path, "exit when predictions agree so many times in a row", "patience", fitted=False
    ),
    "agreement": Method(grids.agreement_path, "savers vote, then the base", "agreement", fitted=False),
    "ensemble": Method(
        sweep_path, "the last stage answers with a mixture (Little-Big Eq. 8)", "ensemble", EnsembleOptions
    ),
    "average": Method(sweep_path, "each stage answers with the mean of all so far", "average", fitted=False),
    "first_violation": Method(
        grids.first_violation_path, "TinySaver's released scan", pairs_only=True, takes_last=True
    ),
    "grid50": Method(grids.grid50_path, "Little-Big's grid of k/50", pairs_only=True, fitted=False),
}


def find_method(name: str, stages: int) -> Method:
    """The method *name* for a cascade of so many stages. UsageError lists the names."""
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; {nearest(name, METHODS)}")
    method = METHODS[name]
    if method.pairs_only and stages != 2:
        raise UsageError(f"method {name} is defined for a saver and a base, found {stages} stages; use sweep")
    return method


def saver_method(name: str) -> Method:
    """The method *name*, where it judges a saver by its own score; UsageError for those of other rules."""
    method = find_method(name, 2)
    if method.rule != "score":
        fit = ", ".join(key for key, one in METHODS.items() if one.rule == "score")
        why = "mixes or counts the answers of several models, and a saver is judged by its own"
        raise UsageError(f"method {name} {why}; use {fit}, or tune --method {name}")
    return method
