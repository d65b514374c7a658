"""What a callable takes and how it answers, found on a few real samples before a recording begins.

A call may cost money: what is declared is not tried, and all trials together are calls for at most eight samples.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.data import Dataset
from pilotfish.errors import ModelError, reason
from pilotfish.models.backends.python_backend import BATCH, MANY, TAKES, PythonBackend, outputs_in
from pilotfish.models.model import Model
from pilotfish.models.names.stated import options_in
from pilotfish.models.outputs.activation import BEST
from pilotfish.models.outputs.classes_said import activation_of, places_of
from pilotfish.models.outputs.reading import Reading
from pilotfish.models.outputs.said import Said, as_matrix, said_by
from pilotfish.models.outputs.which_output import Output
from pilotfish.models.preprocessing import WHOLE, Preprocessing, draw_rows, sample_inputs, stacked
from pilotfish.text import one_line

MOST = 8  # samples, over all calls
LOOKED_AT = 4
READ = 64  # samples that are read for it, at most, where some cannot be
ONLY_BEST = (
    "it answers with a class and a confidence, kept as they are: score max_prob alone can be had of them; return the "
    "probabilities of all classes for the others"
)
EVALUATE = "is it in evaluation mode, and free of random numbers?"
CLOSE = 1e-2  # of 1 + |number|: how far an answer may move when it is asked for again


@dataclass(frozen=True)
class Settled:
    """A callable whose form is known.

    reading  how its answers are read; None where that is still to be seen on *outputs*
    rows     numbers of the samples that it was tried on; outputs: what it returned for them
    """

    model: Model
    reading: Reading | None
    rows: list[int]
    outputs: list[Output]


@dataclass(frozen=True)
class _First:
    """The form that a callable takes, and what it returned for the first sample."""

    takes: str
    inputs: list[Any]
    rows: list[int]
    answer: Any
    calls: int
    notes: tuple[str, ...]


def settle_function(model: Model, reading: Reading, data: Dataset) -> Settled | None:
    """What the callable of *model* takes and answers with. None where it takes a batch and returns arrays: then it is
    read as any other model, and so is one whose samples cannot be read or run, for which the recording says why.

    ModelError where no form fits, with what was tried, and where its answers cannot be read.
    """
    backend: Any = model.backend
    first = _first(model, backend, data)
    if first is None and backend.takes_batch:
        return None
    if first is None:
        return Settled(model, dataclasses.replace(reading, takes=backend.takes), [], [])
    said = said_by(first.answer, 1)
    if first.takes == BATCH and (said is None or reading.output is not None):
        return None
    takes = first.takes if first.takes != BATCH or backend.takes else None
    backend = backend.changed(takes=takes)
    model = dataclasses.replace(
        model,
        backend=backend,
        preprocessing=_chain(first.takes, model),
        notes=(*model.notes, *first.notes),
    )
    rows, found = _more(backend, first)
    batch = stacked([first.inputs[first.rows.index(row)] for row in rows])
    said = said_by(found, len(rows))
    if said is not None and not _is_column(said, model, data):
        model, reading = _in_words(model, said, reading, data)
        model = dataclasses.replace(model, notes=(*model.notes, *_moved(said, said_by(first.answer, 1))))
        return Settled(model, dataclasses.replace(reading, takes=takes), rows, [])
    if takes is None:
        return None
    outputs = outputs_in(found, len(rows), model.spec, batch)
    if not any(len(one.values) == len(rows) for one in outputs):
        raise ModelError(f"{model.spec} {_count(found, len(rows), takes)}")
    return Settled(model, None, rows, outputs)


def _first(model: Model, backend: PythonBackend, data: Dataset) -> _First | None:
    """The form that the callable declares, or the first in which it answers a real sample."""
    if backend.takes is not None:
        return _declared(model, backend, data)
    failed: dict[str, ModelError] = {}
    calls, read = 0, list[str]()
    for form in (forms := _forms(model, data)):
        inputs = _inputs(model, data, form)
        if not inputs:
            continue  # there are no such samples
        calls += 1
        rows, held = [row for row, _ in inputs], [one for _, one in inputs]
        try:
            answer = backend.changed(takes=form).answers(held[0][None])
        except ModelError as error:
            failed[form] = error
            continue
        if _fits(answer, model, held[0][None]) or (form == BATCH == forms[0] and _says_numbers(answer)):
            return _First(form, held, rows, answer, calls, _found(form, failed, data))
        failed[form] = ModelError(_unreadable(model, form, answer))
        read.append(form)
    if len(failed) < 2 or _runs_on_others(model, backend, data, MOST - calls):
        return None
    raise failed[read[0]] if read else ModelError(_no_form(failed))


def _declared(model: Model, backend: PythonBackend, data: Dataset) -> _First | None:
    """The first sample that it answers; None where it answers none of four."""
    form = str(backend.takes)
    inputs = _inputs(model, data, form)
    for k, (_, one) in enumerate(inputs):
        try:
            answer = backend.answers(one[None])
        except ModelError:
            continue
        if form != BATCH and not _fits(answer, model, one[None]):
            raise ModelError(_unreadable(model, form, answer))
        rest = inputs[k:]
        return _First(form, [one for _, one in rest], [row for row, _ in rest], answer, k + 1, ())
    return None


def _forms(model: Model, data: Dataset) -> Sequence[str]:
    """The forms to try, in order: a batch first, unless samples have several shapes and so make none."""
    if _is_stated(model):
        return (BATCH, "arrays", "array")
    shapes = {one.shape for _, one in _inputs(model, data, BATCH)}
    return tuple(TAKES) if len(shapes) < 2 else (*list(TAKES)[1:], BATCH)


def _is_stated(model: Model) -> bool:
    """Whether anybody said how samples become arrays."""
    return model.preprocessing.kind == "image" or "layout" in options_in(model.spec)


def _chain(takes: str, model: Model) -> Preprocessing:
    kind = takes if takes in MANY else f"{takes}s"
    if takes == BATCH or (kind == "arrays" and _is_stated(model)) or model.preprocessing.kind in WHOLE:
        return model.preprocessing
    return WHOLE[kind]


def _inputs(model: Model, data: Dataset, takes: str) -> list[tuple[int, Any]]:
    """Up to four samples (row, input), drawn at random."""
    rows = draw_rows(len(data), READ).tolist()
    return list(itertools.islice(sample_inputs(data, _chain(takes, model), rows), LOOKED_AT))


def _fits(answer: Any, model: Model, batch: Any) -> bool:
    """Whether *answer* is one to one sample."""
    if said_by(answer, 1) is not None:
        return True
    try:
        outputs = outputs_in(answer, 1, model.spec, batch)
    except ModelError:
        return False
    return any(one.classes and len(one.values) == 1 for one in outputs)


def _unreadable(model: Model, form: str, answer: Any) -> str:
    shape = getattr(answer, "shape", None)
    shown = one_line(" ".join(repr(answer).split()))[:120] if shape is None else f"{answer.dtype} {tuple(shape)}"
    advice = ": write its predictions to a file and use `pilotfish import`" if _says_numbers(answer) else ""
    return (
        f"{model.spec}, given one sample as {TAKES[form]}, returns {shown}; expected for each sample scores of all "
        f"classes, in order or by name, or its class with a confidence{advice}"
    )


def _says_numbers(answer: Any) -> bool:
    """Whether it answered one sample with a class alone: other forms would give no more."""
    return getattr(answer, "shape", None) in ((1,), (1, 1)) or (
        isinstance(answer, list) and len(answer) == 1 and isinstance(answer[0], int | str)
    )


def _runs_on_others(model: Model, backend: PythonBackend, data: Dataset, most: int) -> bool:
    """Whether it takes a batch after all, and the first sample alone broke it."""
    for _, one in _inputs(model, data, BATCH)[1 : 1 + most]:
        try:
            answer = backend.answers(one[None])
        except ModelError:
            continue
        return _fits(answer, model, one[None]) or _says_numbers(answer)
    return False


def _found(form: str, failed: dict[str, ModelError], data: Dataset) -> tuple[str, ...]:
    """The note on a form that was tried and not declared."""
    if form == BATCH:
        return ()
    before = "; ".join(f"not {TAKES[other]}" for other in failed)
    shown = f"it takes {TAKES[form]}, as a sample of {data.spec} shows{f' ({before})' if before else ''}"
    return (f"{shown}: state it with takes = {form!r} on the function, or ?takes={form}",)


def _no_form(failed: dict[str, ModelError]) -> str:
    first, *others = failed
    said = str(failed[first])
    why = [f"{TAKES[form]}: {_cause(failed[form])}" for form in others if _cause(failed[form]) not in said]
    tried = f"; nor does it take {'; '.join(why)}" if why else f"; {len(failed)} forms of input were tried, all alike"
    return f"{said}{tried}; state what it takes, as in takes = 'images' on the function"


def _cause(error: ModelError) -> str:
    cause = error.__cause__
    return reason(error, 100) if cause is None else f"{type(cause).__name__}: {reason(cause, 80)}"


def _more(backend: PythonBackend, first: _First) -> tuple[list[int], Any]:
    """(rows, answers): the first samples at once, those that share its shape; the first alone where that fails."""
    alike = [i for i, one in enumerate(first.inputs) if one.shape == first.inputs[0].shape]
    some = alike[: max(1, min(LOOKED_AT, MOST - first.calls))]
    if len(some) > 1:
        try:
            return [first.rows[i] for i in some], backend.answers(stacked([first.inputs[i] for i in some]))
        except ModelError:  # a sample that breaks it: the recording finds out which
            pass
    return first.rows[:1], first.answer


def _is_column(said: Said, model: Model, data: Dataset) -> bool:
    """Whether class numbers and one number beside them are those of two classes: then the number is that of class 1."""
    classes = model.n_classes or len(model.class_names or data.class_names or ())
    if not said.pair or classes not in (0, 2) or not all(isinstance(name, int) for name in said.named):
        return False
    values = np.array([numbers[0] for numbers in said.numbers])
    above = values > (0.5 if ((values >= 0) & (values <= 1)).all() else 0)
    return bool((above == np.array([row[0] for row in said.classes])).all())


def _in_words(model: Model, said: Said, reading: Reading, data: Dataset) -> tuple[Model, Reading]:
    """*model* with the classes that it names, and what its numbers are."""
    best = reading.activation == BEST or (reading.activation is None and said.best)
    places, notes = places_of(said, model, data)
    if best:
        _refuse_one_class(model, said, places.n or 2)
        kind = BEST
        notes += (ONLY_BEST,)
    else:
        if places.n is None:
            raise ModelError(f"{model.spec} names classes by numbers, and how many there are is not known")
        kind, more = activation_of(said, as_matrix(said, places), reading.activation, model.spec)
        notes += more
    n, names = places.n, None if places.names is None else tuple(places.names)
    model = dataclasses.replace(model, n_classes=n, class_names=names, notes=(*model.notes, *notes))
    return model, Reading(None, kind)


def _refuse_one_class(model: Model, said: Said, classes: int) -> None:
    """A class that it names for every sample, with less than chance, is not the predicted one."""
    least = min(numbers[0] for numbers in said.numbers if numbers)
    if len(said.named) == 1 and len(said.classes) > 1 and 0 <= least < 1 / classes:
        raise ModelError(
            f"{model.spec} names {said.named[0]!r} alone, with {least:.2g} once: a class that is predicted has more "
            f"among {classes}; return all classes"
        )


def _moved(said: Said, alone: Said | None) -> tuple[str, ...]:
    """A note where the first sample is answered otherwise when it is asked for again, among others."""
    if alone is None or len(said.classes) < 2:
        return ()
    before = dict(zip(alone.classes[0], alone.numbers[0], strict=True))
    after = dict(zip(said.classes[0], said.numbers[0], strict=True))
    moves = [abs(after.get(name, 0.0) - number) / (1 + abs(number)) for name, number in before.items()]
    if max(moves, default=0.0) <= CLOSE:
        return ()
    moved = f"a sample that is asked for again, among others, is answered otherwise, by {max(moves):.2g}"
    return (f"it does not repeat itself: {moved}; {EVALUATE}",)


def _count(found: Any, rows: int, takes: str) -> str:
    n = len(found) if hasattr(found, "__len__") else 0
    return (
        f"answers one sample, and for {rows} at a time returns {type(found).__name__} of {n}; expected one answer per "
        f"sample: declare takes = {(takes if takes not in MANY else takes[:-1])!r}"
    )
