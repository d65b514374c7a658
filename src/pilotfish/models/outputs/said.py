"""Answers in words: what a function says of its samples by the names of classes, and not by columns.

Of N samples, one after the other or as two arrays:

    {"cat": 0.9, "dog": 0.1}                                            the classes and a number for each
    [{"label": "cat", "score": 0.9}, {"label": "dog", "score": 0.1}]    the same, as pipelines of transformers have it
    ("cat", 0.9), {"label": "cat", "confidence": 0.9}                   the predicted class, and how sure it is
    (["cat", …], [0.9, …]), {"label": […], "score": […]}                the same for all samples

A class is a name, or its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError, nearest
from pilotfish.models.names.spec import MOST_CLASSES
from pilotfish.models.outputs.which_output import as_array
from pilotfish.reading.columns import ROLES, plain
from pilotfish.scores.outputs import Outputs
from pilotfish.text import one_line

_LABEL = {plain(name) for role in ("label", "prediction", "name") for group in ROLES[role] for name in group}
_SURE = {plain(name) for group in ROLES["confidence"] for name in group}
Class = str | int
DIGITS = 9  # of a class's number: longer ones are names


@dataclass(frozen=True)
class Said:
    """What was said of N samples.

    classes  of each, the classes that it names
    numbers  of each, as many numbers
    best     whether each names the predicted class alone, or none, and the number is how sure it is
    pair     whether it came as two arrays
    """

    classes: list[list[Class]]
    numbers: list[list[float]]
    best: bool
    pair: bool = False

    @property
    def named(self) -> list[Class]:
        """The classes that occur, in the order in which they do."""
        return list(dict.fromkeys(name for row in self.classes for name in row))

    @property
    def complete(self) -> bool:
        """Whether it names the same classes, two or more, for every sample."""
        first = set(self.classes[0]) if self.classes else set()
        return len(first) > 1 and all(set(row) == first for row in self.classes)

    @property
    def ordered(self) -> bool:
        """Whether it names them in the same order for every sample."""
        return all(row == self.classes[0] for row in self.classes)


def said_by(found: Any, rows: int) -> Said | None:
    """What *found* says of *rows* samples; None where it is arrays of scores, or nothing of the kind."""
    if rows < 1:
        return None
    try:
        return _said(found, rows)
    except Exception:  # objects of others may raise anything when they are looked at
        return None


def _said(found: Any, rows: int) -> Said | None:
    if (pair := _pair(found, rows)) is not None:
        return pair
    if isinstance(found, np.ndarray) and found.dtype == object:
        found = found.tolist()
    if not isinstance(found, list | tuple) or len(found) != rows:
        return None
    each = [_one(value) for value in found]
    if any(one is None for one in each):
        return None
    known = [one for one in each if one is not None]
    best = any(one for one, _ in known) and all(len(one) < 2 for one, _ in known)
    return Said([one for one, _ in known], [numbers for _, numbers in known], best)


def _one(value: Any) -> tuple[list[Class], list[float]] | None:
    """(classes, numbers) of one sample."""
    if isinstance(value, Mapping):
        entry = _entry(value)
        if entry is not None:
            return [entry[0]], [entry[1]]
        if not all(_is_class(key) and _is_number(number) for key, number in value.items()):
            return None
        return [_class(key) for key in value], [float(number) for number in value.values()]
    if not isinstance(value, list | tuple) or not value:
        return None
    entries = [_entry(one) if isinstance(one, Mapping) else None for one in value]
    if all(entry is not None for entry in entries):
        found = [entry for entry in entries if entry is not None]
        return [name for name, _ in found], [number for _, number in found]
    if len(value) == 2 and _is_class(value[0]) and _is_number(value[1]):
        surely = isinstance(value[0], str) or (isinstance(value, tuple) and not isinstance(value[1], Integral))
        return ([_class(value[0])], [float(value[1])]) if surely else None
    return None


def _entry(value: Mapping[Any, Any]) -> tuple[Class, float] | None:
    """(class, number) of a dictionary with a label and a score."""
    label = [key for key in value if isinstance(key, str) and plain(key) in _LABEL and _is_class(value[key])]
    sure = [key for key in value if isinstance(key, str) and plain(key) in _SURE and _is_number(value[key])]
    label = [key for key in label if isinstance(value[key], str)] or label
    return (_class(value[label[0]]), float(value[sure[0]])) if label and sure and label[0] != sure[0] else None


def _pair(found: Any, rows: int) -> Said | None:
    """Two arrays: classes, and how sure it is of each; in either order, or by name."""
    if isinstance(found, Mapping):
        named = {plain(str(key)): value for key, value in found.items()}
        halves = [next((named[k] for k in named if k in role), None) for role in (_LABEL, _SURE)]
    elif isinstance(found, tuple) and len(found) == 2:
        halves = list(found)
    else:
        return None
    arrays = [_vector(half, rows) for half in halves]
    if any(one is None for one in arrays):
        return None
    first, second = (one for one in arrays if one is not None)
    if first.dtype.kind == "f" and second.dtype.kind in "iuU":
        first, second = second, first
    if first.dtype.kind not in "iuU" or second.dtype.kind != "f":
        return None
    return Said([[name] for name in first.tolist()], [[one] for one in second.tolist()], True, True)


def _vector(value: Any, rows: int) -> NDArray[Any] | None:
    """*value* as an array (rows,) of numbers or texts; None where it is none."""
    if not (hasattr(value, "shape") or (isinstance(value, list | tuple) and all(_is_plain(one) for one in value))):
        return None
    if isinstance(value, Sequence) and len({isinstance(one, str) for one in value}) > 1:
        return None  # numpy would make texts of the numbers
    found = as_array(value)
    if found.dtype == object and all(isinstance(one, str) for one in found.ravel().tolist()):
        found = found.astype(str)
    found = found.reshape(-1) if found.ndim == 2 and found.shape[1] == 1 else found
    return found if found.shape == (rows,) else None


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) or _is_number(value)


def _is_class(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, Integral) and not isinstance(value, bool | np.bool_))


def _class(value: Any) -> Class:
    return value if isinstance(value, str) else int(value)


def number_of(name: Class) -> int | None:
    """The number of a class that is given by it, or by a text of it; None for a name."""
    if isinstance(name, int):
        return name
    return int(name) if name.isdecimal() and len(name) <= DIGITS else None


def _is_number(value: Any) -> bool:
    """A number, or an array or tensor of no dimensions."""
    if isinstance(value, bool | np.bool_ | str):
        return False
    return isinstance(value, Real) or (hasattr(value, "shape") and tuple(value.shape) == () and hasattr(value, "item"))


class Places:
    """Where the classes that a function names stand.

    names      of the classes in their order; None: classes are numbers
    n_classes  how many, where that is known
    where      the function, for messages
    """

    def __init__(self, names: Sequence[str] | None, n_classes: int | None, where: str) -> None:
        self.names, self.n, self.where = names, len(names) if names else n_classes, where
        self.at: dict[Class, int] = {}
        for form in (plain, str):  # what is written alike counts before what only reads alike
            self.at |= {form(name): i for i, name in reversed(list(enumerate(names or ())))}

    def find(self, name: Class) -> int:
        """The place of a class; ModelError for one that there is not."""
        place = name if isinstance(name, int) else self.at.get(name, self.at.get(plain(name)))
        if place is None:
            place = number_of(name)
        if place is not None and 0 <= place < (self.n or MOST_CLASSES):
            return place
        if place is not None:
            said = f"class {place}" if abs(place) < 10**DIGITS else f"a class of more than {DIGITS} digits"
            raise ModelError(f"{self.where} answers with {said}; expected 0 to {(self.n or MOST_CLASSES) - 1}")
        shown = one_line(str(name))[:60]
        if self.names is None:
            raise ModelError(f"{self.where} names the class {shown!r}, and which classes there are is not known")
        raise ModelError(
            f"{self.where} names {shown!r}, which is none of its {len(self.names)} classes; "
            f"{nearest(shown, self.names)}; name them as the data does, or declare all of them: classes = […]"
        )


def as_matrix(said: Said, places: Places) -> NDArray[np.float64]:
    """float64 (N, C): the number of each class, 0 for those that are not named; NaN for a sample of which none is."""
    found = np.zeros((len(said.classes), places.n or 0))
    for row, (names, numbers) in enumerate(zip(said.classes, said.numbers, strict=True)):
        at = [places.find(name) for name in names]
        if len(set(at)) < len(at):
            twice = next(name for k, name in enumerate(names) if at[k] in at[:k])
            raise ModelError(f"{places.where} names {twice!r} twice for one sample; expected one number per class")
        found[row, at] = numbers
        if not names:
            found[row] = np.nan
    return found


def as_best(said: Said, places: Places) -> Outputs:
    """The predicted classes and confidences, as imported predictions are kept: where more is said, its best; where
    nothing is, a confidence of NaN."""
    at = [int(np.argmax(numbers)) if numbers else -1 for numbers in said.numbers]
    prediction = [places.find(names[k]) if names else 0 for names, k in zip(said.classes, at, strict=True)]
    sure = [numbers[k] if numbers else np.nan for numbers, k in zip(said.numbers, at, strict=True)]
    return Outputs(np.array(prediction, np.int64), confidence=np.array(sure, np.float64))
