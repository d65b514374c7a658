"""What an export is, how it compares with the engine, and what it costs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ExportInput:
    """An input of the graph: float32 (N, *shape), for these stages, prepared as their preprocessing says."""

    name: str
    shape: tuple[int, ...]
    stages: tuple[str, ...]
    preprocessing: dict[str, Any]


@dataclass(frozen=True)
class ExportCost:
    """Milliseconds per sample when stage *stage* answers (None: the cascade's own exits): the graph and the engine.

    The engine prepares an input only when its stage is reached; a graph needs all of them beforehand, which is not in
    either figure.
    """

    stage: int | None
    graph_ms: float
    engine_ms: float


@dataclass(frozen=True)
class ExportedCascade:
    """The outcome of :func:`export`.

    samples         how many were compared with the engine, once per exit and at the cascade's own operating point
    flips           exits that differ, all of them within *band* of their threshold
    max_difference  largest difference of a confidence where the same stage answered
    costs           one sample at a time, by the stage that answers; for a batched graph the cascade's own exits
    """

    path: Path
    batched: bool
    bytes: int
    inputs: tuple[ExportInput, ...]
    stages: tuple[str, ...]
    samples: int
    flips: int
    band: float
    max_difference: float
    costs: tuple[ExportCost, ...]
    prepare_ms: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish export --json``."""
        return {**dataclasses.asdict(self), "path": str(self.path)}
