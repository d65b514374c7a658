"""Time per sample at several batch sizes on the device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pilotfish.machine import cpu_count
from pilotfish.models.model import F32, Backend

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
CUDA_BATCH_SIZES = (1, 8, 32, 128, 512)
LANE_BATCH_SIZES = (2, 4, 8, 16)


@dataclass(frozen=True)
class Timing:
    """ms: median milliseconds per sample by batch size, one call at a time; best: the batch size with the least.

    lanes: milliseconds per sample by batch size with one call per core
    throughput: the least milliseconds per sample with all cores at work, be it one call or one call per core
    """

    ms: dict[int, float]
    throughput: float
    lanes: dict[int, float] = field(default_factory=dict)

    @property
    def best(self) -> int:
        """The fastest batch size; of two within 2 % the smaller."""
        least = min(self.ms.values())
        return min(size for size, ms in self.ms.items() if ms <= 1.02 * least)

    def costs(self, device: str) -> dict[str, float]:
        """Cost entries: ``ms@cpu-b8`` per batch size, ``ms@cpu`` for throughput, and ``ms``, the same."""
        by_size = {f"ms@{device}-b{size}": ms for size, ms in self.ms.items()}
        return {"ms": self.throughput, f"ms@{device}": self.throughput, **by_size}


def time_batches(
    backend: Backend,
    shape: tuple[int, ...],
    sizes: Sequence[int] = BATCH_SIZES,
    seconds: float = 4.0,
    lanes: Sequence[int] = LANE_BATCH_SIZES,
    like: F32 | None = None,
) -> Timing:
    """Measure *backend* on random inputs of *shape*, within about *seconds*, and half as many with a call per core.

    sizes, lanes  of the batches, of one call at a time and of a call per core
    like          a large input, of which copies are taken instead; no call is to take longer than *seconds*

    Sizes are tried in rising order until the share of time for the next is used up or two sizes in a row are
    slower per sample than the best by a quarter, the four smallest in any case. One unmeasured call first; medians of
    at least three.
    """
    rng = np.random.default_rng(0)
    found: dict[int, float] = {}
    end = time.perf_counter() + seconds
    for size in sizes:
        batch = _batch(rng, size, shape, like)
        backend.step(batch)
        found[size] = _median_ms(backend, batch, min(seconds / len(sizes), 0.5)) / size
        best = min(found.values())
        recent = list(found.values())[-2:]
        estimate = 4 * found[size] * size * 2 / 1000
        slower = len(recent) == 2 and min(recent) > 1.25 * best
        if size >= sizes[min(3, len(sizes) - 1)] and (slower or time.perf_counter() + estimate > end):
            break
        if like is not None and 2 * size * found[size] / 1000 > seconds:
            break
    in_lanes = _in_lanes(backend, shape, seconds / 2, lanes, like)
    return Timing(found, min([*found.values(), *in_lanes.values()]), in_lanes)


def _in_lanes(
    backend: Any, shape: tuple[int, ...], seconds: float, sizes: Sequence[int], like: F32 | None
) -> dict[int, float]:
    """Milliseconds per sample by batch size, with one single-threaded call per core, where the backend can do so; of
    the sizes that there is time for."""
    lanes = cpu_count()
    if lanes == 1 or not hasattr(backend, "with_threads"):
        return {}
    single = backend.with_threads(1)
    rng = np.random.default_rng(0)
    found: dict[int, float] = {}
    latest = time.perf_counter() + seconds
    with ThreadPoolExecutor(lanes) as pool:
        for size in sizes:
            if found and time.perf_counter() > latest:
                break
            batch = _batch(rng, size, shape, like)
            single.step(batch)
            end = time.perf_counter() + seconds / len(sizes)
            rates = [future.result() for future in [pool.submit(_until, single, batch, end) for _ in range(lanes)]]
            found[size] = 1000 / sum(rates)
    return found


def _batch(rng: np.random.Generator, size: int, shape: tuple[int, ...], like: F32 | None) -> F32:
    return rng.standard_normal((size, *shape), dtype=np.float32) if like is None else np.stack([like] * size)


def _until(backend: Backend, batch: F32, end: float) -> float:
    """Samples per second of calls one after the other, at least two, up to the time *end*."""
    start, calls = time.perf_counter(), 0
    while calls < 2 or time.perf_counter() < end:
        backend.step(batch)
        calls += 1
    return calls * len(batch) / (time.perf_counter() - start)


def _median_ms(backend: Backend, batch: F32, seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < end and len(times) < 200):
        start = time.perf_counter()
        backend.step(batch)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
