"""Latencies of answers by stage, in total and over the last minutes, in constant memory."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Seconds. The buckets for Prometheus; for quantiles each is divided into STEPS more, a few per cent wide.
BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0
)  # fmt: skip
STEPS = 12
WINDOW = 300.0  # seconds covered by quantiles
SLOTS = 30


def _parted(bounds: Sequence[float]) -> list[float]:
    """Bounds of the finer buckets; every STEPS-th is exactly one of *bounds*."""
    found = [bounds[0]]
    for low, high in pairwise(bounds):
        found += [low * (high / low) ** (step / STEPS) for step in range(1, STEPS)] + [high]
    return found


FINE = _parted(BUCKETS)
_MIDDLES = np.array([FINE[0] / 2, *np.sqrt(np.array(FINE[:-1]) * np.array(FINE[1:])), FINE[-1]])


class Latencies:
    """Counts of seconds in buckets, by stage.

    stages   their number
    seconds  the period covered by :meth:`recent`, in *slots* parts that are dropped one by one
    clock    monotonic seconds

    It has no lock; callers hold their own.
    """

    def __init__(
        self, stages: int, seconds: float = WINDOW, slots: int = SLOTS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.sums = [0.0] * stages
        self._seconds, self._slot, self._clock = seconds, seconds / slots, clock
        self._past = np.zeros((stages, len(FINE) + 1), np.int64)  # all closed slots
        self._closed: deque[tuple[float, NDArray[np.int64]]] = deque(maxlen=slots)  # (end, counts) of each
        self._began = clock()
        self._now = self._empty()

    def add(self, stage: int, seconds: float) -> None:
        """Add an answer of *stage* that took *seconds*."""
        now = self._clock()
        if now - self._began >= self._slot:
            self._turn(now)
        self._now[stage][bisect_left(FINE, seconds)] += 1
        self.sums[stage] += seconds

    def one_more(self) -> None:
        """Add a stage."""
        self._turn(self._clock())
        row = np.zeros((1, len(FINE) + 1), np.int64)
        self._past = np.vstack([self._past, row])
        self._closed = deque(((at, np.vstack([n, row])) for at, n in self._closed), self._closed.maxlen)
        self.sums.append(0.0)
        self._now = self._empty()

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 (stages, buckets + 1): counts since the start in each of BUCKETS; the last column is above all of
        them."""
        cumulative = np.cumsum(self._past + np.array(self._now), axis=1)
        at = [*range(0, len(FINE), STEPS), len(FINE)]
        return np.diff(cumulative[:, at], axis=1, prepend=0)

    def recent(self) -> NDArray[np.int64]:
        """int64 (stages, fine buckets), of the last minutes; see :func:`quantiles_of`."""
        now = self._clock()
        if now - self._began >= self._slot:
            self._turn(now)
        found = np.array(self._now, np.int64)
        for ended, counts in self._closed:
            if now - ended < self._seconds:
                found += counts
        return found

    def _empty(self) -> list[list[int]]:
        return [[0] * (len(FINE) + 1) for _ in self.sums]

    def _turn(self, now: float) -> None:
        counts = np.array(self._now)
        if counts.any():
            self._past += counts
            self._closed.append((min(now, self._began + self._slot), counts))
            self._now = self._empty()
        self._began = now


def quantiles_of(counts: NDArray[np.int64], levels: Sequence[float]) -> list[float] | None:
    """Quantiles of the seconds counted in *counts*, int64 (fine buckets,), to about 5 %: the middle of the bucket that
    holds each. None if there are no counts."""
    below = np.cumsum(counts)
    if not below[-1]:
        return None
    ranks = np.maximum(1, np.ceil(np.asarray(levels) * below[-1]))
    return [float(x) for x in _MIDDLES[np.searchsorted(below, ranks)]]
