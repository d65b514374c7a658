"""Figures that were measured several times."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Median, least and largest of several runs, in milliseconds per sample (or a ratio)."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of *values*."""
        return cls(statistics.median(values), min(values), max(values))

    @property
    def limits(self) -> list[float]:
        """[least, largest]."""
        return [self.low, self.high]
