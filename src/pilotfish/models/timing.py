"""Time per sample at several batch sizes on the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pilotfish.models.model import Backend

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Timing:
    """ms: median milliseconds per sample by batch size; best: the batch size with the least."""

    ms: dict[int, float]

    @property
    def best(self) -> int:
        """The fastest batch size; of two within 2 % the smaller."""
        least = min(self.ms.values())
        return min(size for size, ms in self.ms.items() if ms <= 1.02 * least)

    def costs(self, device: str) -> dict[str, float]:
        """Cost entries: ``ms@cpu-b8`` per batch size, and ``ms`` at the best."""
        return {"ms": self.ms[self.best], **{f"ms@{device}-b{size}": ms for size, ms in self.ms.items()}}


def time_batches(
    backend: Backend, shape: tuple[int, ...], sizes: Sequence[int] = BATCH_SIZES, seconds: float = 4.0
) -> Timing:
    """Measure *backend* on random inputs of *shape*, within about *seconds* in all.

    Sizes are tried in rising order until the share of time for the next is used up or two sizes in a row are
    slower per sample than the best by a quarter, the four smallest in any case. One unmeasured call first; medians of
    at least three.
    """
    rng = np.random.default_rng(0)
    found: dict[int, float] = {}
    end = time.perf_counter() + seconds
    for size in sizes:
        batch = rng.standard_normal((size, *shape), dtype=np.float32)
        backend.run(batch)
        found[size] = _median_ms(backend, batch, min(seconds / len(sizes), 0.5)) / size
        best = min(found.values())
        recent = list(found.values())[-2:]
        estimate = 4 * found[size] * size * 2 / 1000
        slower = len(recent) == 2 and min(recent) > 1.25 * best
        if size >= sizes[min(3, len(sizes) - 1)] and (slower or time.perf_counter() + estimate > end):
            break
    return Timing(found)


def _median_ms(backend: Backend, batch: np.ndarray[tuple[int, ...], np.dtype[np.float32]], seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 200):
        start = time.perf_counter()
        backend.run(batch)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
