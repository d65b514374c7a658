"""One class per sample: logits, reduced to the best classes and how sure the model is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import AlignmentError, ModelError, RecordsError
from pilotfish.scores import SCORES
from pilotfish.scores.mixture import mix
from pilotfish.scores.outputs import F32, I64, TOP_K, Mask, Outputs, from_logits
from pilotfish.tasks.chance import NO_LABEL, Verdict, judge
from pilotfish.tasks.task import Column, Metric, Task, register
from pilotfish.text import examples

FULL_UP_TO = 128
ACCURACY = Metric("accuracy", "accuracy")


def right(outputs: Outputs, truth: I64) -> NDArray[np.bool_]:
    """bool (N,): whether the predicted class is the true one."""
    return np.asarray(outputs.prediction == truth)


def check_logits(logits: Any, rows: int, model: str) -> F32:
    """*logits* as float32 (rows, C); ModelError when *model* returned something else."""
    found = np.asarray(logits)
    if found.ndim != 2 or len(found) != rows or found.shape[1] < 2 or found.dtype.kind != "f":
        raise ModelError(
            f"{model}: expected floating-point logits of shape ({rows}, C) with C >= 2 for a batch of {rows}, "
            f"found {found.dtype} {found.shape}"
        )
    return found.astype(np.float32, copy=False)


def reduce_logits(raw: Any, rows: int, model: str, keep: int | str = 1) -> Outputs:
    """Logits (rows, C), checked and reduced. ``Outputs`` stay as they are: a model may say its class and a confidence
    alone.

    keep  how many of the best classes; or as ``record --store`` has it: ``full``, ``topK``, or ``auto``, which keeps
          all logits of up to 128 classes
    """
    if isinstance(raw, Outputs):
        if len(raw) != rows:
            raise ModelError(f"{model}: expected answers to {rows} samples, found {len(raw)}")
        return raw
    logits = check_logits(raw, rows, model)
    if isinstance(keep, int):
        return from_logits(logits, top_k=keep)
    classes = logits.shape[1]
    if keep in ("auto", "full"):
        return from_logits(logits, min(TOP_K, classes), keep == "full" or classes <= FULL_UP_TO)
    return from_logits(logits, top_k=min(int(keep.removeprefix("top")), classes))


def outputs_of(**arrays: Any) -> Outputs:
    """Outputs of arrays that were read; log-odds from the top logit and the log-sum-exp where they were not written, as
    by other programs."""
    outputs = Outputs(**arrays)
    if outputs.log_odds is not None or outputs.top_logits is None or outputs.log_sum_exp is None:
        return outputs
    if outputs.top_logits.ndim != 2 or 0 in outputs.top_logits.shape or outputs.log_sum_exp.ndim != 1:
        return outputs  # the check of all records says what is wrong
    gap = np.minimum(outputs.top_logits[:, 0].astype(np.float64) - outputs.log_sum_exp, -1e-300)  # log p1 < 0
    return dataclasses.replace(outputs, log_odds=gap - np.log(-np.expm1(gap)))


def finite(outputs: Outputs) -> Mask:
    """bool (N,): where the log-odds, or else the confidence, are a number; everywhere, where classes alone were
    recorded."""
    sure = outputs.confidence if outputs.log_odds is None else outputs.log_odds
    return np.ones(len(outputs), bool) if sure is None else ~np.isnan(sure)


def named(value: Any, names: Sequence[str] | None) -> tuple[int, str | None]:
    """(the class, its name where *names* has one)."""
    at = int(value)
    return at, names[at] if names and 0 <= at < len(names) else None


def check_classes(model: str, label: I64, outputs: Outputs, n_classes: int | None) -> None:
    """RecordsError, which names a row, for a label or a predicted class that there cannot be."""
    for what, values, lowest in (("label", label, NO_LABEL), ("prediction", outputs.prediction, 0)):
        _check_range(model, what, values, lowest, n_classes)
    if outputs.top_classes is not None:
        for values in (outputs.top_classes.min(axis=1), outputs.top_classes.max(axis=1)):
            _check_range(model, "top class", values, 0, n_classes)


def _check_range(model: str, what: str, values: NDArray[np.integer], lowest: int, n_classes: int | None) -> None:
    if (values < lowest).any():
        row = int(np.flatnonzero(values < lowest)[0])
        raise RecordsError(f"{model}: the {what} of row {row} is {values[row]}; classes are numbered from 0")
    if n_classes is not None and (values >= n_classes).any():
        row = int(np.flatnonzero(values >= n_classes)[0])
        known = values[values >= 0]
        from_one = known.min() > 0 and known.max() == n_classes
        raise RecordsError(
            f"{model}: the {what} of row {row} is {values[row]}, but the model has {n_classes} classes "
            f"(0 to {n_classes - 1}); "
            + ("are they numbered from 1?" if from_one else "are the labels in the model's class order?")
        )


def match_classes(records: Any, base: Any) -> None:
    """AlignmentError where the records of two models are of other classes, or of the same in another order.

    Records of predicted classes alone, with their names, know the classes that occur: they may have fewer, where these
    are the first of the other's.
    """
    a, b = records.meta, base.meta
    if a.n_classes is not None and b.n_classes is not None and a.n_classes != b.n_classes:
        if _begins(records, base) or _begins(base, records):
            return
        few, many = sorted((a, b), key=lambda meta: int(meta.n_classes or 0))
        more = [name for name in many.class_names or () if name not in (few.class_names or ())]
        culprit = f" ({examples([*map(repr, more)])} of {many.model} is none of {few.model})" if few.class_names else ""
        counts = f"{a.model} has {a.n_classes} classes, {b.model} has {b.n_classes}{culprit if more else ''}"
        raise AlignmentError(f"{counts}; a cascade needs models of one task")
    mine, theirs = _indices(a.class_names or ()), _indices(b.class_names or ())
    for name in mine.keys() & theirs.keys():
        if mine[name].isdisjoint(theirs[name]):  # ImageNet uses 'crane' twice: sets of indices
            raise AlignmentError(
                f"the class order of {a.model} and {b.model} differs: {name!r} is class {min(mine[name])} in one "
                f"and {min(theirs[name])} in the other; bring the outputs into one order and record again, or import "
                "names alone again: they are numbered as the run's"
            )
    for one, other in ((records, base), (base, records)):
        classes, largest = one.meta.n_classes, int(other.outputs.prediction.max())
        if classes is not None and largest >= classes:
            raise AlignmentError(
                f"{other.meta.model} predicts class {largest}, and {one.meta.model} has {classes} classes "
                f"(0 to {classes - 1}); a cascade needs models of one task"
            )


def _begins(few: Any, many: Any) -> bool:
    """Whether *few* are records of predicted classes alone, and their names are the first of those of *many*."""
    own, others = few.meta.class_names or (), many.meta.class_names or ()
    return few.outputs.top_classes is None and bool(own) and own == others[: len(own)]


def _indices(names: Sequence[str]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for index, name in enumerate(names):
        found.setdefault(name, set()).add(index)
    return found


def against_chance(label: I64, outputs: Outputs, n_classes: int | None) -> Verdict:
    """The accuracy beside that of chance."""
    return judge(label, outputs.prediction, n_classes)


CLASSES = register(
    Task(
        name="classes",
        metric=ACCURACY,
        quality=right,
        outputs=outputs_of,
        columns={
            "prediction": Column("prediction", np.int64),
            "log_odds": Column("log_odds", np.float64, optional=True),
            "log_sum_exp": Column("log_sum_exp", np.float64, optional=True),
            "top_classes": Column("top_class", np.int32, dims=2, optional=True),
            "top_logits": Column("top_logit", np.float32, dims=2, optional=True),
            "confidence": Column("confidence", np.float64, optional=True),
            "logits": Column("logits", np.float32, dims=2, optional=True, planning=False),
        },
        reduce=reduce_logits,
        reference=lambda outputs: np.asarray(outputs.prediction),
        missing=np.int64(NO_LABEL),
        answer=lambda outputs: np.asarray(outputs.prediction),
        scores=SCORES,
        says=named,
        finite=finite,
        classes=True,
        same=lambda one, other: np.asarray(one.prediction == other.prediction),
        mix=lambda outputs, weights, top_k: mix([one.best(top_k) for one in outputs], weights),
        check=check_classes,
        match=match_classes,
        judge=against_chance,
    )
)
