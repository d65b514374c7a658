"""Which output of a model is meant and what it has been through, seen on some samples before a recording begins."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Dataset
from pilotfish.errors import ModelError
from pilotfish.models.backends.python_backend import PythonBackend
from pilotfish.models.model import F32, Model
from pilotfish.models.outputs.activation import ACTIVATIONS, contradicting, recognised
from pilotfish.models.outputs.reading import Reading
from pilotfish.models.outputs.settle_function import Settled, settle_function
from pilotfish.models.outputs.which_output import WHOLE, Output, choose, named, output_of, place
from pilotfish.models.preprocessing import draw_rows, sample_inputs
from pilotfish.text import examples, quantity

SCREENED = 4  # samples that show that logits are logits
ENOUGH = 32  # samples that show that they are not
LOOKED_AT = 256  # at most, where some cannot be read


def settle(model: Model, reading: Reading, data: Dataset) -> tuple[Model, Reading]:
    """*model* with notes that say how it is read, and the reading.

    What the name states stays. Else the output that fits the classes is taken, and the activation is the last step of
    the graph or the module where that can be seen; else what all of 32 samples of *data*, drawn at random, agree with.

    ModelError where several outputs may be meant, where none is an answer, or where the samples contradict the name.
    """
    looked = _Looked(model, data)
    if isinstance(model.backend, PythonBackend) and (own := settle_function(model, reading, data)) is not None:
        if own.reading is not None:
            return own.model, own.reading
        model, looked = own.model, _Looked(own.model, data, own)
    outputs = looked.at(SCREENED)
    if not looked.rows:
        return model, reading  # no sample can be read or run: the recording says why
    text, rows = model.spec, len(looked.rows)
    if reading.output is not None:
        at = place(outputs, reading.output, rows, text)
    else:
        chosen = choose(outputs, rows, _classes(model, data), text)
        at = next(i for i, one in enumerate(outputs) if one is chosen)
    notes = list(_choice(outputs, at)) if reading.output is None else []
    kind, said = (reading.activation, "") if reading.activation is not None else _kind(looked, at, text)
    notes += [said] if said else []
    if any(o.values.dtype.kind in "iub" and o.values.ndim == 1 for o in looked.outputs):
        looked.at(ENOUGH)  # class numbers, which the scores are held against
    one = looked.outputs[at]
    _refuse_best_only(looked.outputs, one, text)
    _refuse_other_count(model, one, text)
    if one.matrix.shape[1] == 1:
        _refuse_other_columns(looked, at, kind, _classes(model, data), text)
    notes += _other_orders(looked.outputs, one)
    if kind in ("softmax", "log_softmax") and one.matrix.shape[1] == 1:
        raise ModelError(
            f"{text}: {kind} over one column says the same of every sample; write ?activation=sigmoid or none"
        )
    if reading.activation is not None:
        _refuse_contradictions(looked, at, reading.activation, text)
    found = Reading(
        reading.output or (None if one.name == WHOLE or (at == 0 and _takes_first(model)) else one.name),
        reading.activation or (kind if kind in ("softmax", "sigmoid") else "none" if one.is_irregular else None),
    )
    if isinstance(model.backend, PythonBackend) and not model.backend.takes_batch:
        found = dataclasses.replace(found, activation=found.activation or "none", takes=model.backend.takes)
    if found.is_plain:
        return dataclasses.replace(model, notes=(*model.notes, *notes)), found
    classes = max(2, one.matrix.shape[1])
    read = dataclasses.replace(
        model,
        n_classes=classes,
        class_names=_of_length(model.class_names, classes) or one.class_names,
        class_ids=_of_length(model.class_ids, classes),
        notes=(*model.notes, *notes),
    )
    return read, found


def _of_length(names: tuple[str, ...] | None, n: int) -> tuple[str, ...] | None:
    return names if names is not None and len(names) == n else None


class _Looked:
    """Samples drawn at random over the data, one after the other, and all that the model returns for them.

    own  what a callable returned for the only samples that it is asked for
    """

    def __init__(self, model: Model, data: Dataset, own: Settled | None = None) -> None:
        self.model, self.data = model, data
        rows = draw_rows(len(data), LOOKED_AT).tolist() if own is None else []
        self.left = sample_inputs(data, model.preprocessing, rows)
        self.rows: list[int] = [] if own is None else own.rows
        self.outputs: list[Output] = [] if own is None else own.outputs

    def at(self, n: int) -> list[Output]:
        """The outputs for *n* samples, or for as many as there are."""
        taken = list(itertools.islice(self.left, max(0, n - len(self.rows))))
        alike = len({x.shape for _, x in taken}) == 1
        for rows, batch in [_stacked(taken)] if alike else [_stacked([pair]) for pair in taken]:
            self._run(rows, batch)
        return self.outputs

    def _run(self, rows: list[int], batch: F32) -> None:
        try:
            outputs = _outputs(self.model, batch)
        except ModelError:  # a sample that breaks the model, or too many at once
            if len(rows) > 1:
                for i, row in enumerate(rows):
                    self._run([row], batch[i : i + 1])
            return
        same = [a.name for a in self.outputs] == [b.name for b in outputs]
        joined = [a.joined(b) for a, b in zip(self.outputs, outputs, strict=True)] if same else outputs
        self.rows = [*self.rows, *rows] if same else rows
        self.outputs = joined


def _stacked(pairs: Sequence[tuple[int, F32]]) -> tuple[list[int], F32]:
    return [row for row, _ in pairs], np.stack([x for _, x in pairs])


def _outputs(model: Model, batch: F32) -> list[Output]:
    own = getattr(model.backend, "outputs", None)
    if own is not None:
        found: list[Output] = own(batch)
        return found
    return [output_of(name, value) for name, value in named(model.run(batch), len(batch))]


def _takes_first(model: Model) -> bool:
    from pilotfish.models.backends.onnx_backend import OnnxBackend

    return isinstance(model.backend, OnnxBackend)


def _classes(model: Model, data: Dataset) -> int | None:
    for names in (model.class_names, data.class_names):
        if names:
            return len(names)
    if (model.n_classes or 0) > 1 or data.labels is None or not len(data.labels):
        return model.n_classes
    return int(np.max(data.labels)) + 1


def _choice(outputs: Sequence[Output], at: int) -> Iterator[str]:
    if len(outputs) > 1:
        others = ", ".join(str(o) for i, o in enumerate(outputs) if i != at)
        yield f"of several outputs {outputs[at]} is taken as the answer, not {others}; ?output=NAME takes another"


def _kind(looked: _Looked, at: int, text: str) -> tuple[str, str]:
    """(activation, the note on it) where the name states none."""
    one = looked.outputs[at]
    of = f" {one.name!r}" if one.name else ""
    settles = "?activation=none takes its numbers as logits"
    if one.ending is not None:
        return one.ending, f"the output{of} ends in a {_WORDS[one.ending]}: {_MEANING[one.ending]}; {settles}"
    kind, n, few = "none", len(looked.rows), ""
    if _may_be_more(one):
        one = looked.at(ENOUGH)[at]
        n, kind = len(looked.rows), recognised(one.matrix[_finite(one)], one.tolerance)
        few = "" if n >= ENOUGH else f", which are few: state ?activation={kind} if that is right"
    if one.matrix.shape[1] == 1 and not (one.matrix % 1).any():
        raise ModelError(
            f"{text}: the output{of} is one column of whole numbers on {quantity(n, 'sample')}: "
            "class numbers, no scores; expected "
            "logits or probabilities (N, C): use `pilotfish import` for its predictions, or state ?activation=none"
        )
    if kind != "none":
        seen = f"the output{of} looks like that of a {_WORDS[kind]} on {quantity(n, 'sample')}{few}"
        ones = 0 if kind == "log_softmax" else int((one.matrix.max(axis=1) == 1).sum())
        lost = f"; {ones} say exactly 1, where order is lost: return logits if you can" if ones else ""
        return kind, f"{seen}: {_SEEN[kind]}{lost}; {settles}"
    if _may_be_more(one):
        return kind, f"the output{of} is the same for all {n} samples looked at; it is taken as logits"
    if (total := _common_total(one)) is not None and (total := _common_total(looked.at(ENOUGH)[at])) is not None:
        return kind, (
            f"the rows of the output{of} all sum to {total:g}, as percentages or votes do, and are taken as logits: "
            f"divide them by {total:g}, or state ?activation=none if that is right"
        )
    if one.matrix.shape[1] == 1:
        return (
            kind,
            f"the output{of} is one column: a logit, that of class 1 of two; state ?activation=none if that is right",
        )
    return kind, ""


_WORDS = {"softmax": "softmax", "log_softmax": "log-softmax", "sigmoid": "sigmoid"}
_MEANING = {
    "softmax": "the numbers before it are read as logits",
    "log_softmax": "its values serve as logits",
    "sigmoid": "read before it, as one class against the rest (one column: class 1 of two)",
}
_SEEN = {
    "softmax": "rows of probabilities, of which the logarithm is read",
    "log_softmax": "its values serve as logits",
    "sigmoid": "probabilities of one class against the rest (one column: of class 1 of two)",
}


def _refuse_other_columns(looked: _Looked, at: int, kind: str, classes: int | None, text: str) -> None:
    """A column beside more than two classes, or beside class numbers that are not its own, is a confidence."""
    one = looked.outputs[at]
    of = f" {one.name!r}" if one.name else ""
    if classes is not None and classes > 2:
        raise ModelError(
            f"{text}: the output{of} is one column for {classes} classes; expected logits or probabilities "
            f"(N, {classes}): return them, or write predictions and confidences to a file and use `pilotfish import`"
        )
    said = one.matrix[:, 0] > (0.5 if kind == "sigmoid" else 0)
    for other in looked.outputs:
        if other.values.dtype.kind in "iub" and other.values.shape == said.shape and (other.values != said).any():
            raise ModelError(
                f"{text}: the output{of} is one column and not that of class 1: {other.name!r} holds other class "
                "numbers; return logits or probabilities (N, 2), or use `pilotfish import` for its predictions"
            )


def _refuse_other_count(model: Model, one: Output, text: str) -> None:
    """A callable that declares its classes returns a column for each."""
    columns, names = one.matrix.shape[1], model.class_names
    if isinstance(model.backend, PythonBackend) and names and columns not in (len(names), 1):
        raise ModelError(
            f"{text}: returns {quantity(columns, 'column')} and declares {quantity(len(names), 'class', 'classes')} "
            f"({examples(names)}); declare as many"
        )


def _refuse_best_only(outputs: Sequence[Output], one: Output, text: str) -> None:
    """Scores that fall in every row, beside class numbers of the same shape: the best few, and no column is a class."""
    values = one.matrix
    if values.shape[1] < 2 or not (np.diff(values) <= 0).all():
        return
    for other in outputs:
        alike = other.values.dtype.kind in "iu" and other.matrix.shape == values.shape
        if alike and (np.diff(np.sort(other.matrix, axis=1)) > 0).all():
            raise ModelError(
                f"{text}: the output {one.name!r} holds sorted scores, whose classes {other.name!r} names; expected "
                "logits or probabilities (N, C) in the order of the classes: return them before they are sorted"
            )


def _other_orders(outputs: Sequence[Output], one: Output) -> Iterator[str]:
    """A note where the model's own class numbers are not those of its largest columns."""
    largest, columns = one.matrix.argmax(axis=1), one.matrix.shape[1]
    for other in outputs if columns > 1 else ():
        if other.values.dtype.kind in "iu" and other.values.shape == largest.shape:
            differ = int((other.values != largest).sum())
            said = f"its class numbers {other.name!r} are not the largest columns of {one.name!r} in {differ} of "
            order = (
                f"{quantity(len(largest), 'sample')}: the columns may stand for other classes than 0 to {columns - 1}"
            )
            yield from (said + order,) if differ else ()


def _common_total(one: Output) -> float | None:
    """What all rows sum to, of numbers that are not negative; None where they do not agree."""
    rows = one.matrix[_finite(one)].astype(np.float64)
    if len(rows) < 2 or rows.shape[1] < 2 or (rows < 0).any() or not np.ptp(rows, axis=0).any():
        return None
    totals = rows.sum(axis=1)
    middle = float(np.median(totals))
    agree = middle > 0 and bool((np.abs(totals - middle) <= one.tolerance * middle).all())
    return float(f"{middle:.3g}") if agree else None


def _finite(one: Output) -> NDArray[np.bool_]:
    return np.asarray(~(np.isnan(one.matrix) | np.isposinf(one.matrix)).any(axis=1))


def _may_be_more(one: Output) -> bool:
    """Whether the rows so far agree with some activation."""
    rows = one.matrix[_finite(one)]
    kinds = ACTIVATIONS[1:] if rows.shape[1] > 1 else ("sigmoid",)
    return any(not contradicting(rows, kind, one.tolerance).any() for kind in kinds)


def _refuse_contradictions(looked: _Looked, at: int, activation: str, text: str) -> None:
    one = looked.at(ENOUGH)[at]
    if activation != "none" and one.ending not in (None, activation):
        raise ModelError(
            f"{text}: activation={activation} is stated, but the output ends in a {_WORDS[one.ending]}; leave "
            f"activation out, or write activation={one.ending}"
        )
    wrong = np.flatnonzero(contradicting(one.matrix, activation, one.tolerance) & _finite(one))
    if len(wrong):
        row = int(wrong[0])
        values = one.matrix[row].astype(np.float64)
        raise ModelError(
            f"{text}: activation={activation} is stated, but sample {looked.data.ids[looked.rows[row]]} has values "
            f"from {values.min():.4g} to {values.max():.4g} that sum to {values.sum():.4g}; state what the model "
            f"returns ({', '.join(ACTIVATIONS)})"
        )
