"""Many labels per sample: a probability for each class, and a threshold from which on a class is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import AlignmentError, ModelError, RecordsError
from pilotfish.scores.outputs import F32, F64, Mask, SampleArrays
from pilotfish.tasks.chance import Verdict
from pilotfish.tasks.label_chance import judge_labels
from pilotfish.tasks.label_metrics import (
    UNFITTED,
    RankedLabels,
    average_precision_along,
    best_threshold,
    class_counts,
    class_f1,
    f1_counts,
    f1_parts,
    macro_f1,
    mean_average_precision,
    micro_f1,
    sample_f1,
)
from pilotfish.tasks.label_scores import LABEL_SCORES
from pilotfish.tasks.task import Adjustment, Column, Metric, Task, register

Truth = NDArray[np.int8]
UNKNOWN = -1


@dataclass(frozen=True)
class Labels(SampleArrays):
    """probs float32 (N, C): of each class on its own; threshold float64 (N,): a class is said where p >= threshold."""

    probs: F32
    threshold: F64


def labels_of(probs: F32) -> Labels:
    """Labels with the threshold that they have before one is fitted."""
    return Labels(probs, np.full(len(probs), UNFITTED))


def decisions(outputs: Labels) -> Mask:
    """bool (N, C): which classes are said."""
    return np.asarray(outputs.probs >= outputs.threshold[:, None])


def reduce_logits(logits: NDArray[Any]) -> Labels:
    """Logits (N, C), a sigmoid for each class, as labels."""
    with np.errstate(over="ignore"):
        return labels_of((1 / (1 + np.exp(-np.asarray(logits, np.float64)))).astype(np.float32))


def reduce_labels(raw: Any, rows: int, model: str, keep: int | str = 1) -> Labels:
    """Probabilities (rows, C) of each class on its own, as labels. ``Labels`` stay as they are."""
    if isinstance(raw, Labels):
        if len(raw) != rows:
            raise ModelError(f"{model}: expected labels of {rows} samples, found {len(raw)}")
        return raw
    p = np.asarray(raw)
    if p.ndim != 2 or len(p) != rows or not p.shape[1] or p.dtype.kind != "f":
        raise ModelError(
            f"{model}: expected floating-point probabilities of shape ({rows}, C), one for each class, for a batch of "
            f"{rows}, found {p.dtype} {p.shape}"
        )
    if bool(((p < 0) | (p > 1)).any()):
        raise ModelError(
            f"{model}: expected probabilities of labels, 0 to 1, found {float(np.nanmin(p)):.3g} to "
            f"{float(np.nanmax(p)):.3g}; if these are logits, write ?activation=none behind the model's name"
        )
    return labels_of(p.astype(np.float32))


def _fit_threshold(outputs: Labels, truth: Truth) -> Mapping[str, F64]:
    return {"threshold": np.array([best_threshold(outputs.probs, truth > 0)])}


def _check_threshold(parameters: Mapping[str, F64]) -> None:
    found = parameters.get("threshold", np.empty(0))
    if set(parameters) != {"threshold"} or found.shape != (1,) or not 0 <= round(float(found[0]), 3) <= 1:
        numbers = {name: values.tolist() for name, values in parameters.items()}
        raise ValueError(f"expected one adjustment, the decision threshold in [0, 1], found {str(numbers)[:80]}")


def _with_threshold(outputs: Labels, parameters: Mapping[str, F64]) -> Labels:
    return replace(outputs, threshold=np.full(len(outputs), parameters["threshold"][0]))


def mean_of_labels(outputs: Sequence[Labels], weights: Sequence[float], _: int) -> Labels:
    """The weighted mean of probabilities, and of thresholds. Who is not finite has no say; equal weights where those
    who have one have no weight."""
    fine = np.stack([np.isfinite(one.probs).all(axis=1) for one in outputs])
    share = fine * np.asarray(weights, np.float64)[:, None]
    share = np.where(share.sum(axis=0) > 0, share, fine)
    share = share / np.maximum(share.sum(axis=0), 1e-300)
    probs = sum(np.where(w[:, None] > 0, w[:, None] * one.probs, 0.0) for w, one in zip(share, outputs, strict=True))
    threshold = sum(w * one.threshold for w, one in zip(share, outputs, strict=True))
    known = fine.any(axis=0)
    mixed = np.where(np.expand_dims(known, 1), probs, np.nan).astype(np.float32)
    return Labels(mixed, np.where(known, threshold, UNFITTED))


def named_labels(answer: Mask, names: Sequence[str] | None) -> tuple[list[Any], str | None]:
    """(the names of the labels that are said, or their numbers; the names in one text)."""
    said = np.flatnonzero(answer).tolist()
    if not names or len(names) != len(answer):
        return said, None
    return [names[c] for c in said], "; ".join(names[c] for c in said)


def answers(outputs: Labels) -> NDArray[Any]:
    """object (N,): bool (C,) each."""
    found = np.empty(len(outputs), object)
    found[:] = list(decisions(outputs))
    return found


def check_labels(model: str, truth: Truth, outputs: Labels, n_classes: int | None) -> None:
    """RecordsError for probabilities outside [0, 1], labels other than 0 and 1, and other numbers of classes."""
    p = outputs.probs
    classes = p.shape[1]
    if n_classes is not None and classes != n_classes:
        raise RecordsError(f"{model}: probabilities of {classes} classes, and the records are of {n_classes}")
    with np.errstate(invalid="ignore"):
        wrong = ~((p >= 0) & (p <= 1)).all(axis=1)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        value = float(p[row][~((p[row] >= 0) & (p[row] <= 1))][0])
        raise RecordsError(f"{model}: a probability of row {row} is {value:.4g}; expected 0 to 1 for each class")
    labelled = truth[(truth != UNKNOWN).all(axis=1)]
    if len(labelled) and labelled.shape[1] != classes:
        raise RecordsError(f"{model}: labels of {labelled.shape[1]} classes beside probabilities of {classes}")
    bad = ~(np.isin(truth, (0, 1)).all(axis=1) | (truth == UNKNOWN).all(axis=1))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        value = truth[row][~np.isin(truth[row], (0, 1))][0]
        raise RecordsError(
            f"{model}: a label of row {row} is {value}; expected 0 or 1 for each class, or -1 for all of them where "
            "the labels are not known"
        )


def match_labels(records: Any, base: Any) -> None:
    """AlignmentError where two models have other classes, or the same in another order."""
    a, b = records.meta, base.meta
    one, other = records.outputs.probs.shape[1], base.outputs.probs.shape[1]
    if one != other:
        raise AlignmentError(f"{a.model} has {one} classes, {b.model} has {other}; a cascade needs models of one task")
    for c, (mine, theirs) in enumerate(zip(a.class_names or (), b.class_names or (), strict=False)):
        if mine != theirs:
            what = "the class order differs" if sorted(a.class_names) == sorted(b.class_names) else "the classes differ"
            raise AlignmentError(
                f"{a.model} and {b.model}: {what}: class {c} is {mine!r} in one and {theirs!r} in the other; bring the "
                "probabilities into one order and record or import again"
            )


def as_recorded(outputs: Labels, truth: Truth) -> tuple[Labels, Truth]:
    """Both, with a column of the truth for each class: data that number their labels know no more than the largest."""
    more = outputs.probs.shape[1] - truth.shape[1]
    if more <= 0:
        return outputs, truth
    unknown = (truth == UNKNOWN).all(axis=1)
    wide = np.concatenate([truth, np.zeros((len(truth), more), np.int8)], axis=1)
    wide[unknown] = UNKNOWN
    return outputs, wide


def against_constant(truth: Truth, outputs: Labels, n_classes: int | None) -> Verdict:
    """Micro F1 beside that of the best answer that is the same for all samples."""
    known = (truth != UNKNOWN).all(axis=1)
    return judge_labels(truth[known] > 0, outputs.probs[known])


LABELS = register(
    Task(
        name="labels",
        metric=Metric(
            "micro_f1",
            "micro F1",
            "ratio",
            lambda outputs, truth: f1_counts(decisions(outputs), truth > 0),
            micro_f1,
            parts=f1_parts,
        ),
        metrics=(
            Metric(
                "macro_f1",
                "macro F1",
                "ratio",
                lambda outputs, truth: class_counts(decisions(outputs), truth > 0),
                macro_f1,
            ),
            Metric("sample_f1", "sample F1"),
            Metric(
                "map",
                "mAP",
                "rank",
                lambda outputs, truth: RankedLabels(outputs.probs, truth > 0),
                mean_average_precision,
                average_precision_along,
            ),
        ),
        quality=lambda outputs, truth: sample_f1(decisions(outputs), truth > 0),
        outputs=labels_of,
        columns={"probs": Column("probs", np.float32, dims=2)},
        reduce=reduce_labels,
        reference=lambda outputs: decisions(outputs).astype(np.int8),
        missing=None,
        answer=answers,
        of_answers=lambda said: labels_of(np.array(said, np.float32)),
        no_truth=lambda n: np.full((n, 1), UNKNOWN, np.int8),
        truth_columns={"label": Column("label", np.int8, dims=2)},
        recorded=as_recorded,
        adjustment=Adjustment(_fit_threshold, _with_threshold, _check_threshold),
        scores=LABEL_SCORES,
        says=named_labels,
        by_class=("F1", lambda outputs, truth: class_f1(class_counts(decisions(outputs), truth > 0).sum(axis=0))),
        finite=lambda outputs: np.isfinite(outputs.probs).all(axis=1),
        same=lambda one, other: (decisions(one) == decisions(other)).all(axis=1),
        mix=mean_of_labels,
        check=check_labels,
        match=match_labels,
        judge=against_constant,
    )
)
