"""How a policy did on a set of samples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade.frontier import ACCURACY
from pilotfish.errors import ArtefactError


@dataclass(frozen=True)
class Performance:
    """The metric and cost of a cascade beside its base's, on n samples.

    value          of the metric, such as the accuracy; a fraction, as is ``base_value``, of the base alone
    drop           base_value - value
    drop_interval  95 % interval of the drop
    cost           mean per sample in the unit of the cost key; None when unknown
    exit_ratio     share answered per stage; sums to 1
    groups         how many groups the samples are in, and the interval counts; None where they are independent
    metric         the metric's name
    asymptotic     whether the interval is a jackknife's, which holds for many samples only
    """

    n: int
    value: float
    base_value: float
    drop: float
    drop_interval: tuple[float, float]
    cost: float | None
    base_cost: float | None
    exit_ratio: tuple[float, ...]
    groups: int | None = None
    metric: str = ACCURACY
    asymptotic: bool = False

    @property
    def accuracy(self) -> float:
        """``value``, for cascades whose metric is the accuracy."""
        return self.value

    @property
    def base_accuracy(self) -> float:
        """``base_value``, for cascades whose metric is the accuracy."""
        return self.base_value

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, with lists for tuples; ``groups`` and ``asymptotic`` only where there are some."""
        document = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if self.metric == ACCURACY:
            document |= {"accuracy": self.value, "base_accuracy": self.base_value}
        if self.groups is None:
            del document["groups"]
        if not self.asymptotic:
            del document["asymptotic"]
        return document

    @classmethod
    def from_json(cls, document: Any) -> Performance:
        """The inverse of :meth:`to_json`, and of what was written before metrics had names."""
        try:
            low, high = document["drop_interval"]
            known = dict(document)
            for key in {"accuracy", "base_accuracy"} & known.keys():
                accuracy, name = known.pop(key), key.replace(ACCURACY, "value")
                if known.setdefault(name, accuracy) != accuracy:
                    raise ValueError(f"{key} is {str(accuracy)[:60]!r}, and {name} another number")
            entry = cls(**{**known, "drop_interval": (low, high), "exit_ratio": tuple(document["exit_ratio"])})
            numbers = [entry.n, entry.value, entry.base_value, entry.drop, low, high, *entry.exit_ratio]
            optional = (c for c in (entry.cost, entry.base_cost, entry.groups) if c is not None)
            for value in (*numbers, *optional):
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise TypeError(f"{str(value)[:60]!r} is not a number")
                if not math.isfinite(value):  # OverflowError for an integer beyond float64
                    raise ValueError(f"{value} is not finite")
            if not isinstance(entry.metric, str) or not isinstance(entry.asymptotic, bool):
                raise TypeError("the metric is no name, or asymptotic neither true nor false")
            if not isinstance(entry.n, int) or entry.n < 0 or not all(0 <= r <= 1 for r in entry.exit_ratio):
                raise ValueError("n is no count, or an exit ratio no share")
            if not (0 <= entry.value <= 1 and 0 <= entry.base_value <= 1):
                raise ValueError("a value of the metric is no share")
            return entry
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtefactError(
                f"a performance entry is damaged: {type(error).__name__}: {str(error)[:160]}"
            ) from error


def paired_interval(lost: int, won: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of (lost - won) / n for paired outcomes.

    Agresti and Min (2005), "Simple improved confidence intervals for comparing matched proportions": the Wald
    interval after half a sample is added to each of the four cells. For reading; a promise needs a certificate.
    """
    b, c, m = lost + 0.5, won + 0.5, n + 2
    middle = (b - c) / m
    half = z * math.sqrt(max(b + c - (b - c) ** 2 / m, 0.0)) / m
    return max(-1.0, middle - half), min(1.0, middle + half)


def grouped_interval(gap: NDArray[np.integer], groups: NDArray[np.integer]) -> tuple[float, float]:
    """95 % interval of the mean gap of samples that are independent by group only.

    gap     int (N,) in {-1, 0, 1}
    groups  int (N,), the group of each sample

    The linearised variance of a ratio, sum (S_g - d N_g)^2 / N^2 with S_g the gaps of group g and N_g its size. Groups
    of other sizes count less: sum N_g^2 / N is the size of a sample's own group, and N over it the number of groups
    that Student's t goes by. Two groups of that size are added, half of one lost and half of one won, so that no gap at
    all is not taken for certain; with one sample in each group and the normal quantile this is :func:`paired_interval`.
    """
    from scipy.special import stdtrit

    _, member = np.unique(groups, return_inverse=True)
    sizes = np.bincount(member).astype(np.float64)
    sums = np.bincount(member, weights=gap)
    own = float((sizes**2).sum() / sizes.sum())
    count = float(sizes.sum()) / own
    n = float(sizes.sum()) + 2 * own
    middle = float(sums.sum()) / n
    squares = float(((sums - middle * sizes) ** 2).sum()) + own**2 * (1 + 2 * middle**2)
    half = float(stdtrit(max(count - 1, 1.0), 0.975)) * math.sqrt(squares) / n
    return max(-1.0, middle - half), min(1.0, middle + half)
