"""Which samples of a batch exit: by the rules that they came with, and by the passages of those that have one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Decision, decide
from pilotfish.runtime.call import Called, Item, Move, Passage, Rows
from pilotfish.runtime.feeds import Run
from pilotfish.runtime.single import OneAnswer

Moved = tuple[Item, OneAnswer, Future[Any] | Exception]
"""A sample, its answer, and what its passage returned if that is neither True nor False."""


@dataclass(frozen=True)
class Decided:
    """Samples of one feed and one rule: their places in the batch, their answers, and which of them exit."""

    at: list[int]
    items: list[Item]
    rows: Rows
    outputs: Any
    decision: Decision
    exits: NDArray[np.bool_]


def decide_batch(k: int, stages: int, called: Called) -> list[Decided]:
    """Which samples exit at stage *k* of *stages* stages, by the feeds and the rules that they came with."""
    if called.outputs is None:
        return []
    groups: dict[tuple[int, int], list[int]] = {}
    if isinstance(called.items[0].feed, Run) and len({id(item.feed) for item in called.items}) == 1:
        return [_decide_group(k, stages, list(range(len(called.items))), called.items, called.outputs)]
    for i, item in enumerate(called.items):
        groups.setdefault((id(item.feed), id(item.in_force)), []).append(i)
    return [_decide_group(k, stages, at, called.items, called.outputs) for at in groups.values()]


def _decide_group(k: int, stages: int, at: list[int], items: list[Item], outputs: Any) -> Decided:
    if len(at) < len(items):
        items, outputs = [items[i] for i in at], outputs.take(np.array(at, np.intp))
    feed, in_force = items[0].feed, items[0].in_force
    rows = np.array([item.row for item in items], np.intp)
    past = [feed.memory.read(j, rows) for j in range(k)] if in_force.rule.remembers else []
    decision = decide(in_force.rule, in_force.scores, k, [*past, outputs], stages, in_force.task)
    exits = in_force.point.leaves(k, decision.values)  # NaN, from outputs that are not finite, never exits
    if isinstance(feed, Run) and feed.forced is not None:
        exits = feed.forced[rows] == k
    return Decided(at, items, rows, outputs, decision, exits)


def ask_passages(k: int, stages: int, called: Called, decided: Sequence[Decided]) -> list[Moved]:
    """The moves of samples that have a passage, which is called for each one that stage *k* could answer and whose
    future is still pending. *called* and *decided* are updated with what the passages return."""
    found: list[Moved] = []
    last = k + 1 == stages
    if called.alone is not None and (ask := called.items[0].passage) is not None and not called.items[0].gone:
        answer, leaves, value = called.alone
        move = _asked(ask, k, answer, value, leaves)
        called.alone = answer, leaves if last and move is False else move is True, value
        if not isinstance(move, bool):
            found.append((called.items[0], answer, move))
    for one in decided:
        if all(item.passage is None for item in one.items):
            continue
        said, shown = one.items[0].in_force.task.answer(one.decision.outputs).tolist(), one.decision.shown.tolist()
        values = one.decision.values.tolist()
        for i, item in enumerate(one.items):
            unknown = math.isnan(values[i])
            if item.passage is None or item.gone or (unknown and last):
                continue
            answer = OneAnswer(said[i], shown[i], k)
            move = _asked(item.passage, k, answer, values[i], bool(one.exits[i]))
            if not (last and move is False):
                one.exits[i] = move is True and not unknown
            if not isinstance(move, bool):
                found.append((item, answer, move))
    return found


def _asked(passage: Passage, k: int, answer: OneAnswer, value: float, exits: bool) -> Move:
    """What a passage returns. An exception fails only its own sample."""
    try:
        return passage(k, answer, value, exits)
    except Exception as error:
        return error
