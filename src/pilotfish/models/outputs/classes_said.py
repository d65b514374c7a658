"""Which classes a callable names, in which order, and what its numbers are, seen on some of its answers."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from pilotfish.data import Dataset
from pilotfish.errors import ModelError, nearest
from pilotfish.models.model import Model
from pilotfish.models.names.spec import MOST_CLASSES
from pilotfish.models.outputs.activation import OUTSIDE, contradicting
from pilotfish.models.outputs.said import Class, Places, Said, number_of
from pilotfish.reading.columns import plain
from pilotfish.text import examples, one_line, quantity

DECLARE = 'declare all of its classes, as in predict.classes = ["cat", "dog"]'


def places_of(said: Said, model: Model, data: Dataset) -> tuple[Places, tuple[str, ...]]:
    """Where the classes stand that *model* names, and what was assumed of that.

    In this order: the classes that the callable declares; numbers as they are; the classes of *data*, where it names no
    others; its own, where it names the same ones for every sample. ModelError, which names the culprit, otherwise.
    """
    spec, names = model.spec, said.named
    if not names:
        raise ModelError(
            f"{spec} names no class of any of {quantity(len(said.classes), 'sample')}; expected one at least for each"
        )
    if model.class_names:
        places = Places(model.class_names, None, spec)
        for name in names:
            places.find(name)
        return places, ()
    if data.class_names and all(name in data.class_names for name in names):
        return Places(data.class_names, None, spec), _never([*map(str, names)], data.class_names, said, data)
    theirs = _names_of(data)
    numbers = [number for name in names if (number := number_of(name)) is not None]
    if len(numbers) == len(names):
        most = min(1 + max(numbers), MOST_CLASSES)
        known = model.n_classes or (most if said.complete else len(data.class_names or ()) or None)
        places = Places(None, known, spec)
        for name in names:
            places.find(name)
        return places, ()
    words = [str(name) for name in names]
    unknown = [name for name in words if not _known([name], theirs)]
    if theirs and not unknown:
        return Places(theirs, None, spec), _never(words, theirs, said, data)
    agree = len(unknown) < len(words)
    covered = {plain(name) for name in words} >= {plain(name) for name in theirs}
    if said.complete and (covered or not agree):
        own = _in_order(words, said)
        shown = examples([f"{i}: {one_line(name)[:30]!r}" for i, name in enumerate(own)])
        return Places(own, None, spec), (f"its classes are those that it names, in the order {shown}",)
    if not theirs:
        raise ModelError(
            f"{spec} names classes ({examples([repr(one_line(name)[:40]) for name in words])}), and neither it nor "
            f"{data.spec} says which there are; {DECLARE}"
        )
    culprit = one_line(unknown[0])[:60]
    raise ModelError(
        f"{spec} names {culprit!r}, which is none of the {len(theirs)} classes of {data.spec}; "
        f"{nearest(culprit, theirs)}; name the classes as the data does, or {DECLARE}"
    )


def activation_of(
    said: Said, matrix: NDArray[np.float64], stated: str | None, spec: str
) -> tuple[str, tuple[str, ...]]:
    """(what the numbers of the classes are, of ``activation.ACTIVATIONS``; notes on it).

    matrix  float64 (N, C) of *said*, 0 where a class is not named
    """
    totals = np.array([sum(numbers) for numbers in said.numbers if numbers])
    given = np.concatenate([np.asarray(numbers, np.float64) for numbers in said.numbers])
    shares = bool(((given >= -OUTSIDE) & (given <= 1 + OUTSIDE)).all())
    some = any(0 < len(row) < matrix.shape[1] for row in said.classes)
    if stated is not None:
        wrong = (not shares and stated in ("softmax", "sigmoid")) or (
            stated == "softmax" and not some and contradicting(matrix, "softmax").any()
        )
        if wrong:
            raise ModelError(
                f"{spec}: activation={stated} is stated, and the numbers of its classes go from {given.min():.4g} to "
                f"{given.max():.4g} and sum to {totals[0]:.4g}; state what they are, or leave activation out"
            )
        return stated, ()
    if some and not shares:
        raise ModelError(
            f"{spec} names some of its {matrix.shape[1]} classes, with numbers from {given.min():.4g} to "
            f"{given.max():.4g}, and one that is not named has none; return all classes, or probabilities"
        )
    if not shares:
        if not some and (given >= 0).all() and np.isfinite(totals).all() and np.ptp(totals) <= OUTSIDE * totals.max():
            said_of_totals = (
                f"the numbers of its classes sum to {totals[0]:.3g} for every sample, as percentages or votes do, and "
                f"are taken as logits: divide them by {totals[0]:.3g}, or state ?activation=none if that is right"
            )
            return "none", (said_of_totals,)
        kind = "none" if contradicting(matrix, "log_softmax").any() else "log_softmax"
        return kind, ("the numbers of its classes are read as logits; ?activation=… states it otherwise",)
    if (totals > 1 + OUTSIDE).any() or (not some and (np.abs(totals - 1) > OUTSIDE).any()):
        return "sigmoid", ("the numbers of its classes are read as probabilities of one class against the rest each",)
    if (totals < 1 - OUTSIDE).any():
        said_of_some = (
            f"it names {_counts(said)} of its {matrix.shape[1]} classes, whose probabilities sum to "
            f"{totals.min():.3g} at least: the others count as 0, and the confidence is the share of those named; "
            "return all classes (top_k=None) for its own"
        )
        return "softmax", (said_of_some,)
    return "softmax", ()


def _names_of(data: Dataset) -> tuple[str, ...]:
    """The data's class names; none where they are numbers."""
    names = tuple(data.class_names or ())
    return () if all(name.strip().isdecimal() for name in names) else names


def _known(names: list[Class], theirs: tuple[str, ...]) -> bool:
    have = {plain(name) for name in theirs} | set(theirs)
    return all(isinstance(name, str) and (name in have or plain(name) in have) for name in names)


def _never(words: list[str], theirs: tuple[str, ...], said: Said, data: Dataset) -> tuple[str, ...]:
    """A note on classes of the data that a callable which names all of its classes does not name."""
    have = {plain(name) for name in words}
    left = [repr(one_line(name)[:40]) for name in theirs if plain(name) not in have]
    if said.best or not left or not said.complete:
        return ()
    shown = f"{len(left)} of the {len(theirs)} classes of {data.spec} ({examples(left)})"
    return (f"it does not name {shown}: they count as 0",)


def _in_order(words: list[str], said: Said) -> tuple[str, ...]:
    """The classes in the order in which every sample names them, unless that is the order of their numbers: then in
    that of their names."""
    if said.ordered and any(sorted(numbers, reverse=True) != list(numbers) for numbers in said.numbers):
        return tuple(words)
    return tuple(
        sorted(words, key=lambda name: [number_of(t) if t.isdecimal() else t for t in re.split(r"(\d{1,9})", name)])
    )


def _counts(said: Said) -> str:
    counts = sorted({len(row) for row in said.classes})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
