"""Probabilities and logits of other programs, judged by their values and not by their name alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError
from pilotfish.scores.outputs import Outputs, bad_rows, from_logits, from_probabilities
from pilotfish.text import quantity

IMPORT_TOP_K = 10
ENOUGH_ROWS = 32
"""Rows that sum to 1 by chance do so once or twice, never so often."""
SATURATED = 0.05


def read_outputs(path: Path, name: str, values: NDArray[Any], kind: str) -> tuple[Outputs, int, tuple[str, ...]]:
    """(outputs, classes, notes) of an array (N, C), or (N,) for two classes.

    kind  ``probs``, ``logits``, or ``outputs`` where the name leaves it open

    Values that are probabilities by themselves are read as such under any name, and that is said. Raises RecordsError,
    with the reason, for what is neither.
    """
    if values.dtype.kind not in "fiu":
        raise RecordsError(f"{path}: {name!r} has dtype {values.dtype}; expected floating-point numbers")
    notes: list[str] = []
    if values.ndim == 1 and len(values):
        values, said = _two_classes(path, name, values, kind)
        notes.append(said)
        kind = "probs" if kind == "probs" else "logits"
    found = _are_probabilities(values) if values.ndim == 2 and values.shape[1] > 1 else False
    if kind == "logits" and found and not notes:
        if len(values) >= ENOUGH_ROWS:
            kind = "probs"
            notes.append(f"{name!r} holds probabilities (each row is in 0..1 and sums to 1): read as probabilities")
        else:
            notes.append(
                f"{name!r} is read as logits, and its {len(values)} rows look like probabilities: if they are, call "
                "them probs"
            )
    elif kind == "outputs":
        kind = "probs" if found else "logits"
        notes.append(f"{name!r} is read as {'probabilities' if found else 'logits'}; name it {kind} to settle it")
    if kind == "probs":
        _check_probabilities(path, name, values)
        outputs = from_probabilities(values, top_k=IMPORT_TOP_K)
        certain = float((values.max(axis=1) == 1).mean() if len(values) else 0)
        if outputs.log_odds is not None and len(values):
            tied = outputs.log_odds == outputs.log_odds.max()
            if certain > SATURATED and tied.mean() > SATURATED and tied.sum() > 1:
                notes.append(
                    f"{name!r}: {tied.mean():.0%} of the rows give one class 1 and the others 0; they tie, and no "
                    "threshold tells them apart: save logits"
                )
    else:
        if values.ndim == 2 and len(bad := bad_rows(values)):
            raise RecordsError(
                f"{path}: {quantity(len(bad), 'row of logits is', 'rows of logits are')} not finite, "
                f"row {bad[0]} the first; "
                "leave those samples out"
            )
        outputs = from_logits(values, top_k=IMPORT_TOP_K)
    return outputs, int(values.shape[1]), tuple(notes)


def _are_probabilities(values: NDArray[Any]) -> bool:
    if values.dtype.kind != "f" or not len(values):
        return False
    slack = 0.01 if values.dtype.itemsize == 2 else 1e-3
    with np.errstate(over="ignore", invalid="ignore"):
        sums = values.sum(axis=1, dtype=np.float64)
    return bool((values >= 0).all() and (values <= 1).all() and (np.abs(sums - 1) <= slack).all())


def _two_classes(path: Path, name: str, values: NDArray[Any], kind: str) -> tuple[NDArray[Any], str]:
    """One number per sample, of class 1 against class 0, as two columns."""
    with np.errstate(invalid="ignore"):
        share = bool(((values >= 0) & (values <= 1)).all())
    if kind == "probs":
        if not share:
            row = int(np.argmax(~((values >= 0) & (values <= 1))))
            raise RecordsError(f"{path}: {name!r} of row {row} is {values[row]}; expected probabilities, 0 to 1")
        p = values.astype(np.float64)
        return np.stack([1 - p, p], axis=1), f"{name!r} has one column: read as the probability of class 1 of two"
    z = values.astype(np.float64)
    said = f"{name!r} has one number for each sample: read as the logit of class 1 of two"
    if share and len(values) >= ENOUGH_ROWS:
        said += ", and all are in 0..1: if they are probabilities, name them probs, of shape (N, 1)"
    return np.stack([np.zeros_like(z), z], axis=1), said


def _check_probabilities(path: Path, name: str, values: NDArray[Any]) -> None:
    """The reason why rows are no probability vectors, where it shows."""
    if values.ndim != 2 or values.shape[1] < 2 or not len(values):
        return  # from_probabilities says what shape it needs
    with np.errstate(over="ignore", invalid="ignore"):
        sums = values.sum(axis=1, dtype=np.float64)
        low, high = bool((values >= 0).all()), float(values.max())
        off = np.flatnonzero(~(np.abs(sums - 1) < 0.02))
    if not low or not len(off) or not np.isfinite(sums).all():
        return  # from_probabilities names the row
    row = int(off[0])
    if high > 1 and bool((np.abs(sums - 100) < 2).all()):
        raise RecordsError(f"{path}: {name!r} holds percents (each row sums to 100); divide them by 100")
    if high <= 1 and bool((sums < 1).all()):
        raise RecordsError(
            f"{path}: {name!r} of row {row} sums to {sums[row]:.4g}, as all rows do to less than 1: row {row} is not a "
            "probability vector. Are classes left out? Give the probabilities of all of them"
        )
    if high <= 1:
        raise RecordsError(
            f"{path}: {name!r} of row {row} sums to {sums[row]:.4g}, with each value in 0..1: row {row} is not a "
            "probability vector. Sigmoids of several labels per sample are read with --task labels; expected one class"
        )
