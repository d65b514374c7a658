"""What single samples took, each alone: what the latency of a request is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from pilotfish.documents import Count, Within

MOST = 1000  # times of one model: every combination of two models' is formed
Milliseconds = Annotated[float, Within(0, 1e9)]


@dataclass(frozen=True)
class SampleTimes:
    """Milliseconds of single samples on one device, one at a time with every core at work.

    device   ``cpu``, ``cuda``, ``cuda:1``
    machine  in words, as ``pilotfish.machine.device_name`` gives it: "cpu, AMD EPYC, 2 cores"
    backend  what ran the model, by name
    threads  cores of one call
    read     from the file to the decoded sample, a number per sample
    run      from the decoded sample to the model's output: preprocessing, and one call of batch size 1. Of an exit of a
             network everything up to that exit, from the inputs on
    """

    device: str
    machine: str
    backend: str
    threads: Count
    read: tuple[Milliseconds, ...]
    run: tuple[Milliseconds, ...]

    def validate(self) -> None:
        """ValueError where read and run are not of the same samples, are more than were ever timed, or took no time."""
        if not self.read or len(self.read) != len(self.run):
            raise ValueError(f"{len(self.read)} times to read and {len(self.run)} to run; expected equally many, not 0")
        if len(self.run) > MOST:
            raise ValueError(f"{len(self.run):,} times of single samples; expected at most {MOST:,}")
        if not max(self.run) > 0:
            raise ValueError("all times to run are 0; expected what a sample took")

    def __len__(self) -> int:
        return len(self.read)

    def percentiles(self, shares: Sequence[float] = (0.5, 0.95)) -> NDArray[np.float64]:
        """Milliseconds from file to output that the given shares of the samples stay within, float64."""
        total = np.add(self.read, self.run)
        return np.asarray(np.quantile(total, shares, method="inverted_cdf"), np.float64)
