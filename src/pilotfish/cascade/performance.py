"""How a policy did on a set of samples."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from pilotfish.errors import ArtefactError


@dataclass(frozen=True)
class Performance:
    """Accuracy and cost of a cascade beside its base's, on n samples.

    drop           base_accuracy - accuracy, a fraction
    drop_interval  95 % interval of the drop (see :func:`paired_interval`)
    cost           mean per sample in the unit of the cost key; None when unknown
    exit_ratio     share answered per stage; sums to 1
    """

    n: int
    accuracy: float
    base_accuracy: float
    drop: float
    drop_interval: tuple[float, float]
    cost: float | None
    base_cost: float | None
    exit_ratio: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, with lists for tuples."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, document: Any) -> Performance:
        """The inverse of :meth:`to_json`."""
        try:
            low, high = document["drop_interval"]
            entry = cls(
                **{**document, "drop_interval": (low, high), "exit_ratio": tuple(document["exit_ratio"])},
            )
            numbers = [entry.n, entry.accuracy, entry.base_accuracy, entry.drop, low, high, *entry.exit_ratio]
            for value in (*numbers, *(c for c in (entry.cost, entry.base_cost) if c is not None)):
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise TypeError(f"{value!r} is not a number")
                if not math.isfinite(value):  # OverflowError for an integer beyond float64
                    raise ValueError(f"{value} is not finite")
            if not isinstance(entry.n, int) or entry.n < 0 or not all(0 <= r <= 1 for r in entry.exit_ratio):
                raise ValueError("n is no count, or an exit ratio no share")
            if not (0 <= entry.accuracy <= 1 and 0 <= entry.base_accuracy <= 1):
                raise ValueError("an accuracy is no share")
            return entry
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtefactError(f"a performance entry is damaged: {error!r}") from error


def paired_interval(lost: int, won: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of (lost - won) / n for paired outcomes.

    Agresti and Min (2005), "Simple improved confidence intervals for comparing matched proportions": the Wald
    interval after half a sample is added to each of the four cells. For reading; a promise needs a certificate.
    """
    b, c, m = lost + 0.5, won + 0.5, n + 2
    middle = (b - c) / m
    half = z * math.sqrt(max(b + c - (b - c) ** 2 / m, 0.0)) / m
    return max(-1.0, middle - half), min(1.0, middle + half)
