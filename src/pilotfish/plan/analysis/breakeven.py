"""When would a router in front of the saver, or an evaluator behind it, be cheaper than the pair? (TinySaver Eq. 1-5)

    pair            E[C] = C_S + (1 - r1) C_B                        the saver's own confidence decides
    prior router    E[C] = C_Rt + r2 C_S + (1 - r2) C_B              decides from the raw input, before the saver
    post-evaluator  E[C] = C_S + C_E + (1 - r2) C_B                  decides from the saver's features, after it

at exit ratios r1, r2 of equal accuracy. The router wins iff C_Rt < (r2 - r1) C_B + (1 - r2) C_S (Eq. 5), the
evaluator iff C_E < (r2 - r1) C_B. An oracle that knows who is right has the largest r2 there can be, and so bounds
what either may cost. Costs are per sample, in one unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.cascade import make_budget
from pilotfish.cascade.budget import SLACK
from pilotfish.documents import as_document
from pilotfish.errors import UsageError
from pilotfish.plan.sweep import advantage, sweep
from pilotfish.plan.trace import Trace

ROUTER_SHARES = (0.1, 0.5, 1.0)  # sizes of a router, as shares of C_S


def pair_cost(r: float, C_S: float, C_B: float) -> float:
    """Eq. 1: everybody pays the saver, who stays pays the base."""
    return C_S + (1 - r) * C_B


def router_cost(r: float, C_Rt: float, C_S: float, C_B: float) -> float:
    """Eq. 2: everybody pays the router, and then one of the two models."""
    return C_Rt + r * C_S + (1 - r) * C_B


def evaluator_cost(r: float, C_E: float, C_S: float, C_B: float) -> float:
    """Everybody pays the saver and the evaluator on its features, who stays pays the base."""
    return C_S + C_E + (1 - r) * C_B


def router_limit(r1: float, r2: float, C_S: float, C_B: float) -> float:
    """Eq. 5: a router wins iff it costs less than this. Not above 0: none can, however cheap."""
    return (r2 - r1) * C_B + (1 - r2) * C_S


def router_ratio(r1: float, C_Rt: float, C_S: float, C_B: float) -> float:
    """Eq. 5 solved for r2: a router of cost C_Rt wins iff it lets more than this exit at equal accuracy.

    Above 1: it cannot win. UsageError unless C_B > C_S: with a base as cheap as the saver there is nothing to save.
    """
    if not C_B > C_S:
        raise UsageError(f"break-even needs a base that costs more than its saver, found {C_B:g} and {C_S:g}")
    return (C_Rt + r1 * C_B - C_S) / (C_B - C_S)


def evaluator_limit(r1: float, r2: float, C_B: float) -> float:
    """A post-evaluator wins iff it costs less than this."""
    return (r2 - r1) * C_B


def evaluator_ratio(r1: float, C_E: float, C_B: float) -> float:
    """A post-evaluator of cost C_E wins iff it lets more than this exit at equal accuracy."""
    return r1 + C_E / C_B


def oracle_exit_ratio(trace: Trace, max_drop: float = 0.0) -> float:
    """The largest share that can exit within the drop, by a router that knows what each sample gains or loses: those
    that lose least exit first."""
    gain = np.cumsum(np.sort(advantage(*trace.quality))[::-1])
    feasible = np.flatnonzero(gain >= -(max_drop + SLACK) * len(trace))
    return float(feasible[-1] + 1) / len(trace) if len(feasible) else 0.0


@dataclass(frozen=True)
class BreakEven:
    """A pair within a drop, and what a router or an evaluator would have to be.

    exit_ratio       r1 of the pair, and the drop that it has; cost_pair by Eq. 1
    oracle_ratio     r2 of an oracle within the same drop
    router_equal     the most a router may cost that routes as well as the saver does: (1 - r1) C_S
    router_oracle    the most any router may cost
    evaluator_oracle the most any post-evaluator may cost
    router_needs     (share of C_S, r2 that a router of that cost needs), for 10 %, 50 % and 100 %
    """

    saver_cost: float
    base_cost: float
    max_drop: float
    exit_ratio: float
    drop: float
    cost_pair: float
    oracle_ratio: float
    router_equal: float
    router_oracle: float
    evaluator_oracle: float
    router_needs: tuple[tuple[float, float], ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        needs = [{"router_share": share, "exit_ratio": r} for share, r in self.router_needs]
        return {**as_document(self), "router_needs": needs}


def break_even(trace: Trace, max_drop: float = 0.0) -> BreakEven | None:
    """The break-even of a saver and its base, r1 by the exact sweep on the same samples; None unless 0 <= C_S < C_B are
    known."""
    make_budget(max_drop=max_drop)  # refuses what is no drop
    if trace.costs is None or not 0 <= trace.costs[0] < trace.costs[1]:
        return None
    C_S, C_B = trace.costs
    path = sweep(trace.values[0], *trace.quality)
    point = path.last_feasible(max_drop)
    r1 = float(path.exited[point] / path.n)
    r2 = oracle_exit_ratio(trace, max_drop)
    return BreakEven(
        saver_cost=C_S,
        base_cost=C_B,
        max_drop=max_drop,
        exit_ratio=r1,
        drop=float(-path.gain[point] / path.n),
        cost_pair=pair_cost(r1, C_S, C_B),
        oracle_ratio=r2,
        router_equal=router_limit(r1, r1, C_S, C_B),
        router_oracle=router_limit(r1, r2, C_S, C_B),
        evaluator_oracle=evaluator_limit(r1, r2, C_B),
        router_needs=tuple((share, router_ratio(r1, share * C_S, C_S, C_B)) for share in ROUTER_SHARES),
    )
