"""One batch through one stage, in a thread; samples that fail are isolated and fail on their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import InForce
from pilotfish.errors import ModelError, ModelMemoryError
from pilotfish.models.model import F32, Carry
from pilotfish.runtime.single import OneAnswer, is_plain, plain_answer
from pilotfish.runtime.stage import EngineStage, Place, gather, join, run_stage, take
from pilotfish.runtime.supply import UNREAD, why
from pilotfish.scores.outputs import join_outputs
from pilotfish.tasks import Task

if TYPE_CHECKING:
    from pilotfish.runtime.feeds import Feed

Rows = NDArray[np.intp]
Move = bool | Future[Any] | Exception
Passage = Callable[[int, OneAnswer, float, bool], Move]
"""Called for one input at every stage: (stage, its answer, the value that the rule compares, whether the rule lets it
exit). True: it exits. False: it goes on, if there is another stage. A future: it exits and also goes on, and the last
stage's answer goes to that future. An exception, returned or raised: it fails with that. If the value is NaN the answer
is not usable: the input goes on, and the last stage does not call it."""


@dataclass(eq=False, slots=True, weakref_slot=True)
class Item:
    """A sample on its way.

    feed      where it came from and where its answer goes
    row       its number there; key: what its supply reads
    in_force  what decides when it exits: the operating point that it started with
    born      when it came in, as a number that rises
    sample    what its supply keeps for later stages; tensor: its input for the stage that it waits for, or the
              exception raised while making it
    carry     where its features are, before a stage that shares its backbone
    queue     the queue that it is in; since: when it entered; begun: batches that had begun by then
    arrived   when it came to the stage that it waits for
    future    for its answer, if it was submitted on its own; deadline: as ``time.monotonic`` counts
    passage   called at every stage to decide whether it exits
    turn      it waits behind items of smaller turns, and behind earlier items of the same turn
    light     whether it runs without waiting for a full batch once it is the first in a queue
    """

    feed: Feed
    row: int
    key: Any
    in_force: InForce
    born: int
    sample: Any = UNREAD
    tensor: Any = None
    carry: Place | None = None
    queue: deque[Item] | None = None
    since: float = 0.0
    begun: int = 0
    arrived: float = 0.0
    future: Future[Any] | None = None
    passage: Passage | None = None
    turn: int = 0
    light: bool = False
    deadline: float = float("inf")
    gone: bool = False


@dataclass
class Called:
    """The result of a batch: the outputs of *items*, their features, and the samples that failed.

    alone   the answer to the only sample, whether it exits and the value compared, if the plain path was taken
    shrink  the batch size that the device had memory for, if it had too little for the whole batch
    fault   the error of a batch in which no sample could be computed
    """

    items: list[Item] = field(default_factory=list)
    outputs: Any | None = None
    carry: Carry | None = None
    errors: list[tuple[Item, str]] = field(default_factory=list)
    alone: tuple[OneAnswer, bool, float] | None = None
    shrink: int | None = None
    fault: ModelError | None = None


@dataclass
class _Part:
    """A batch, or a part of it after halving."""

    items: list[Item]
    inputs: F32 | None
    carry: Carry | None

    def half(self, rows: slice) -> _Part:
        places = np.arange(len(self.items))[rows]
        return _Part(
            self.items[rows],
            None if self.inputs is None else self.inputs[rows],
            None if self.carry is None else take(self.carry, places),
        )


def call(
    stage: EngineStage, index: int, items: Sequence[Item], keep: int | str, task: Task, plain: bool = False
) -> Called:
    """Run *stage* on the samples of its queue.

    plain  whether only the answer of a single sample is needed
    """
    found = Called()
    fit = [item for item in items if not isinstance(item.tensor, Exception)]
    if len(fit) < len(items):
        found.errors += [(item, why(item.tensor)) for item in items if isinstance(item.tensor, Exception)]
    parts: list[tuple[Any, Carry | None]] = []
    is_plain_one = len(fit) == 1 and plain and is_plain(fit[0].in_force, index)
    for group in _groups(stage, fit):
        inputs = None if stage.shares else group[0].feed.supply.batch(index, group)
        found_at = [item.carry for item in group if item.carry is not None] if stage.shares else []
        carry = gather(found_at) if found_at else None
        for item in group:
            item.tensor = item.carry = None
        part = _Part(group, inputs, carry)
        if is_plain_one and not getattr(stage.backend, "reduces", False):
            return _run_one(stage, index, part, keep, found)
        _run(stage, part, keep, task, found, parts)
    if parts:
        found.outputs = join_outputs([outputs for outputs, _ in parts])
        kept = [c for _, c in parts if c is not None]
        found.carry = join(kept) if kept else None
        found.fault = None
    return found


def _run_one(stage: EngineStage, index: int, part: _Part, keep: int | str, found: Called) -> Called:
    """One sample that compares max_prob with a threshold: after a model has run, our code and data are no longer in the
    processor's caches, and each call into numpy costs ten times what it costs in a loop."""
    item = part.items[0]
    try:
        raw, found.carry = stage.backend.step(part.inputs, part.carry)
        found.alone = plain_answer(item.in_force, index, raw, stage.name)
        if found.alone is None:
            found.outputs = stage.reduced(raw, 1, keep, item.in_force.task, part.inputs)
        found.items.append(item)
    except ModelError as error:
        found.fault = error
        found.errors.append((item, str(error)))
    return found


def _groups(stage: EngineStage, items: list[Item]) -> list[list[Item]]:
    """Samples that can share a batch: those of one shape."""
    if not items or stage.shares:
        return [items] if items else []
    groups: dict[Any, list[Item]] = {}
    for item in items:
        same = item.feed.supply if item.tensor is None else item.tensor.shape
        groups.setdefault(same, []).append(item)
    return list(groups.values())


def _run(
    stage: EngineStage,
    part: _Part,
    keep: int | str,
    task: Task,
    found: Called,
    parts: list[tuple[Any, Carry | None]],
    halved: bool = False,
) -> None:
    """One call, or several if it fails: the batch is halved down to the failing sample. Out of memory halves it
    once."""
    try:
        parts.append(run_stage(stage, part.inputs, part.carry, keep, task))
        found.items += part.items
        return
    except ModelError as error:
        fault, out_of_memory = error, isinstance(error, ModelMemoryError)
    found.fault = found.fault or fault
    if len(part.items) == 1 or (out_of_memory and halved):
        found.errors += [(item, str(fault)) for item in part.items]
        return
    middle = (len(part.items) + 1) // 2
    if out_of_memory:
        found.shrink = middle
    for rows in (slice(0, middle), slice(middle, None)):
        _run(stage, part.half(rows), keep, task, found, parts, out_of_memory)
