"""What single requests take in a cascade, from times of single samples.

A sample that stage k answers takes T_k = read + run_1 + … + run_k. The times of each stage were measured on samples of
their own, so independent draws are added: of what was measured, every combination once. P(latency > L) is then the sum
over stages of the share that stage k answers times P(T_k > L), and p95 <= L says that it is at most 5 %. Below 95 %
exits the p95 of a pair is a quantile of T_2. What requests wait for each other is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotfish.errors import RecordsError
from pilotfish.machine import device_name
from pilotfish.plan.costs import backbone_of
from pilotfish.records import SampleTimes, Table
from pilotfish.text import listed

F64 = NDArray[np.float64]
FEW = 100
LATE = 0.05  # share of the requests that may take longer
LEVEL = 0.05  # of tests on requests that were timed
MOST = 40_000  # sums kept of one side; more are rounded up, and so never look faster than they are


@dataclass(frozen=True)
class RequestTimes:
    """T_k for each of K stages, as two sets of times that are added, each of one with each of the other.

    one, other  float64 in ms, rising, a pair per stage
    """

    one: tuple[F64, ...]
    other: tuple[F64, ...]

    def late(self, limit: float) -> F64:
        """float64 (K,): the share of the samples answered by each stage that take more than *limit* ms."""
        within = [
            np.searchsorted(one, limit - other, side="right").mean() / len(one)
            for one, other in zip(self.one, self.other, strict=True)
        ]
        return np.maximum.accumulate(1 - np.array(within))

    def p95(self, shares: ArrayLike) -> float:
        """The least limit in ms, to 12 digits, that at most 5 % take longer than, where the stages answer *shares* (K,)
        of the samples."""
        of_stage, low = np.asarray(shares, np.float64), 0.0
        high = max(float(one[-1] + other[-1]) for one, other in zip(self.one, self.other, strict=True))
        high *= 1 + 1e-12
        for _ in range(44):
            middle = (low + high) / 2
            low, high = (low, middle) if within(of_stage @ self.late(middle)) else (middle, high)
        return high


@dataclass(frozen=True)
class RequestsStanding:
    """Where a limit of the p95 stands, by *n* requests that were timed.

    late      how many of them took longer than the limit
    p95       ms; interval: its 95 % interval, between two of the times
    holds     whether "more than 5 % are late" is rejected at 5 %; broken: whether "at most 5 % are" is
    """

    n: int
    late: int
    p95: float
    interval: tuple[float, float]
    holds: bool
    broken: bool


def requests_standing(ms: ArrayLike, limit: float) -> RequestsStanding:
    """Where "95 % of single requests take at most *limit* ms" stands by the times *ms* (N,) of some."""
    from scipy.special import bdtr, bdtrc

    times = np.sort(np.asarray(ms, np.float64))
    n, late = len(times), int(np.count_nonzero(times > limit))
    in_time = bdtr(np.arange(n), n, 1 - LATE)  # the chance that so many are below the p95
    low, high = np.searchsorted(in_time, (0.025, 0.975)).tolist()
    return RequestsStanding(
        n=n,
        late=late,
        p95=float(times[max(int(np.ceil((1 - LATE) * n)) - 1, 0)]),
        interval=(float(times[max(low - 1, 0)]), float(times[min(high, n - 1)])),
        holds=bool(bdtr(late, n, LATE) <= LEVEL),
        broken=late > 0 and bool(bdtrc(late - 1, n, LATE) <= LEVEL),
    )


def note_on_requests(limit: float, found: RequestsStanding | None) -> str:
    """A line on where a limit of the p95 stands; None: no requests were timed."""
    if found is None:
        return (
            f"the limit of the latency (p95 at most {limit:g} ms) was not judged, for nothing was run: give --data, or "
            "measure it with pilotfish bench"
        )
    took = f"{found.late:,} of {found.n:,} took longer"
    says = f"p95 of single requests is {found.p95:.4g} ms here, the limit {limit:g} ms: {took}"
    if found.broken:
        return f"{says}, more than the 5% that may; if the machine was busy, evaluate again at rest"
    return says if found.holds else f"{says}, and so few requests cannot show that it holds"


def within(share: ArrayLike) -> NDArray[np.bool_]:
    """Whether at most 5 % are late."""
    return np.asarray(np.asarray(share) <= LATE + 1e-12)


def times_of(read: ArrayLike, runs: Sequence[tuple[ArrayLike, bool]]) -> RequestTimes:
    """The times of a cascade's requests.

    read  of a sample, in ms
    runs  for each stage its times in ms, and whether it goes on where the stage before it stopped, as an exit of the
          same network does: its times then hold those of that stage
    """
    parts: list[F64] = [np.sort(np.asarray(read, np.float64))]
    one, other = [], []
    for run, goes_on in runs:
        own = np.sort(np.asarray(run, np.float64))
        parts = [*parts[:-1], own] if goes_on else [*parts, own]
        one.append(_sums(parts[:2]))
        other.append(_sums(parts[2:]))
    return RequestTimes(tuple(one), tuple(other))


def _sums(parts: Sequence[F64]) -> F64:
    """All sums of one time of each part, rising; those beyond :data:`MOST` as the upper ends of blocks of them."""
    total = np.zeros(1)
    for part in parts:
        total = np.sort(np.add.outer(total, part).ravel())
        if len(total) > MOST:
            total = total[np.arange(1, MOST + 1) * len(total) // MOST - 1]
    return total


def request_times(table: Table, stages: Sequence[str], cost: str) -> tuple[RequestTimes, list[str]]:
    """The times of requests to a cascade of *stages*, and what to know of them.

    cost  where it is a time on a device, such as ``ms@cuda``, times are of that kind of device; else of the processor,
          or of the one that all were timed on

    RecordsError where a stage has no such times, or they are of different machines.
    """
    metas = [table.meta[name] for name in stages]
    known = [{times.device.partition(":")[0]: times for times in meta.single_times} for meta in metas]
    lacking = [meta.model for meta, own in zip(metas, known, strict=True) if not own]
    if lacking:
        raise RecordsError(
            f"a limit of the latency needs times of single samples, and the records of {listed(lacking)} hold none; "
            "record them on the machine that will answer (pilotfish record, with --timing); imported predictions and "
            "python: functions of whole samples have none"
        )
    shared = set.intersection(*map(set, known))
    asked = cost.partition("@")[2].partition("-")[0]
    if not shared or (asked and cost.startswith("ms@") and asked not in shared):
        found = "; ".join(f"{meta.model} on {listed(sorted(own))}" for meta, own in zip(metas, known, strict=True))
        raise RecordsError(f"single samples were not timed on one kind of device ({found}); record all on one")
    kind = asked if cost.startswith("ms@") and asked else "cpu" if "cpu" in shared else min(shared)
    times = [own[kind] for own in known]
    machines = dict(zip((t.machine for t in times), stages, strict=True))
    if len(machines) > 1:
        found = "; ".join(f"{name} on {machine}" for machine, name in machines.items())
        raise RecordsError(f"times of single samples are of different machines: {found}; record all on one of them")
    networks = [backbone_of(meta) for meta in metas]
    goes_on = [
        own is not None and before is not None and own[0] == before[0]
        for before, own in zip([None, *networks], networks, strict=False)
    ]
    read = max((t.read for t in times), key=lambda one: float(np.mean(one)))  # read once, as the slowest reads
    return times_of(read, [(t.run, on) for t, on in zip(times, goes_on, strict=True)]), _notes(times, stages)


def _notes(times: Sequence[SampleTimes], stages: Sequence[str]) -> list[str]:
    machine, device = times[0].machine, times[0].device
    fewest = min(map(len, times))
    notes = [
        f"p95 is of one request at a time, from {fewest:,} single samples per stage on {machine}; waiting is not in it"
        + ("" if fewest >= FEW else ". So few say little of a p95: record again on a machine at rest (--overwrite)")
    ]
    if device == "cpu" and (here := device_name(device)) != machine:
        notes.append(f"the times of single samples are of another machine than this one, which is {here}")
    threads = {name: t.threads for name, t in zip(stages, times, strict=True)}
    if len(set(threads.values())) > 1:
        found = ", ".join(f"{name} with {count}" for name, count in threads.items())
        notes.append(f"single samples were timed with different numbers of threads ({found}): record them alike")
    return notes
