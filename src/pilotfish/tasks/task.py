"""What a task is, and the tasks by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError, nearest

Quality = NDArray[Any]
"""bool where answers are right or wrong, else float64 in [0, 1]."""


@dataclass(frozen=True)
class Metric:
    """What is measured over samples.

    name   in documents and on the command line: ``accuracy``, ``micro_f1``
    says   in prose: "accuracy", "micro F1"
    kind   ``mean``: of the quality per sample; ``ratio``: *value* of the sum of vectors of counts per sample; ``rank``:
           *value* of merged states
    value  for ratios: sums of states (..., S) -> values (...); None for a mean
    """

    name: str
    says: str
    kind: Literal["mean", "ratio", "rank"] = "mean"
    value: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None


@dataclass(frozen=True)
class Task:
    """What an answer is.

    name     as records and cascades carry it
    metric   what is measured; drops are in its points
    quality  (outputs, truth) of N samples -> bool (N,) where an answer is right or wrong, else float64 (N,) in [0, 1]
    """

    name: str
    metric: Metric
    quality: Callable[[Any, Any], Quality]


_TASKS: dict[str, Task] = {}


def register(task: Task) -> Task:
    """Make *task* known by its name, in this process. UsageError where another task has the name."""
    if _TASKS.setdefault(task.name, task) is not task:
        raise UsageError(f"there is a task {task.name!r} already; give yours another name")
    return task


def find_task(name: str) -> Task:
    """The task called *name*. UsageError lists the names."""
    if name not in _TASKS:
        raise UsageError(f"unknown task {name!r}; {nearest(name, _TASKS)}")
    return _TASKS[name]
