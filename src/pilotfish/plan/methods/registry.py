"""All methods of tuning by name. Each makes a policy path from a trace; what follows does not know which it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.cascade import Budget, RuleKind
from pilotfish.errors import UsageError, nearest
from pilotfish.plan.methods.dyce import DyceOptions, dyce_path
from pilotfish.plan.methods.exact_sweep import SweepOptions, sweep_path
from pilotfish.plan.methods.msdnet import MsdnetOptions, msdnet_path
from pilotfish.plan.methods.pair import PAIR_METHODS
from pilotfish.plan.methods.pcee import PceeOptions, PceeWsOptions, pcee_path
from pilotfish.plan.methods.votes import NoOptions, agreement_path, patience_path
from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.trace import Trace
from pilotfish.scores import Scored


@dataclass(frozen=True)
class EnsembleOptions:
    """weight: w of Eq. 8, the share of the last model; None searches 0, 0.1 … 1 where thresholds are chosen."""

    weight: float | None = None


@dataclass(frozen=True)
class Method:
    """One way to tune.

    path        (trace, budget, options) -> policies from "exit nobody" on
    rule        how stages decide; see :mod:`pilotfish.cascade.rule`
    options     dataclass of further choices
    says        one line for help
    pairs_only  whether it is defined for two stages alone
    takes_last  the rule takes the policy where its scan stopped, whatever the budget
    fitted      whether the path depends on the samples by more than the order of their scores, so that a certificate
                needs other samples
    """

    path: Callable[[Trace, Budget, Any], PolicyPath]
    rule: RuleKind
    options: type
    says: str
    pairs_only: bool = False
    takes_last: bool = False
    fitted: bool = True


def _pair_method(name: str) -> Callable[[Trace, Budget, Any], PolicyPath]:
    def path(trace: Trace, budget: Budget, options: Any) -> PolicyPath:
        scored = Scored(trace.values[0], trace.scales[0])
        drop = budget.value if budget.kind == "max_drop" else 0.0
        return threshold_path(PAIR_METHODS[name](scored, trace.quality[0], trace.quality[1], drop).thresholds[:, None])

    return path


METHODS: dict[str, Method] = {
    "sweep": Method(
        sweep_path, "score", SweepOptions, "every distinct threshold, exact up to three stages", fitted=False
    ),
    "pcee": Method(pcee_path, "score", PceeOptions, "one accuracy for all exits, by binned reliability diagrams"),
    "pcee-ws": Method(pcee_path, "score", PceeWsOptions, "the same with smoothed diagrams"),
    "dyce": Method(dyce_path, "score", DyceOptions, "accuracy against cost at every weight, by exact sweeps"),
    "msdnet": Method(msdnet_path, "score", MsdnetOptions, "a geometric share leaves at each exit"),
    "patience": Method(
        patience_path, "patience", NoOptions, "exit when predictions agree so many times in a row", fitted=False
    ),
    "agreement": Method(agreement_path, "agreement", NoOptions, "savers vote, then the base", fitted=False),
    "ensemble": Method(
        sweep_path, "ensemble", EnsembleOptions, "the last stage answers with a mixture (Little-Big Eq. 8)"
    ),
    "average": Method(
        sweep_path, "average", SweepOptions, "each stage answers with the mean of all so far", fitted=False
    ),
    "first_violation": Method(
        _pair_method("first_violation"),
        "score",
        NoOptions,
        "TinySaver's released scan",
        pairs_only=True,
        takes_last=True,
    ),
    "grid50": Method(
        _pair_method("grid50"), "score", NoOptions, "Little-Big's grid of k/50", pairs_only=True, fitted=False
    ),
}
WEIGHTS = tuple(float(w) for w in np.arange(10, -1, -1) / 10)


def find_method(name: str, stages: int) -> Method:
    """The method *name* for a cascade of so many stages. UsageError lists the names."""
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; {nearest(name, METHODS)}")
    method = METHODS[name]
    if method.pairs_only and stages != 2:
        raise UsageError(f"method {name} is defined for a saver and a base, found {stages} stages; use sweep")
    return method
