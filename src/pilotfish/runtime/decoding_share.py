"""What share of the processor's time goes into inputs: read, decoded, resized and normalised."""

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

MUCH = 0.3  # of the cascade's time: another decoder is worth a thought
CAMERA = 2000  # pixels of the longer side from which a JPEG is worth scaling while it is decoded
JPEG = b"\xff\xd8\xff"


class ClockedSupply(DecodingSupply):
    """Knows the processor time, in seconds, that the threads spent on each input."""

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
    """One run of an engine over N samples, in milliseconds per sample: from start to end, of the processor, and of the
    processor for inputs alone; the last is 0 where they were made beforehand."""

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
    """ms: processor time that inputs take, per sample; share: of all the processor time from file to answer."""

    ms: Spread
    share: Spread

    @classmethod
    def of(cls, runs: Sequence[Run]) -> DecodeShare:
        """Of several runs; a clock too coarse to see anything gives 0."""
        shares = [run.inputs_ms / run.processor_ms if run.processor_ms else 0.0 for run in runs]
        return cls(Spread.of([run.inputs_ms for run in runs]), Spread.of(shares))

    def to_json(self) -> dict[str, Any]:
        """Medians, with spreads beside them."""
        return {
            "ms": self.ms.median,
            "share": self.share.median,
            "ms_spread": self.ms.limits,
            "share_spread": self.share.limits,
        }


def advice(found: DecodeShare, chains: Sequence[Preprocessing], sample: Any) -> tuple[str, ...]:
    """A line where inputs take much of the cascade's time and something reads them faster than its first stage does,
    which reads all of them.

    chains  of the stages
    sample  one of the data, not decoded where it is an image file
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
