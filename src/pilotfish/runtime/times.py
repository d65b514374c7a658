"""The results of a bench, and their JSON document."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pilotfish.runtime.choice import StageRuntime
from pilotfish.runtime.decoding_share import DecodeShare
from pilotfish.runtime.peers import PeerTimes
from pilotfish.runtime.spread import Latency, Spread


@dataclass(frozen=True)
class Times:
    """One kind of measurement: the models alone, or from file to answer.

    stages_ms  each stage alone; for an exit that continues from the features of the one before, what it adds
    base_ms    the base alone, from its inputs
    """

    stages_ms: tuple[Spread, ...]
    base_ms: Spread
    ideal_ms: Spread
    realised_ms: Spread
    efficiency: Spread

    def to_json(self) -> dict[str, Any]:
        """Medians under the documented keys, with their spreads."""
        return {
            "stages_ms": [s.median for s in self.stages_ms],
            "base_ms": self.base_ms.median,
            "ideal_ms": self.ideal_ms.median,
            "realised_ms": self.realised_ms.median,
            "efficiency": self.efficiency.median,
            "spread": {
                "stages_ms": [s.limits for s in self.stages_ms],
                "base_ms": self.base_ms.limits,
                "ideal_ms": self.ideal_ms.limits,
                "realised_ms": self.realised_ms.limits,
                "efficiency": self.efficiency.limits,
            },
        }


@dataclass(frozen=True)
class Requests:
    """*n* requests one at a time, each from file to answer with every core: to the saver alone, to the base alone, and
    to the cascade, in which *exit_ratio* exited at each stage."""

    n: int
    exit_ratio: tuple[float, ...]
    saver: Latency
    base: Latency
    cascade: Latency


@dataclass(frozen=True)
class SingleTimes:
    """One input at a time, its tensor ready, that exits at the first stage: the stage's own call, the cascade, and
    their difference; and *requests* from file to answer, with decoding."""

    saver_ms: Spread
    cascade_ms: Spread
    overhead_ms: Spread
    requests: Requests

    def to_json(self) -> dict[str, Any]:
        """Medians, and the overhead's spread; percentiles of the requests."""
        return {
            "saver_ms": self.saver_ms.median,
            "cascade_ms": self.cascade_ms.median,
            "overhead_ms": self.overhead_ms.median,
            "overhead_spread": self.overhead_ms.limits,
            **dataclasses.asdict(self.requests),
        }


@dataclass(frozen=True)
class Energy:
    """Joules per input, end to end, for the base alone and the cascade, as counted by *meters*."""

    meters: tuple[str, ...]
    base_joules: Spread
    cascade_joules: Spread

    def to_json(self) -> dict[str, Any]:
        """Medians, with their spreads."""
        return {
            "meters": list(self.meters),
            "base_joules": self.base_joules.median,
            "base_spread": self.base_joules.limits,
            "cascade_joules": self.cascade_joules.median,
            "cascade_spread": self.cascade_joules.limits,
        }


@dataclass(frozen=True)
class BenchResult:
    """The outcome of :func:`bench`.

    speedup           the base alone ÷ the cascade, end to end, median of the runs' ratios
    choices           how each stage was run: backend, batch size, threads, lanes
    decode_ms         reading and decoding alone, per sample, with as many threads
    decoded_once      efficiency end to end against an ideal that decodes each sample once (the ideal of ``end_to_end``
                      counts it at every stage that a sample reaches)
    peers             other ways to run the same cascade, on *peer_n* of the samples; other cascades, on all
    single            one input at a time
    energy            None if no meter can be read
    parts             whether each stage continues from the features of the stage before, as exits of one network do
    decode_share      processor time for reading, decoding and preprocessing inputs, in the cascade from file to answer;
                      base_decode_share: in the base alone
    notes             what the reader should know, one line each
    """

    machine: dict[str, Any]
    stages: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    n: int
    runs: int
    forced: float | None
    exit_ratio: tuple[float, ...]
    model_only: Times
    end_to_end: Times
    speedup: Spread
    choices: tuple[StageRuntime, ...]
    decode_ms: Spread
    decoded_once: Spread
    single: SingleTimes
    peers: tuple[PeerTimes, ...] = ()
    peer_n: int = 0
    energy: Energy | None = None
    parts: tuple[bool, ...] = ()
    decode_share: DecodeShare | None = None
    base_decode_share: DecodeShare | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish bench --json``."""
        return {
            "machine": self.machine,
            "stages": list(self.stages),
            "parts": list(self.parts),
            "batch_sizes": list(self.batch_sizes),
            "choices": [dataclasses.asdict(choice) for choice in self.choices],
            "n": self.n,
            "runs": self.runs,
            "forced_exit_ratio": self.forced,
            "exit_ratio": list(self.exit_ratio),
            "model_only": self.model_only.to_json(),
            "end_to_end": self.end_to_end.to_json(),
            "speedup": self.speedup.median,
            "speedup_spread": self.speedup.limits,
            "decode_ms": self.decode_ms.median,
            "decode_share": {
                "base": self.base_decode_share and self.base_decode_share.to_json(),
                "cascade": self.decode_share and self.decode_share.to_json(),
            },
            "decoded_once": {"efficiency": self.decoded_once.median, "spread": self.decoded_once.limits},
            "single": self.single.to_json(),
            "peers": [peer.to_json() for peer in self.peers],
            "peer_n": self.peer_n,
            "energy": self.energy and self.energy.to_json(),
            "notes": list(self.notes),
        }
