"""What a model of boxes, masks or many labels takes and returns, seen on some samples before a recording begins."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pilotfish.data import Dataset
from pilotfish.errors import ModelError
from pilotfish.models.backends.python_backend import BATCH, PythonBackend
from pilotfish.models.model import Model
from pilotfish.models.outputs.activation import COARSE
from pilotfish.models.outputs.function_form import MOST, chain_of, find_form
from pilotfish.models.outputs.reading import Reading, with_reading
from pilotfish.models.preprocessing import draw_rows, sample_inputs
from pilotfish.text import quantity

ENOUGH = 32  # samples that show that numbers are probabilities


def settle_task(model: Model, reading: Reading, data: Dataset) -> tuple[Model, Reading]:
    """*model* with notes that say how it is read, and the reading. What the name states stays.

    ModelError where a callable takes no form of input, or answers otherwise than its task does.
    """
    notes: tuple[str, ...] = ()
    if isinstance(model.backend, PythonBackend) and (first := find_form(model, model.backend, data)) is not None:
        takes = first.takes if first.takes != BATCH or model.backend.takes else None
        chain = chain_of(first.takes, model)
        backend = model.backend.changed(takes=takes)
        model = dataclasses.replace(model, backend=backend, preprocessing=chain, notes=(*model.notes, *first.notes))
        reading = dataclasses.replace(reading, takes=takes)
    asks = model.task == "labels" and reading.activation is None
    found = _answers(model, data, (MOST if model.backend.name == "python" else ENOUGH) if asks else 1)
    if not found:
        return model, reading  # no sample can be read or run: the recording says why
    if model.task == "mask" and model.n_classes is None and found[0].ndim == 3 and found[0].dtype.kind == "f":
        model = dataclasses.replace(model, n_classes=len(found[0]))
    if model.task == "labels":
        model = dataclasses.replace(model, n_classes=found[0].size)
    if asks:
        values = np.array(found)
        kind = "sigmoid" if ((values >= 0) & (values <= 1)).all() else "none"
        reading = dataclasses.replace(reading, activation=kind)
        notes = _of_labels(values) if kind == "sigmoid" else ()
        model = with_reading(model, reading, str(getattr(model.backend, "device", "cpu")))
    return dataclasses.replace(model, notes=(*model.notes, *notes)), reading


def _answers(model: Model, data: Dataset, n: int) -> list[Any]:
    """The raw answers to up to *n* samples, each asked alone."""
    found: list[Any] = []
    for _, one in sample_inputs(data, model.preprocessing, draw_rows(len(data), n).tolist()):
        try:
            found.append(model.run(one[None])[0])
        except ModelError:  # a sample that breaks it: the recording finds out which
            continue
    return found


def _of_labels(values: Any) -> tuple[str, ...]:
    seen = f"its numbers lie from 0 to 1 on {quantity(len(values), 'sample')}"
    notes: tuple[str, ...] = (f"{seen}: they are taken as probabilities; ?activation=none takes them as logits",)
    if values.shape[1] > 1 and (np.abs(values.sum(axis=1) - 1) <= COARSE).all():
        notes += ("they sum to 1 for each sample, as classes that exclude each other do: is its task not classes?",)
    return notes
