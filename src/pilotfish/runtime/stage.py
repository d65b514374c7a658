"""A stage as the engine runs it, and what passes between stages that share a backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.models.model import F32, Backend, Carry
from pilotfish.tasks import Task

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class EngineStage:
    """A model as the engine runs it.

    backend     what runs it; a part of a network where stages share a backbone
    batch_size  how many samples its queue waits for
    lanes       how many batches may be computed at the same time: on a CPU, one single-threaded call per core beats one
                call of many threads
    shares      whether it continues from the features of the stage before instead of taking inputs of its own
    alone       what runs a single input: the same model with every core for one call, if that differs
    adjust      what was fitted to its answers; None: nothing
    """

    name: str
    backend: Backend
    batch_size: int
    lanes: int = 1
    shares: bool = False
    alone: Backend | None = None
    adjust: Callable[[Any], Any] | None = None

    def reduced(self, raw: Any, rows: int, keep: int | str, task: Task, inputs: Any = None) -> Any:
        """What the model returned for *rows* samples as outputs, adjusted. ModelError if it is not an answer of the
        task."""
        outputs = task.reduced(raw, rows, self.name, keep, inputs)
        return outputs if self.adjust is None else self.adjust(outputs)


def run_stage(
    stage: EngineStage, inputs: F32 | None, carry: Carry | None, keep: int | str, task: Task
) -> tuple[Any, Carry | None]:
    """Reduced outputs of a batch, and the features for the next stage.

    A backend on a device reduces logits there, so that only what decides is copied and waited for. ModelError if the
    stage returns anything but the task's raw answer.
    """
    backend: Any = stage.backend
    if task.classes and getattr(backend, "reduces", False):
        return backend.reduce(inputs, keep), None
    logits, out = backend.step(inputs, carry)
    rows = len(inputs) if inputs is not None else len((carry or ((),))[0])
    return stage.reduced(logits, rows, keep, task, inputs), out


def take(carry: Carry, rows: Rows) -> Carry:
    """The features of some samples, gathered once: arrays or tensors (n, …), on the device where they are."""
    return tuple(part[rows] for part in carry)


@dataclass(frozen=True)
class Place:
    """Where the features of one sample are: row *at* of *block*, the features of a batch."""

    block: Carry
    at: int


def places(carry: Carry, stays: NDArray[np.bool_]) -> list[Place]:
    """A place for each sample that stays, in order. The batch is kept unchanged if at least half of it stays, so that
    features are copied only once, into the next batch; otherwise a whole batch would be held for a few samples."""
    rows = np.flatnonzero(stays)
    if 2 * len(rows) >= len(stays):
        return [Place(carry, at) for at in rows.tolist()]
    block = take(carry, rows)
    return [Place(block, at) for at in range(len(rows))]


def gather(found: Sequence[Place]) -> Carry:
    """The features of several samples as one batch."""
    blocks: list[tuple[Carry, list[int]]] = []
    for place in found:
        if not blocks or blocks[-1][0] is not place.block:
            blocks.append((place.block, []))
        blocks[-1][1].append(place.at)
    if len(blocks) == 1:
        block, rows = blocks[0]
        whole = rows[-1] - rows[0] + 1 == len(rows)  # rows rise
        return tuple(part[rows[0] : rows[-1] + 1] if whole else part[rows] for part in block)
    if all(isinstance(part, np.ndarray) for part in blocks[0][0]):
        return tuple(_filled([(block[i], rows) for block, rows in blocks]) for i in range(len(blocks[0][0])))
    return join([take(block, np.array(rows)) for block, rows in blocks])


def _filled(parts: Sequence[tuple[NDArray[Any], list[int]]]) -> NDArray[Any]:
    """Rows of several arrays in one array, each copied once."""
    first, _ = parts[0]
    out = np.empty((sum(len(rows) for _, rows in parts), *first.shape[1:]), first.dtype)
    start = 0
    for part, rows in parts:
        np.take(part, rows, axis=0, out=out[start : start + len(rows)], mode="clip")  # other modes copy twice
        start += len(rows)
    return out


def join(carries: Sequence[Carry]) -> Carry:
    """Features of several groups of samples as one batch."""
    if len(carries) == 1:
        return carries[0]
    return tuple(_concatenate(parts) for parts in zip(*carries, strict=True))


def _concatenate(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch

    return torch.cat(list(parts))
