"""A task of lists, as a user would write it: the stretches of a text that a model marks.

The truth is lists as well, and an answer an object. Its metrics are a ratio of sums (F1 over all stretches, by where
they begin) and a mean (F1 per sample); what is fitted is the least confidence of a stretch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores import ScoreKind
from pilotfish.scores.outputs import SampleArrays
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks import Adjustment, Column, Metric, Task, register

F64 = NDArray[np.float64]
FAR = 1000  # more than the places of a text


@dataclass(frozen=True)
class Spans(SampleArrays):
    """start int64 and sure float64, a list per sample; ends: int64 (m, 2) lists of the stretches."""

    start: Ragged
    sure: Ragged
    ends: Ragged


@dataclass(frozen=True)
class TrueSpans(SampleArrays):
    """start int64, a list per sample; known bool (N,)."""

    start: Ragged
    known: NDArray[np.bool_]


def hits(outputs: Spans, truth: TrueSpans) -> F64:
    """float64 (N, 3): stretches found, marked, there."""
    marked = outputs.start.owner * FAR + outputs.start.values
    there = truth.start.owner * FAR + truth.start.values
    found = np.bincount(outputs.start.owner[np.isin(marked, there)], minlength=len(outputs))
    return np.stack([found, outputs.start.counts, truth.start.counts], axis=1).astype(np.float64)


def f1(counts: F64) -> F64:
    """2 x found / (marked + there), 1 where there is nothing of either."""
    total = counts[..., 1] + counts[..., 2]
    return np.where(total > 0, 2 * counts[..., 0] / np.maximum(total, 1), 1.0)


def least(outputs: Spans, parameters: Mapping[str, F64]) -> Spans:
    """The stretches that are at least so sure."""
    kept = outputs.sure.values >= parameters["least"][0]
    counts = np.bincount(outputs.sure.owner[kept], minlength=len(outputs))
    return Spans(*(Ragged.by_counts(part.values[kept], counts) for part in vars(outputs).values()))


def fit_least(outputs: Spans, truth: TrueSpans) -> dict[str, F64]:
    """The confidence at which F1 is best."""
    grid = np.linspace(0, 1, 21)
    found = [f1(hits(least(outputs, {"least": np.array([t])}), truth).sum(axis=0)) for t in grid]
    return {"least": grid[[int(np.argmax(found))]]}


def reduce(raw: Any, rows: int, model: str, keep: int | str) -> Spans:
    """A list of (start, sure) pairs per sample."""
    assert len(raw) == rows, model
    starts = Ragged.of([np.array([int(start) for start, _ in one], np.int64) for one in raw], np.int64)
    sure = Ragged.of([np.array([sure for _, sure in one], np.float64) for one in raw])
    return Spans(starts, sure, Ragged(np.stack([starts.values, starts.values + 5], axis=1), starts.offsets))


def said(outputs: Spans) -> NDArray[Any]:
    """The starts, an array per sample."""
    found = np.empty(len(outputs), object)
    for i in range(len(outputs)):
        found[i] = outputs.start.values[outputs.start.offsets[i] : outputs.start.offsets[i + 1]]
    return found


def confidence(outputs: Spans, _: Any) -> F64:
    """The mean confidence of the stretches; 0 of none."""
    sums = np.bincount(outputs.sure.owner, weights=outputs.sure.values, minlength=len(outputs))
    return sums / np.maximum(outputs.sure.counts, 1)


SPANS = register(
    Task(
        name="spans",
        metric=Metric("span_f1", "span F1", "ratio", hits, f1),
        metrics=(Metric("text_f1", "text F1", quality=lambda outputs, truth: f1(hits(outputs, truth))),),
        quality=lambda outputs, truth: f1(hits(outputs, truth)),
        outputs=Spans,
        columns={
            "start": Column("start", np.int64, ragged=True),
            "sure": Column("sure", np.float64, ragged=True),
            "ends": Column("ends", np.int64, dims=2, ragged=True),
        },
        reduce=reduce,
        reference=lambda outputs: TrueSpans(outputs.start, np.ones(len(outputs), bool)),
        missing=None,
        no_truth=lambda n: TrueSpans(Ragged.of([np.empty(0)] * n, np.int64), np.zeros(n, bool)),
        truth_columns={
            "start": Column("true_start", np.int64, ragged=True),
            "known": Column("true_known", np.bool_),
        },
        truth_of=TrueSpans,
        answer=said,
        says=lambda starts, names: (starts.tolist(), None),
        scores={"sure": ScoreKind("sure", confidence)},
        adjustment=Adjustment(fit_least, least),
    )
)


def texts(n: int, seed: int = 0) -> tuple[NDArray[np.float32], TrueSpans]:
    """Inputs (n, 2), a number and how hard it is, and the starts that are in them: several, or none."""
    rng = np.random.default_rng(seed)
    inputs = np.stack([rng.integers(0, 900, n), rng.beta(0.5, 1.5, n)], axis=1).astype(np.float32)
    return inputs, TrueSpans(Ragged.of([_starts(one) for one in inputs], np.int64), np.ones(n, bool))


def _starts(one: NDArray[np.float32]) -> NDArray[np.int64]:
    return int(one[0]) + 7 * np.arange(int(one[0]) % 4, dtype=np.int64)


def _marked(one: NDArray[np.float32], skill: float) -> list[tuple[int, float]]:
    rng = np.random.default_rng([int(one[0]), int(1000 * skill)])
    found = [(int(start), 0.5 + 0.5 * float(rng.random())) for start in _starts(one) if rng.random() > one[1] * skill]
    return [*found, *((int(one[0]) + 3, float(rng.random() * 0.6)) for _ in range(int(rng.random() < one[1] * skill)))]


def quick(batch: NDArray[np.float32]) -> list[list[tuple[int, float]]]:
    """The saver: it misses some, and marks some that are none, the more the harder."""
    return [_marked(one, 0.9) for one in batch]


def careful(batch: NDArray[np.float32]) -> list[list[tuple[int, float]]]:
    """The base."""
    return [_marked(one, 0.2) for one in batch]
