"""How a policy did on a set of samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade.frontier import ACCURACY
from pilotfish.documents import OFF_DEFAULT, Count, Share, as_document


@dataclass(frozen=True)
class ClassDrop:
    """What the samples of one class lose.

    name           of the class, or its number if classes have no names
    n              samples that are labelled so
    drop           accuracy lost among them, base minus cascade
    drop_interval  95 % interval of the drop
    limit          the largest drop allowed; None if no limit was given
    """

    name: str
    n: Count
    drop: float
    drop_interval: tuple[float, float]
    limit: float | None = None


@dataclass(frozen=True)
class Performance:
    """The metric and cost of a cascade and of its base, on n samples.

    value          of the metric, such as the accuracy; a fraction, as is ``base_value``, of the base alone
    drop           base_value - value
    drop_interval  95 % interval of the drop
    cost           mean per sample in the unit of the cost key; None when unknown
    exit_ratio     share answered per stage; sums to 1
    groups         how many groups the samples are in, which the interval uses; None if they are independent
    metric         the metric's name
    asymptotic     whether the interval is a jackknife's, which holds for many samples only
    classes        the drop of each class that has a limit
    latency_p95    milliseconds that 95 % of single requests stay within, from times of single samples; None if no limit
                   was given
    """

    n: Count
    value: Share
    base_value: Share
    drop: float
    drop_interval: tuple[float, float]
    cost: float | None
    base_cost: float | None
    exit_ratio: tuple[Share, ...]
    groups: Count | None = field(default=None, metadata=OFF_DEFAULT)
    metric: str = ACCURACY
    asymptotic: bool = field(default=False, metadata=OFF_DEFAULT)
    classes: tuple[ClassDrop, ...] = field(default=(), metadata=OFF_DEFAULT)
    latency_p95: float | None = field(default=None, metadata=OFF_DEFAULT)

    @property
    def accuracy(self) -> float:
        """``value``, for cascades whose metric is the accuracy."""
        return self.value

    @property
    def base_accuracy(self) -> float:
        """``base_value``, for cascades whose metric is the accuracy."""
        return self.base_value

    @property
    def saves(self) -> bool | None:
        """Whether the cascade costs less than the base alone; None if costs are unknown."""
        return None if self.cost is None or self.base_cost is None else self.cost < self.base_cost

    def to_json(self) -> dict[str, Any]:
        """As a JSON object: accuracies by their names, and fields that differ from their default."""
        document: dict[str, Any] = as_document(self)
        if self.metric == ACCURACY:
            document |= {"accuracy": self.value, "base_accuracy": self.base_value}
        return document

    @staticmethod
    def modern(document: Mapping[str, Any]) -> Mapping[str, Any]:
        """``accuracy`` as ``value``, and ``base_accuracy`` as ``base_value``."""
        found = dict(document)
        for key in ("accuracy", "base_accuracy"):
            if key in found:
                accuracy, name = found.pop(key), key.replace(ACCURACY, "value")
                if found.setdefault(name, accuracy) != accuracy:
                    raise ValueError(f"{key} and {name} are not the same number")
        return found

    def validate(self) -> None:
        """ValueError for an entry without a stage."""
        if not self.exit_ratio:
            raise ValueError("exit_ratio is empty, expected a share per stage")


def paired_interval(lost: int, won: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of (lost - won) / n for paired outcomes.

    Agresti and Min (2005), "Simple improved confidence intervals for comparing matched proportions": the Wald interval
    after half a sample is added to each of the four cells. It is for information; a promise needs a certificate.
    """
    b, c, m = lost + 0.5, won + 0.5, n + 2
    middle = (b - c) / m
    half = z * math.sqrt(max(b + c - (b - c) ** 2 / m, 0.0)) / m
    return max(-1.0, middle - half), min(1.0, middle + half)


def independent(groups: NDArray[np.integer] | None, n: int) -> int:
    """How many independent samples *n* are worth: all of them without groups, else N^2 / sum N_g^2, which is the number
    of groups if they are of one size, and less if some are larger. groups: int (n,), or None."""
    return n if groups is None else round(_worth(np.unique(groups, return_counts=True)[1].astype(np.float64)))


def _worth(sizes: NDArray[np.float64]) -> float:
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def grouped_interval(gap: NDArray[np.number], groups: NDArray[np.integer]) -> tuple[float, float]:
    """95 % interval of the mean gap of samples that are independent only between groups.

    gap     (N,) in [-1, 1]; of right and wrong answers -1, 0 or 1
    groups  int (N,), the group of each sample

    The linearised variance of a ratio, sum (S_g - d N_g)^2 / N^2 with S_g the gaps of group g and N_g its size. Groups
    of unequal size count less: sum N_g^2 / N is the mean size of a sample's own group, and N divided by it is the
    number of groups used for Student's t. Two groups of that size are added, half of one lost and half of one won, so
    that a gap of zero is not taken as certain; with one sample in each group and the normal quantile this is
    :func:`paired_interval`.
    """
    from scipy.special import stdtrit

    _, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member).astype(np.float64)
    sums = np.bincount(member, weights=gap)
    own, count = float((sizes**2).sum() / sizes.sum()), _worth(sizes)
    n = float(sizes.sum()) + 2 * own
    middle = float(sums.sum()) / n
    squares = float(((sums - middle * sizes) ** 2).sum()) + own**2 * (1 + 2 * middle**2)
    half = float(stdtrit(max(count - 1, 1.0), 0.975)) * math.sqrt(squares) / n
    return max(-1.0, middle - half), min(1.0, middle + half)
