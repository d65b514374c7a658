"""True masks: PNG files that are read when they are needed, in the model's class numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import DataError, nearest
from pilotfish.tasks.indexed_png import decode
from pilotfish.text import examples, one_line

I64 = NDArray[np.int64]
IGNORE_8, IGNORE_16 = 255, 65535
BACKGROUND = "background"
_NUMBER = re.compile(r"(?:(?:label|class)[\s_-]?)?\d+", re.IGNORECASE)  # LABEL_7: a name that says nothing


@dataclass(frozen=True, eq=False)
class TrueMask:
    """The true mask of one sample.

    source   the file, or its bytes
    name     of the sample, for messages
    classes  how many the model has; None: the data say nothing of it
    order    int64 (C,), the model's number of each class of the data; None: the same
    """

    source: bytes | Path
    name: str
    classes: int | None = None
    order: I64 | None = None

    def read(self, classes: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """(class of each pixel int64 (H, W) in the numbers of a model with *classes*, whether it counts).

        255 is ignored, of more than 255 classes 65535. DataError for a damaged file and a class that the model does not
        have.
        """
        called = f"the mask of {one_line(self.name)}"
        try:
            png = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        except OSError as error:
            raise DataError(f"{called} cannot be read: {error.strerror or error}") from None
        found = decode(png, called).astype(np.int64)
        most = classes if self.order is None else len(self.order)
        counts = found != (IGNORE_8 if most <= IGNORE_8 else IGNORE_16)
        if (wrong := counts & (found >= most)).any():
            one = int(found[wrong].min())
            raise DataError(
                f"{called} has class {one} in {np.count_nonzero(found == one):,} pixels, and "
                f"there are {most} classes (0 to {most - 1}); number them as the model does, and write 255 where "
                "nothing counts"
            )
        found[~counts] = 0
        return (found if self.order is None else self.order[found]), counts


def placed(truth: NDArray[Any], data: Any, model: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The masks of *data*, PNG bytes or paths or None, in the class numbers of *model*
    (:class:`pilotfish.recording.labels.ModelClasses`), and what was assumed."""
    order, notes = class_order(data.class_names, model.names, model.n_classes, data.spec, model.spec)
    known = model.n_classes or (len(data.class_names) if data.class_names else None)
    found = np.empty(len(truth), object)
    found[:] = [
        None if one is None else TrueMask(one, name, known, order) for one, name in zip(truth, data.ids, strict=True)
    ]
    return found, notes


def class_order(
    names: Sequence[str] | None, theirs: Sequence[str] | None, n_classes: int | None, data: str, model: str
) -> tuple[I64 | None, tuple[str, ...]]:
    """(the model's number of each of the data's classes, or None where they are the same; what was assumed).

    By name, where both have names, whatever their case; ``__background__`` is background. DataError where the model
    lacks a class of the data, or has fewer.
    """
    if names is None:
        return None, ()
    if theirs is not None and not all(_NUMBER.fullmatch(name) for name in theirs):
        at = {_plain(name): i for i, name in reversed(list(enumerate(theirs)))}
        places = [at.get(_plain(name), -1) for name in names]
        if all(place == i for i, place in enumerate(places)):
            return None, ()
        if unknown := [name for name, place in zip(names, places, strict=True) if place < 0]:
            if len(unknown) == len(names) and len(names) == len(theirs):
                pairs = examples([f"{i}: {a!r} = {b!r}" for i, (a, b) in enumerate(zip(names, theirs, strict=True))])
                said = f"classes of {data} are matched by position alone ({pairs}), as no name is one of {model}'s"
                return None, (f"{said}; if that is wrong, name them as the model does",)
            raise DataError(
                f"{data}: {len(unknown)} of its {len(names)} classes are none of {model}: "
                f"{examples([*map(repr, unknown)])} ({nearest(unknown[0], theirs)}); name them as the model does, and "
                "write 255 into the masks where nothing counts"
            )
        return np.array(places, np.int64), ()
    if n_classes is not None and len(names) > n_classes:
        raise DataError(
            f"{data} has {len(names)} classes ({examples(names)}) and {model} has {n_classes}; number the masks as the "
            "model does, and write 255 where nothing counts"
        )
    return None, ()


def _plain(name: str) -> str:
    text = " ".join(name.replace("_", " ").casefold().split())
    return BACKGROUND if text == "bg" else text


def counts_of(said: NDArray[Any], true: NDArray[Any], counts: NDArray[np.bool_], classes: int) -> tuple[I64, I64]:
    """(intersection, union), int64 (C,), of two masks (H, W) in the pixels that count."""
    a, b = said[counts], true[counts]
    there = np.bincount(b, minlength=classes)
    both = np.bincount(b[a == b], minlength=classes)
    return both, np.bincount(a, minlength=classes)[:classes] + there - both
