"""Whether a promise that was made before still holds, on samples that were drawn since: tests in both directions.

A certificate asks one thing, whether more than the target can be ruled out. Here the reverse is asked as well, whether
the target can be: a promise is broken only where chance does not explain it. The tests are those of certificates, and
of metrics that are no means a jackknife's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pilotfish.plan.certificate import exact, grouped
from pilotfish.plan.certificate.bounds import fewest_samples
from pilotfish.plan.certificate.promise import Promise
from pilotfish.plan.certificate.promise_tests import bets, bound_of, never_differs, of_sums, passes, share_limit
from pilotfish.plan.evaluate import Counts, count
from pilotfish.plan.path import PolicyPath
from pilotfish.plan.trace import Trace

LEVEL = 0.05
NORMAL = 1.645  # standard errors of a one-sided test at this level
MOST = 1e9  # samples: more than anybody judges on


@dataclass(frozen=True)
class Standing:
    """Where a promise stands.

    p       of "it holds": the smallest level at which that is rejected
    holds   whether "it does not hold" is rejected at 5 %
    bound   95 % confidence bound of what was promised: how much it is at most, or of a metric at least
    needed  about how many samples like these would tell either way; None where no number would
    """

    p: float
    holds: bool
    bound: float
    needed: int | None

    @property
    def broken(self) -> bool:
        """Whether "it holds" is rejected at 5 %."""
        return self.p <= LEVEL


def standing(trace: Trace, path: PolicyPath, promise: Promise) -> Standing:
    """Where *promise* stands for the one policy of *path* on the samples of *trace*. Its ``delta`` is not looked at."""
    promise = Promise(promise.kind, promise.target, LEVEL, promise.test)
    counts, target = count(trace, path), promise.target
    if promise.kind == "drop" and never_differs(trace, path, counts)[0]:
        return Standing(float(target >= 0), target >= 0, 0.0, None)
    p, holds = both_ways(trace, path, counts, promise)
    bound = bound_of(trace, path, promise)
    if holds:  # the test was passed, so the target itself is a bound: searched ones may be larger by their last digit
        bound = max(bound, target) if promise.at_least else min(bound, target)
    return Standing(p, holds, bound, _needed(trace, path, promise))


def both_ways(trace: Trace, path: PolicyPath, counts: Counts, promise: Promise) -> tuple[float, bool]:
    """(p of "the promise holds", whether "it does not" is rejected at 5 %); *counts* are those of the policy."""
    if (how := of_sums(trace, promise)) is not None:
        return how(trace, path, promise).p_value(0), bool(passes(trace, path, counts, promise)[0])
    if promise.kind != "drop" or bets(trace, promise):
        return _p_value(trace, path, counts, promise), bool(passes(trace, path, counts, promise)[0])
    lost, won, n, target = int(counts.lost[0]), int(counts.won[0]), counts.n, promise.target
    return exact.p_value(won, lost, n, -target), exact.p_value(lost, won, n, target) <= LEVEL


def _p_value(trace: Trace, path: PolicyPath, counts: Counts, promise: Promise) -> float:
    """Of "the promise holds", but for a drop of right and wrong answers."""
    limit = share_limit(trace, promise)
    if bets(trace, promise) or (promise.kind == "cost" and trace.stages > 2):
        groups = grouped.groups_of(trace)
        lost = groups.sums(grouped.losses(trace, path, 0, promise.kind))
        return grouped.p_value(lost, groups.sizes, groups.cap, limit, grouped.lowest_of(promise.kind), LEVEL)
    if promise.kind == "cost":  # of two stages: the base's share
        first, last = trace.through.tolist()
        limit = (limit * last - first) / (last - first) if last > first else float(first <= limit * last)
        return _tail(int(counts.answered[0, 1]), counts.n, limit)
    differ = int(counts.lost[0] + counts.won[0])
    wrong = counts.n - int(trace.base_quality.sum()) + int(counts.lost[0] - counts.won[0])
    return _tail(wrong if promise.at_least else differ, counts.n, limit)


def _tail(k: int, n: int, chance: float) -> float:
    """The chance of *k* or more of *n* events."""
    from scipy.special import betainc

    if k <= 0 or chance >= 1:
        return 1.0
    return float(betainc(k, n - k + 1, chance)) if chance > 0 else 0.0


def _needed(trace: Trace, path: PolicyPath, promise: Promise) -> int | None:
    """About how many samples would tell, were they as these: by the normal law of what each group loses beyond the
    limit, which varies at least as much as where the limit is lost, or by what a bettor's wealth grows with; at least
    as many as a loss of nothing takes."""
    if (how := of_sums(trace, promise)) is not None:
        found = how(trace, path, promise).needed(0)
        return None if found is None else _rounded(found, len(trace))
    limit, groups = share_limit(trace, promise), grouped.groups_of(trace)
    over = groups.sums(grouped.losses(trace, path, 0, promise.kind)) - limit * groups.sizes
    mean, n = float(over.mean()), len(trace)
    if mean == 0:
        return None
    cost_of_certainty = 2 * math.log(1 / LEVEL) if bets(trace, promise) else NORMAL**2
    varies = max(float(over.var()), limit * (1 - limit) * float(groups.sizes.mean()))
    many = 1.1 * n * cost_of_certainty * varies / (len(groups) * mean**2)
    if mean < 0 and 0 < limit < 1 and promise.kind != "cost":
        if trace.groups is not None:  # a bettor counts groups, and the largest weighs most
            size = float(groups.sizes.mean())
            many = max(
                many, size * grouped.fewest_groups(limit, grouped.lowest_of(promise.kind), size / groups.cap, LEVEL)
            )
        else:
            many = max(many, fewest_samples(limit, LEVEL, "wsr" if bets(trace, promise) else "binomial"))
    return _rounded(many, n)


def _rounded(many: float, n: int) -> int | None:
    """To two digits, upwards, and more than there are; None beyond all measure."""
    many = max(many, n + 1.0)
    if many > MOST:
        return None
    digit = 10.0 ** max(0, math.floor(math.log10(many)) - 1)
    return int(math.ceil(many / digit) * digit)
