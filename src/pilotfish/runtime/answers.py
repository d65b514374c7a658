"""Answers: as arrays, one by one, and the window that puts them back into the order of their inputs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Artefact

NO_CLASS = np.int64(-1)


@dataclass(frozen=True)
class Answers:
    """Answers to N samples.

    prediction  (N,), in the task's form: for classes int64, -1 where there is an error
    confidence  float64 (N,), the score of the stage that answered, in display units (a probability for max_prob)
    stage       int64 (N,), the stage that answered; -1 where there is an error
    errors      by sample: why there is no answer. A bad sample fails on its own
    """

    prediction: NDArray[Any]
    confidence: NDArray[np.float64]
    stage: NDArray[np.int64]
    errors: dict[int, str]

    def __len__(self) -> int:
        return len(self.prediction)

    def exit_ratio(self, stages: int) -> list[float]:
        """Share of the answered samples that each stage answered."""
        counts = np.bincount(self.stage[self.stage >= 0], minlength=stages)
        return [float(x) for x in counts / max(1, counts.sum())]

    @classmethod
    def join(cls, parts: Sequence[Answers], missing: np.generic | None = NO_CLASS) -> Answers:
        """Consecutive answers as one; errors keep their row numbers. missing: the value for no answer."""
        if not parts:
            return cls(np.full(0, missing), np.empty(0), np.empty(0, np.int64), {})
        return cls(
            np.concatenate([p.prediction for p in parts]),
            np.concatenate([p.confidence for p in parts]),
            np.concatenate([p.stage for p in parts]),
            {row: text for p in parts for row, text in p.errors.items()},
        )


class Window:
    """The samples from the oldest that is not answered to the newest that was read: at most *size* of them.

    Rows are numbered from 0 in the order of the inputs; a row's place is its number modulo the size.

    missing  the value for no answer, in the answers' dtype
    """

    def __init__(self, size: int, missing: np.generic | None = NO_CLASS) -> None:
        self.size, self.missing = size, missing
        self.first = self.end = 0  # rows first … end - 1 are under way
        self.prediction = np.full(size, missing)
        self.confidence = np.full(size, np.nan)
        self.stage = np.full(size, -1, np.int64)
        self.done = np.zeros(size, bool)
        self.errors: dict[int, str] = {}

    @property
    def room(self) -> int:
        """How many more samples may be read."""
        return self.size - (self.end - self.first)

    def read(self, n: int) -> None:
        """*n* more samples are under way."""
        self.end += n

    def answer(self, rows: NDArray[np.intp] | int, prediction: Any, confidence: Any, stage: int) -> None:
        """Note the answers of *rows*, or of one."""
        place = rows % self.size
        self.prediction[place], self.confidence[place], self.stage[place] = prediction, confidence, stage
        self.done[place] = True

    def fail(self, row: int, reason: str) -> None:
        """Note that *row* has no answer."""
        self.errors[row] = reason
        self.done[row % self.size] = True

    def ready(self) -> Answers | None:
        """The answers that are next in order, if any; their places are then free again."""
        start, under_way = self.first % self.size, self.end - self.first
        stretch = self.done[start : start + under_way]  # up to the end of the arrays; the rest comes next time
        n = int(stretch.argmin()) if not stretch.all() else len(stretch)
        if not n:
            return None
        part = slice(start, start + n)
        failed = [row for row in self.errors if row < self.first + n] if self.errors else []
        found = Answers(
            self.prediction[part].copy(),
            self.confidence[part].copy(),
            self.stage[part].copy(),
            {row: self.errors.pop(row) for row in failed},
        )
        self.prediction[part], self.confidence[part], self.stage[part] = self.missing, np.nan, -1
        self.done[part] = False
        self.first += n
        return found


@dataclass(frozen=True)
class Answer:
    """The answer to one input.

    prediction  in the task's form, such as a class index; None with an error
    name        the class's name, if the stage knows it
    confidence  the exit score of the stage that answered (a probability for max_prob)
    stage       index of the stage that answered, 0 the saver
    """

    input: str
    prediction: Any
    name: str | None
    confidence: float | None
    stage: int | None
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """One entry of ``pilotfish predict --json``."""
        return dict(vars(self))


def answer_at(name: str, i: int, row: int, found: Answers, artefact: Artefact) -> Answer:
    """The answer at index *i* of *found*, for sample *row*."""
    error = found.errors.get(row)
    return answer_of(name, found.prediction[i], found.confidence[i], int(found.stage[i]), error, artefact)


def answer_of(
    name: str, prediction: Any, confidence: float, stage: int, error: str | None, artefact: Artefact
) -> Answer:
    """What *stage* answered for one input, as its user sees it; only the error, if there is one."""
    if error is not None:
        return Answer(name, None, None, None, None, error)
    said, called = artefact.task.says(prediction, artefact.stages[stage].class_names)
    return Answer(input=name, prediction=said, name=called, confidence=float(confidence), stage=stage, error=None)


@dataclass(frozen=True)
class Share:
    """What one stage answered. share: of the inputs that have an answer; confidence: the mean, None without answers."""

    stage: int
    name: str
    n: int
    share: float
    confidence: float | None


@dataclass(frozen=True)
class Summary:
    """Which stages answered *n* inputs: one :class:`Share` per stage, and the number of errors."""

    n: int
    errors: int
    stages: tuple[Share, ...]

    def to_json(self) -> dict[str, Any]:
        """``summary`` of ``pilotfish predict --summary --json``."""
        return {"n": self.n, "errors": self.errors, "stages": [dataclasses.asdict(stage) for stage in self.stages]}


def summarise(answers: Sequence[Answer], artefact: Artefact) -> Summary:
    """How many of *answers* each stage gave, and its mean confidence.

        summary = summarise(answers, cascade.artefact)

    The inputs that the base answered are ``[a.input for a in answers if a.stage == len(cascade.artefact.stages) - 1]``.
    """
    stage = np.array([-1 if a.stage is None else a.stage for a in answers], np.int64)
    confidence = np.array([math.nan if a.confidence is None else a.confidence for a in answers])
    answered = int((stage >= 0).sum())
    shares = []
    for k, kept in enumerate(artefact.stages):
        own = confidence[stage == k]
        known = own[~np.isnan(own)]  # a base of another task may have no confidence
        mean = float(known.mean()) if len(known) else None
        shares.append(Share(k, kept.name, len(own), len(own) / max(1, answered), mean))
    return Summary(len(answers), len(answers) - answered, tuple(shares))
