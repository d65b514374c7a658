"""What is true of the samples of data, as the task has it: for a class, or many labels, in a model's class order."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Dataset
from pilotfish.errors import DataError
from pilotfish.models import Model
from pilotfish.recording.class_names import numbers_in
from pilotfish.recording.labels import Matched, ModelClasses, classes_of, match_labels
from pilotfish.tasks import CLASSES, NO_LABEL, Task
from pilotfish.text import examples


def truth_for(task: Task, data: Dataset, model: Model) -> Matched:
    """The labels of *data* as the truth of *task*, for *model*.

    DataError for names of classes where a task takes numbers, and as :func:`match_labels` has it. The truth of another
    task is not read, which is noted.
    """
    given, theirs = getattr(data, "truth", None), getattr(data, "task", CLASSES.name)
    other = given is not None and theirs not in (CLASSES.name, task.name)
    unread = (f"the truth of {data.spec} is of task {theirs}, not {task.name}: not read; --task {theirs} judges by it",)
    if task.classes:
        found = match_labels(data, classes_of(model))
        return replace(found, notes=(*found.notes, *unread)) if other else found
    if other:
        return Matched(task.unknown(len(data)), None, unread)
    if given is not None:
        if task.place is None:
            columns = isinstance(given, np.ndarray) and given.ndim == 2
            return match_columns(given, data, classes_of(model)) if columns else Matched(given)
        truth, notes = task.place(given, data, classes_of(model))
        return Matched(truth, data.class_names if model.class_names is None else None, notes)
    if task.no_truth is not None:
        said = () if data.labels is None else (f"the labels of {data.spec} are none of task {task.name}: not read",)
        return Matched(task.unknown(len(data)), None, said)
    if data.labels is None or data.class_names is None:
        return Matched(task.truth(data.labels, len(data)))
    numbers = numbers_in(data.class_names)
    if numbers is None:
        raise DataError(
            f"{data.spec}: its labels are names ({examples(data.class_names)}), and task {task.name} takes numbers; "
            "name the folders by numbers, or write a labels.csv (file,label) with numbers"
        )
    labels = np.asarray(data.labels, np.int64)
    return Matched(task.truth(np.where(labels < 0, NO_LABEL, np.array(numbers)[labels]), len(data)))


def match_columns(truth: NDArray[np.int8], data: Dataset, model: ModelClasses) -> Matched:
    """*truth* (N, C) of *data*, 0 and 1, -1 in rows of which nothing is known, in the order of the classes of *model*.

    Every label that is true is matched as the label of a sample would be (:func:`match_labels`), with the same errors
    and notes. Classes of the model that the data do not know are never true, which is noted.
    """
    row, label = np.nonzero(truth == 1)
    named = getattr(data, "sorted_names", data.class_names is not None)
    each: Any = SimpleNamespace(  # a sample for every label that is true
        spec=data.spec,
        ids=[data.ids[i] for i in row.tolist()],
        labels=label.astype(np.int64),
        class_names=data.class_names,
        sorted_names=named,
    )
    found = match_labels(each, model)
    places = found.labels
    known = model.n_classes or (len(model.names) if model.names else None)
    classes = known or max(truth.shape[1], int(places.max(initial=-1)) + 1)
    placed = np.zeros((len(truth), classes), np.int8)
    placed[row, places] = 1
    placed[(truth < 0).any(axis=1)] = -1
    notes = found.notes
    have = len(data.class_names) if data.class_names else None
    if have is not None and have < classes:
        spare = np.flatnonzero(~(placed == 1).any(axis=0)).tolist()
        names = [repr(model.names[c]) for c in spare] if model.names else [str(c) for c in spare]
        if names:
            counted = f"{len(names)} of the {classes} classes of {model.spec} are true in no sample of {data.spec}"
            notes += (f"{counted} ({examples(names)}): where it says them, that counts as wrong",)
    return Matched(placed, found.class_names, notes)
