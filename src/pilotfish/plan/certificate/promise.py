"""What is promised on all data, and by which test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pilotfish.cascade import Budget
from pilotfish.errors import UsageError, nearest
from pilotfish.records import Table
from pilotfish.tasks import Metric
from pilotfish.tasks.task import PROMISES

TESTS = ("exact", "paired_cp", "wsr", "jackknife")


@dataclass(frozen=True)
class Promise:
    """What is to hold on all data, with confidence 1 - delta.

    kind    ``drop``: of the metric below the base's, <= target; ``agreement``: how far answers differ from the base's,
            <= target; ``cost`` <= target; else the metric's name, such as ``accuracy``, >= target
    delta   the chance of being wrong, already divided by *tried*, the number of savers that compete
    test    of a drop of right and wrong: ``exact`` (default), ``paired_cp`` or ``wsr``; the other kinds use
            Clopper-Pearson, and wsr for the cost of more than two stages. Samples in groups, and quality that is
            neither right nor wrong, are certified by wsr, whatever is promised; metrics that are no means by wsr where
            they are one fraction, else by ``jackknife``, which is asymptotic
    """

    kind: str
    target: float
    delta: float
    test: str = "exact"
    tried: int = 1

    @property
    def at_least(self) -> bool:
        """Whether the target is a least value of the metric."""
        return self.kind not in PROMISES

    @property
    def asymptotic(self) -> bool:
        """Whether it holds for many samples only, and not at any n."""
        return self.test == "jackknife" and self.kind != "cost"


def make_promise(budget: Budget, table: Table, guarantee: float, test: str, savers_tried: int) -> Promise:
    """What *budget* promises at the confidence *guarantee*, on the samples of *table*. UsageError for a confidence, a
    number of savers or a test that is none, or that cannot judge the metric."""
    if not 0 < guarantee < 1:
        raise UsageError(f"a guarantee is a confidence between 0 and 1, such as 0.9 (90%), found {guarantee}")
    if savers_tried < 1:
        raise UsageError(f"savers_tried is a whole number of at least 1, found {savers_tried}")
    metric, binary = table.task.metric, table.quality(table.base).dtype == np.bool_
    drop = "agreement" if table.reference_kind == "base" else "drop"
    kind = {"max_cost": "cost", "min_metric": metric.name}.get(budget.kind, drop)
    known = check_test(test)
    if kind == "cost":
        chosen = "exact" if known in ("auto", "jackknife") else known  # a cost needs no asymptotics
    else:
        chosen = find_test(known, metric, bool(binary))
    return Promise(kind, budget.value, (1 - guarantee) / savers_tried, chosen, savers_tried)


def without_guarantee(test: str, savers_tried: int) -> list[str]:
    """A note on each choice that belongs to a guarantee, where none was asked for."""
    given = {"test": check_test(test) != "auto" and test, "savers-tried": savers_tried != 1 and savers_tried}
    return [
        f"--{name} {value} belongs to a guarantee and changes nothing without one: give --guarantee 90% as well"
        for name, value in given.items()
        if value is not False
    ]


def check_test(test: str) -> str:
    """*test* itself; UsageError where there is none of that name."""
    if test not in ("auto", *TESTS):
        raise UsageError(f"unknown test {test!r}; {nearest(test, ('auto', *TESTS))}")
    return test


def find_test(test: str, metric: Metric, binary: bool) -> str:
    """The test that ``auto`` stands for, or *test* itself: of a metric whose quality is *binary*, right or wrong, or a
    number. UsageError where it cannot judge that metric."""
    check_test(test)
    if metric.kind != "mean":
        return _of_sums(test, metric)
    if test == "jackknife":
        raise UsageError(
            f"test jackknife holds for many samples only, and {metric.says} has tests that hold at any number; use "
            "--test auto"
        )
    if binary:
        return "exact" if test == "auto" else test
    if test in ("exact", "paired_cp"):
        raise UsageError(
            f"test {test} counts right and wrong answers, and {metric.says} is a number per sample; use --test auto, "
            "which bets on the numbers (wsr)"
        )
    return "wsr"


def _of_sums(test: str, metric: Metric) -> str:
    """:func:`find_test` of a ratio or a rank."""
    usual = "jackknife" if metric.parts is None else "wsr"
    what = "a rank over all samples" if metric.kind == "rank" else "a ratio of sums"
    if test in ("exact", "paired_cp"):
        raise UsageError(
            f"test {test} counts right and wrong answers, and {metric.says} is {what}; use --test auto ({usual})"
        )
    if test == "wsr" and metric.parts is None:
        raise UsageError(
            f"test wsr bets on means and on single fractions of sums, and {metric.says} is neither; use --test auto "
            "(jackknife, which is asymptotic)"
        )
    return usual if test == "auto" else test
