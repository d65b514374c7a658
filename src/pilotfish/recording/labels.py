"""The data's labels in a model's class order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Dataset
from pilotfish.errors import DataError, nearest
from pilotfish.models import Model
from pilotfish.recording.class_names import find_classes, numbers_in
from pilotfish.tasks import NO_LABEL
from pilotfish.text import examples, one_line, quantity

I64 = NDArray[np.int64]

ADVICE = "or write a labels.csv (file,label) with the model's class numbers"


@dataclass(frozen=True)
class ModelClasses:
    """The classes that labels are to be numbers of.

    spec        the model, for messages
    n_classes   how many, where it is known
    names, ids  in the model's order; None where it has none
    """

    spec: str
    n_classes: int | None = None
    names: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None

    @property
    def limits(self) -> str:
        """How many, and their numbers, in words."""
        return "" if self.n_classes is None else f"{self.n_classes} classes (0 to {self.n_classes - 1})"


@dataclass(frozen=True)
class Matched:
    """Labels as numbers of a model's classes, or as the truth of another task.

    labels       int64 (N,), -1 where unknown, or the truth as the task has it
    class_names  the data's names in the order of these numbers, where they name every class; None otherwise
    notes        what was assumed, a line each
    """

    labels: Any
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def classes_of(model: Model) -> ModelClasses:
    """The classes of a loaded model."""
    return ModelClasses(model.spec, model.n_classes, model.class_names, model.class_ids)


def match_labels(data: Dataset, model: ModelClasses) -> Matched:
    """The labels of *data* as classes of *model*.

    Class names of the data that are numbers (folders 0 to 11, also "007" and "class_7") are class numbers. Other names
    are matched with the model's, whatever their case, underscores and synonyms. Where none of them agrees and there are
    equally many, they are matched by position alone, which is noted. Without names, labels are the model's own numbers.

    DataError where names agree in part, with the culprit, and for labels that the model has no class for.
    """
    names = data.class_names
    if data.labels is None:
        return Matched(np.full(len(data), NO_LABEL, np.int64), names)
    labels = np.asarray(data.labels, np.int64)
    used = np.unique(labels[labels >= 0]).tolist()
    if names is None:
        return _numbered(data, labels, used, model)
    if model.names is not None and all(i < len(model.names) and names[i] == model.names[i] for i in used):
        return Matched(labels, names)  # also where a name stands twice, as ImageNet's crane does
    numbers = numbers_in(names[i] for i in used)
    if numbers is not None:
        return _by_number(data, labels, used, numbers, model)
    return _by_name(data, labels, used, model)


def _numbered(data: Dataset, labels: I64, used: list[int], model: ModelClasses) -> Matched:
    """Labels that are numbers: the model's own, unless a labels.csv names them as other classes of the model."""
    names = getattr(data, "label_names", None)
    if names is None and (own := _as_its_own_numbers(data, labels, used, model)) is not None:
        return own
    if names is None or numbers_in(names[i] for i in used) is not None:
        return Matched(_checked(labels, model, data))
    places, known = _places([names[i] for i in used], used, data, model)
    if not places or not known or places == used:
        return Matched(_checked(labels, model, data))
    moved = next(i for i, place in zip(used, places, strict=True) if i != place)
    note = (
        f"labels of {data.spec} are matched by their names, not their numbers: {names[moved]!r} is label {moved} there "
        f"and class {places[used.index(moved)]} of {model.spec}"
    )
    return Matched(_renumbered(labels, used, places), None, (note,))


def _as_its_own_numbers(data: Dataset, labels: I64, used: list[int], model: ModelClasses) -> Matched | None:
    """Labels that are the numbers by which the model names its classes, such as 1 to C, and cannot be 0 to C - 1."""
    theirs = None if model.names is None else numbers_in(model.names)
    if theirs is None or not used or used[-1] < len(theirs) or _first_twice(theirs) is not None:
        return None
    if not set(used) <= set(theirs):
        return None
    places = [theirs.index(label) for label in used]
    note = (
        f"labels of {data.spec} are taken as the numbers by which {model.spec} names its classes "
        f"({examples(model.names or ())})"
    )
    return Matched(_renumbered(labels, used, places), None, (note,))


def _by_number(data: Dataset, labels: I64, used: list[int], numbers: list[int], model: ModelClasses) -> Matched:
    """Names that are numbers: the model's names where they all are the very same text, else class numbers."""
    names: Sequence[str] = data.class_names or ()
    own = {} if model.names is None else {name: i for i, name in enumerate(model.names)}
    if all(names[i] in own for i in used):
        return Matched(_renumbered(labels, used, [own[names[i]] for i in used]))
    twice = _first_twice(numbers)
    if twice is not None:
        same = " and ".join(repr(names[i]) for i, number in zip(used, numbers, strict=True) if number == twice)
        raise DataError(f"{data.spec}: {same} are both class {twice}; give each class one folder, {ADVICE}")
    theirs = None if model.names is None else numbers_in(model.names)
    if theirs is not None and _first_twice(theirs) is None:
        at = {number: i for i, number in enumerate(theirs)}
        if unknown := [i for i, number in zip(used, numbers, strict=True) if number not in at]:
            theirs_named = examples([*map(repr, model.names or ())])
            raise DataError(
                f"{data.spec}: {names[unknown[0]]!r} is no class of {model.spec}, whose classes are named "
                f"{theirs_named}; {_from_one(numbers, model) or 'name the classes as the model does'}, {ADVICE}"
            )
        return Matched(_renumbered(labels, used, [at[number] for number in numbers]))
    for i, number in zip(used, numbers, strict=True):
        if own.get(names[i], number) != number:
            raise DataError(
                f"{data.spec}: {names[i]!r} is the name of class {own[names[i]]} of {model.spec}, and others of its "
                f"class names are not; name all classes as the model does, {ADVICE}"
            )
    by_number = dict(zip(numbers, (names[i] for i in used), strict=True))
    found = _checked(_renumbered(labels, used, numbers), model, data)
    complete = sorted(by_number) == list(range(model.n_classes or len(names)))
    return Matched(found, tuple(by_number[i] for i in range(len(by_number))) if complete else None)


def _by_name(data: Dataset, labels: I64, used: list[int], model: ModelClasses) -> Matched:
    names = [(data.class_names or ())[i] for i in used]
    places, known = _places(names, used, data, model)
    if not places:
        return _by_position(data, labels, model)
    notes = []
    if not known:
        notes.append(f"{model.spec} names no classes: the names of {data.spec} are taken in ImageNet's usual order")
    together = defaultdict(list)
    for name, place in zip(names, places, strict=True):
        together[place].append(repr(name))
    notes += [
        f"{' and '.join(same)} of {data.spec} are one class of {model.spec}, {place}"
        for place, same in together.items()
        if len(same) > 1
    ]
    return Matched(_renumbered(labels, used, places), None, tuple(notes))


def _places(names: list[str], used: list[int], data: Dataset, model: ModelClasses) -> tuple[list[int], bool]:
    """(the model's class for each of *names*, [] where it knows none; whether the model itself has names).

    DataError where it knows some of them only, or has two classes of one name and neither has the number in *used*.
    """
    found, assumed = find_classes(names, model.names, model.ids, model.n_classes)
    unknown = [name for name, classes in zip(names, found, strict=True) if not classes]
    if len(unknown) == len(names):
        return [], True
    if unknown:
        close = nearest(unknown[0], model.names or model.ids or ())
        first = unknown[0]
        where = _samples_of(data, used[names.index(first)])
        raise DataError(
            f"{data.spec}: {len(unknown)} of its {len(names)} class names are none of {model.spec}: "
            f"{examples([*map(repr, unknown)])} ({close}), {where}; take what the model does not know out, name the "
            f"classes as the model does, {ADVICE}"
        )
    for i, name, classes in zip(used, names, found, strict=True):
        if len(classes) > 1 and i not in classes:
            raise DataError(
                f"{data.spec}: {name!r} is the name of classes {' and '.join(map(str, classes))} of {model.spec}; "
                f"use another of their names, such as the wnid, {ADVICE}"
            )
    return [i if i in classes else classes[0] for i, classes in zip(used, found, strict=True)], not assumed


def _by_position(data: Dataset, labels: I64, model: ModelClasses) -> Matched:
    """Names of which the model knows none: its own numbers, when there are as many."""
    names = tuple(data.class_names or ())
    if model.n_classes is not None and model.n_classes != len(names):
        whose = "whose names are others" if model.names or model.ids else "which it does not name"
        raise DataError(
            f"{data.spec} has {len(names)} classes ({examples(names)}) and {model.spec} has "
            f"{model.n_classes}, {whose}; {_for_number(data, len(names), model.n_classes)}, {ADVICE}"
        )
    found = Matched(_checked(labels, model, data), names)
    if model.names is None and not getattr(data, "sorted_names", False):
        return found  # the numbers were given as such
    pairs = [f"{i}: {name!r}" for i, name in enumerate(names)]
    why = f"{model.spec} names no classes"
    if model.names is not None:
        pairs = [f"{i}: {a!r} = {b!r}" for i, (a, b) in enumerate(zip(names, model.names, strict=False))]
        why = f"no name is one of {model.spec}'s"
    note = f"classes of {data.spec} are matched by position alone ({examples(pairs)}), as {why}; if that is wrong, "
    fix = f"name them as the model does, {ADVICE}" if model.names else ADVICE.removeprefix("or ")
    return replace(found, notes=(note + fix,))


def _for_number(data: Dataset, have: int, wanted: int) -> str:
    """What to do where data name another number of classes than a model that names none of them."""
    if have > wanted:
        return f"take out what it does not know ({have - wanted} of them)"
    if data.class_names and data.ids and data.ids[0].partition("/")[0] in data.class_names:
        return f"make an empty folder for each class without samples ({wanted - have} of them), which keeps its place"
    return f"name all {wanted} in their order where the data name them"


def _samples_of(data: Dataset, label: int) -> str:
    """How many samples have a label, and which is the first."""
    rows = np.flatnonzero(np.asarray(data.labels) == label)
    return f"{quantity(len(rows), 'sample')}, {one_line(data.ids[int(rows[0])])[:80]} the first"


def _renumbered(labels: I64, used: list[int], places: list[int]) -> I64:
    order = np.full(max(used, default=0) + 2, NO_LABEL, np.int64)  # the last one for label -1
    order[used] = places
    return np.asarray(order[labels])


def _checked(labels: I64, model: ModelClasses, data: Dataset) -> I64:
    if model.n_classes is not None and (labels >= model.n_classes).any():
        row = int(np.flatnonzero(labels >= model.n_classes)[0])
        hint = _from_one(labels[labels >= 0].tolist(), model)
        raise DataError(
            f"{data.spec}: {data.ids[row]} has label {labels[row]}, but {model.spec} has {model.limits}; "
            + (hint or "take the samples of other classes out, or number them as the model does")
        )
    return labels


def _from_one(numbers: Sequence[int], model: ModelClasses) -> str:
    """What to do where classes are numbered from 1; "" where they are not."""
    lowest, highest = min(numbers), max(numbers)
    if lowest < 1 or highest != model.n_classes:
        return ""
    return f"they are numbered {lowest} to {highest}: if that is from 1, number them from 0"


def _first_twice(numbers: Sequence[int]) -> int | None:
    values, counts = np.unique(np.asarray(numbers, np.int64), return_counts=True)
    return int(values[counts > 1][0]) if (counts > 1).any() else None
