"""What a task is, and the tasks by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from numpy.typing import NDArray

from pilotfish.errors import UsageError, nearest

Quality = NDArray[Any]
"""bool where answers are right or wrong, else float64 in [0, 1]."""


@dataclass(frozen=True)
class Metric:
    """What is measured over samples, from a state per sample.

    name    in documents and on the command line: ``accuracy``, ``micro_f1``
    says    in prose: "accuracy", "micro F1"
    kind    ``mean``: the mean of the task's quality, which is the state; ``ratio``: *value* of the sum of the samples'
            states; ``rank``: *value* of the states of whoever answers each sample
    states  (outputs, truth) of N samples -> their states; None for a mean. For a ratio float64 (N, S) that can be added
            up; for a rank anything with ``take(rows)``
    value   for a ratio: sums of states, float64 (..., S) -> values in [0, 1], float64 (...). For a rank: (states of
            each of K models, int64 (N,) which of them answers each sample) -> the value in [0, 1]
    """

    name: str
    says: str
    kind: Literal["mean", "ratio", "rank"] = "mean"
    states: Callable[[Any, Any], Any] | None = None
    value: Callable[..., Any] | None = None


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


def says_of(metric: str) -> str:
    """What the metric called *metric* is called in prose; of one that is not known here, its name with spaces."""
    known = {task.metric.name: task.metric.says for task in _TASKS.values()}
    return known.get(metric, metric.replace("_", " "))
