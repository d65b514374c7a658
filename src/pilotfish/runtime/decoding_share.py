"""The share of processor time spent on inputs: reading, decoding, resizing and normalising."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.data import Encoded
from pilotfish.errors import UnreadableSample
from pilotfish.models import Preprocessing
from pilotfish.models.model import F32
from pilotfish.runtime.call import Item
from pilotfish.runtime.engine import Engine
from pilotfish.runtime.spread import Spread
from pilotfish.runtime.supply import DecodingSupply, Supply

MUCH = 0.3  # of the cascade's time: from here on another decoder is advised
CAMERA = 2000  # pixels of the longer side from which scaling a JPEG while decoding pays off
JPEG = b"\xff\xd8\xff"


class ClockedSupply(DecodingSupply):
    """Measures the processor time, in seconds, that the threads spend on each input."""

    def prepare(self, stage: int, item: Item) -> F32:
        """As a DecodingSupply does."""
        start = time.thread_time()
        try:
            return super().prepare(stage, item)
        finally:
            self.spent.append(time.thread_time() - start)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.spent: list[float] = []


@dataclass(frozen=True)
class Run:
    """One run of an engine over N samples, in milliseconds per sample: wall time, processor time, and processor time
    for inputs alone; the last is 0 if they were made beforehand."""

    ms: float
    processor_ms: float
    inputs_ms: float

    @classmethod
    def of(cls, engine: Engine, supply: Supply, n: int) -> Run:
        """*engine* over *supply*."""
        start, used = time.perf_counter(), time.process_time()
        engine.run(supply)
        ms, used = time.perf_counter() - start, time.process_time() - used
        spent = sum(supply.spent) if isinstance(supply, ClockedSupply) else 0.0
        return cls(1000 * ms / n, 1000 * max(used, spent) / n, 1000 * spent / n)


@dataclass(frozen=True)
class DecodeShare:
    """ms: processor time that inputs take, per sample; share: of all processor time from file to answer."""

    ms: Spread
    share: Spread

    @classmethod
    def of(cls, runs: Sequence[Run]) -> DecodeShare:
        """The share over several runs; 0 if the clock is too coarse."""
        shares = [run.inputs_ms / run.processor_ms if run.processor_ms else 0.0 for run in runs]
        return cls(Spread.of([run.inputs_ms for run in runs]), Spread.of(shares))

    def to_json(self) -> dict[str, Any]:
        """Medians, with their spreads."""
        return {
            "ms": self.ms.median,
            "share": self.share.median,
            "ms_spread": self.ms.limits,
            "share_spread": self.share.limits,
        }


def advice(found: DecodeShare, chains: Sequence[Preprocessing], sample: Any) -> tuple[str, ...]:
    """A line of advice if inputs take much of the cascade's time and a faster reader is available for its first stage,
    which reads all of them.

    chains  the preprocessing of the stages
    sample  one sample of the data, not decoded if it is an image file
    """
    first = next(iter(chains), None)
    if found.share.median <= MUCH or first is None or first.kind != "image" or first.size is None:
        return ()
    options = []
    if isinstance(sample, Encoded) and sample.content.startswith(JPEG):
        try:
            large = max(np.asarray(sample.decode()).shape[:2]) >= CAMERA
        except UnreadableSample:
            large = False
        decoder = "turbojpeg-draft" if large else "turbojpeg"
        options += [f"decoder={decoder}"] if not first.decoder.startswith(decoder) else []
    if first.resizer == "pillow" and first.interpolation != "lanczos":
        options.append("resizer=torchvision")
    if not options:
        return ()
    line = (
        f"decoding takes {found.share.median:.0%} of the cascade's processor time ({found.ms.median:.2f} ms a sample): "
        f"record its first stage with ?{'&'.join(options)}, which reads inputs faster, and tune again"
    )
    return (line,)
