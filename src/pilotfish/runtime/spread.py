"""Figures measured several times."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of several runs, in milliseconds per sample (or a ratio)."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of *values*."""
        return cls(statistics.median(values), min(values), max(values))

    @property
    def limits(self) -> list[float]:
        """[smallest, largest]."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Latency:
    """The p50, p95 and p99 of requests, in milliseconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, ms: Sequence[float]) -> Latency:
        """The percentiles of *ms*, as measured times, without interpolation."""
        return cls(*np.quantile(ms, [0.5, 0.95, 0.99], method="inverted_cdf").tolist())
