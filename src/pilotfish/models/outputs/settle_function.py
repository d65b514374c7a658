"""How a callable answers, in arrays or in words, seen on a few real samples before a recording begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.data import Dataset
from pilotfish.errors import ModelError
from pilotfish.models.backends.python_backend import BATCH, MANY, PythonBackend, outputs_in
from pilotfish.models.model import Model
from pilotfish.models.outputs.activation import BEST
from pilotfish.models.outputs.classes_said import activation_of, places_of
from pilotfish.models.outputs.function_form import LOOKED_AT, MOST, First, chain_of, find_form, unreadable
from pilotfish.models.outputs.reading import Reading
from pilotfish.models.outputs.said import Said, as_matrix, said_by
from pilotfish.models.outputs.which_output import Output
from pilotfish.models.preprocessing import stacked

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


def settle_function(model: Model, reading: Reading, data: Dataset) -> Settled | None:
    """What the callable of *model* takes and answers with. None where it takes a batch and returns arrays: then it is
    read as any other model, and so is one whose samples cannot be read or run, for which the recording says why.

    ModelError where no form fits, with what was tried, and where its answers cannot be read.
    """
    backend: Any = model.backend
    first = find_form(model, backend, data)
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
        preprocessing=chain_of(first.takes, model),
        notes=(*model.notes, *first.notes),
    )
    rows, found = _more(backend, first)
    batch = stacked([first.inputs[first.rows.index(row)] for row in rows])
    said = said_by(found, len(rows))
    if said is not None and not _is_column(said, model, data):
        model, reading = _in_words(model, said, reading, data)
        alone = said_by(first.answer, 1)
        moved = () if alone is None or len(rows) < 2 else _moved(_by_class(alone), _by_class(said))
        model = dataclasses.replace(model, notes=(*model.notes, *moved))
        return Settled(model, dataclasses.replace(reading, takes=takes), rows, [])
    if takes is None:
        return None
    outputs = outputs_in(found, len(rows), model.spec, batch)
    if not any(len(one.values) == len(rows) for one in outputs):
        raise ModelError(_count(model, found, len(rows), takes))
    if len(rows) > 1:
        before = outputs_in(first.answer, 1, model.spec, batch[:1])
        pairs = zip(before, outputs, strict=False)
        said_of = next((note for one, two in pairs if (note := _moved(_by_column(one), _by_column(two)))), ())
        model = dataclasses.replace(model, notes=(*model.notes, *said_of))
    return Settled(model, None, rows, outputs)


def _more(backend: PythonBackend, first: First) -> tuple[list[int], Any]:
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


def _by_class(said: Said) -> dict[Any, float]:
    """The numbers of the first sample."""
    return dict(zip(said.classes[0], said.numbers[0], strict=True))


def _by_column(output: Output) -> dict[Any, float]:
    """The numbers of the first sample; none of an output that is no answer."""
    return dict(enumerate(output.matrix[0].tolist())) if output.classes else {}


def _moved(before: Mapping[Any, float], after: Mapping[Any, float]) -> tuple[str, ...]:
    """A note where the first sample is answered otherwise when it is asked for again, among others."""
    moves = [abs(after.get(name, 0.0) - number) / (1 + abs(number)) for name, number in before.items()]
    if not max(moves, default=0.0) > CLOSE:
        return ()
    moved = f"a sample that is asked for again, among others, is answered otherwise, by {max(moves):.2g}"
    return (f"it does not repeat itself: {moved}; {EVALUATE}",)


def _count(model: Model, found: Any, rows: int, takes: str) -> str:
    n = len(found) if hasattr(found, "__len__") else 0
    if n == rows:
        return unreadable(model, takes, found, rows)
    return (
        f"{model.spec} answers one sample, and for {rows} at a time returns {type(found).__name__} of {n}; expected "
        f"one answer per sample: declare takes = {(takes if takes not in MANY else takes[:-1])!r}"
    )
