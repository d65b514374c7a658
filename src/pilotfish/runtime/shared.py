"""Stages that are exits of one network: each continues from the features of the stage before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from pilotfish.models import Model
from pilotfish.models.model import F32, Backend, Carry
from pilotfish.runtime.stage import join, take


def shares_with(before: Model | None, model: Model) -> bool:
    """Whether *model* is a later exit of the same network as *before*, with the same inputs."""
    if before is None or before.exit_of is None or model.exit_of is None:
        return False
    a, b = before.exit_of, model.exit_of
    return a.network == b.network and a.position < b.position and before.preprocessing == model.preprocessing


def linked(models: Sequence[Model], backends: Sequence[str | None]) -> list[tuple[Backend, bool]]:
    """What runs each stage, and whether it continues from the features of the stage before.

    backends  names; None for the device's default
    """
    found: list[tuple[Backend, bool]] = []
    for k, model in enumerate(models):
        before = models[k - 1] if k else None
        goes_on = k + 1 < len(models) and shares_with(model, models[k + 1])
        shares = shares_with(before, model)
        own = model.exit_of
        if own is None or not (shares or goes_on):
            found.append((model.backend, False))
            continue
        start = before.exit_of.position if shares and before is not None and before.exit_of is not None else 0
        found.append((own.segment(start, own.position, backends[k]), shares))
    return found


def threaded(runner: Backend, threads: int | None) -> Backend:
    """*runner* with that many threads per call, if it supports it."""
    if threads is None or not hasattr(runner, "with_threads"):
        return runner
    return cast(Backend, cast(Any, runner).with_threads(threads))


def alone(runners: Sequence[tuple[Backend, bool]], k: int, inputs: F32) -> Backend:
    """Stage *k* as a model of its own, for timing it alone. A stage that shares its backbone continues from the
    features of *inputs*, computed beforehand, and takes sample numbers (n, 1) instead of inputs."""
    runner, shares = runners[k]
    return _Part(runner, features_before(runners, k, inputs)) if shares else runner


def whole(model: Model, backend: str | None, threads: int | None) -> Backend:
    """The whole *model*, from its inputs, run as a stage with that backend would be."""
    own = model.exit_of
    if own is None:
        return model.backend
    return threaded(own.segment(0, own.position, backend), threads)


class _Part:
    """A part of a network that continues from *features* computed beforehand: its inputs are sample numbers (n, 1)."""

    def __init__(self, part: Backend, features: Carry) -> None:
        self.part, self.features, self.name = part, features, part.name
        if hasattr(part, "with_threads"):
            self.with_threads = lambda threads: _Part(threaded(part, threads), features)

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[F32, None]:
        """Logits float32 (n, C)."""
        assert inputs is not None, "numbers of samples"
        rows = np.abs(inputs[:, 0]).astype(np.intp) % len(self.features[0])
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):  # as a batch is that was cut from one before it
            return self.part.step(None, tuple(part[rows[0] : rows[-1] + 1] for part in self.features))[0], None
        return self.part.step(None, take(self.features, rows))[0], None


def features_before(runners: Sequence[tuple[Backend, bool]], k: int, inputs: F32, size: int = 32) -> Carry:
    """The features that stage *k* continues from, of samples whose *inputs* are those of the network's first stage."""
    first = k
    while runners[first][1]:
        first -= 1
    parts = []
    for start in range(0, len(inputs), size):
        carry: Carry | None = None
        for runner, shares in runners[first:k]:
            given = None if shares else inputs[start : start + size]
            _, carry = runner.step(given, carry)
        if carry is not None:
            parts.append(carry)
    return join(parts)
