"""Whether a model is better than chance on its labels, and which order of the classes would explain that it is not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from pilotfish.scores.outputs import F64, I64, Mask
from pilotfish.text import examples, quantity

NO_LABEL = -1
FEWEST = 50  # samples for a verdict; fewer give a note
LEVEL = 0.05  # of the test against chance
CLEAR = 1e-3  # p-value that another order of the classes has to stay below ...
MARGIN = 0.05  # ... and the accuracy it has to win
FAR = 4.0  # standard deviations: agreement that no shuffling of the predictions gives
LARGEST = 2000  # classes among which an order is looked for; numbers sorted as text are tried up to ...
LARGEST_AS_TEXT = 50_000
SHOWN = 3
LINES = 4


@dataclass(frozen=True)
class Verdict:
    """A model's accuracy beside that of chance.

    n         labelled samples
    accuracy  share of them that are predicted right; chance: Σ_c share of label c × share of prediction c
    bad       whether this cannot be the base of anything: at least 50 samples of more than one class, and it is no
              better than chance, or another order of the classes explains half of its errors or more
    note      what its reader should know, one line; None where nothing is odd
    """

    n: int
    accuracy: float
    chance: float
    bad: bool = False
    note: str | None = None


def judge(label: I64, prediction: I64, n_classes: int | None = None) -> Verdict:
    """Compare predictions int64 (N,) with labels int64 (N,), -1 where unknown.

    Better than chance means: p < 5 % in the one-sided exact binomial test of the right answers against the chance
    level, or an agreement far beyond what shuffled predictions reach, where one class has nearly all samples. Also
    tried are labels shifted by one, class numbers sorted as text, and the best order of the classes, fitted on one half
    of the samples and judged on the other; an order is named where it wins five points and p < 0.001 in the exact
    paired test. Labels of one class only say nothing about either.
    """
    labelled = label != NO_LABEL
    known, said = label[labelled], prediction[labelled]
    n = len(known)
    if not n:
        return Verdict(0, 0.0, 0.0)
    right = known == said
    k, level = int(right.sum()), _chance(known, said)
    accuracy = k / n
    if (known == known[0]).all():
        return Verdict(n, accuracy, level, note=_one_class(known, said) if k == 0 else None)
    better = _tail(k, n, level) < LEVEL or _far(known, said, k)
    reached, words = _explained(known, said, right, n_classes)
    shown = f"accuracy {_percent(accuracy)}"
    explanation = f"; {words}" if words else ""
    if better and words:
        note: str | None = f"{shown} ({quantity(n, 'sample')}){explanation}"
    elif better or (n < FEWEST and k == n):
        note = None
    elif n < FEWEST:
        note = (
            f"{shown} on {quantity(n, 'sample')} only is not clearly better than chance "
            f"({_percent(level)}){explanation}"
        )
    else:
        same = f": it predicts class {said[0]} for all of them" if (said == said[0]).all() else ""
        note = f"{shown} is no better than chance ({_percent(level)}, {quantity(n, 'sample')}){same}{explanation}"
    bad = n >= FEWEST and (not better or 1 - reached <= (1 - accuracy) / 2)
    return Verdict(n, accuracy, level, bad and note is not None, note)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _one_class(known: I64, said: I64) -> str | None:
    values, counts = np.unique(said, return_counts=True)
    return (
        f"none of the {len(known):,} samples, all with label {known[0]}, is predicted right; most are predicted as "
        f"class {values[counts.argmax()]}"
    )


def _compact(known: I64, said: I64) -> tuple[I64, I64, I64]:
    """(classes that occur, place of each label among them, place of each prediction among them)."""
    classes, places = np.unique(np.concatenate([known, said]), return_inverse=True)
    return classes, places[: len(known)], places[len(known) :]


def _shares(known: I64, said: I64) -> tuple[F64, F64]:
    """How many labels and how many predictions each class has, in one order of the classes."""
    classes, *both = _compact(known, said)
    of_label, of_answer = (np.bincount(x, minlength=len(classes)).astype(np.float64) for x in both)
    return of_label, of_answer


def _chance(known: I64, said: I64) -> float:
    """The accuracy of the same predictions dealt out at random."""
    of_label, of_answer = _shares(known, said)
    return min(1.0, float(of_label @ of_answer) / len(known) ** 2)


def _tail(k: int, n: int, p: float) -> float:
    """P(Bin(n, p) >= k), summed term by term from the one at k."""
    if k == 0 or p >= 1:
        return 1.0
    if p <= 0:
        return 0.0
    first = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
    )
    i = np.arange(k, n)
    ratios = np.log((n - i) / (i + 1)) + math.log(p) - math.log1p(-p)
    with np.errstate(under="ignore"):
        return min(1.0, float(np.exp(first + np.concatenate([[0.0], np.cumsum(ratios)])).sum()))


def _far(known: I64, said: I64, k: int) -> bool:
    """Whether *k* right answers are far above what shuffled predictions give. The binomial test cannot see this where
    one class has nearly all samples: it does not know that shuffling then changes little."""
    n, (of_label, of_answer) = len(known), _shares(known, said)
    if n < 2 or (of_answer == n).any():
        return False
    both = of_label * of_answer
    mean = both.sum() / n
    # the sum of d_ij² over all pairs of a label and a prediction, d_ij the centred "equal or not" (Hoeffding 1951)
    spread = n * mean - (both * of_answer).sum() / n - (both * of_label).sum() / n + mean**2
    return bool(k - mean > FAR * np.sqrt(max(spread, 0.0) / (n - 1)))


def _explained(known: I64, said: I64, right: Mask, n_classes: int | None) -> tuple[float, str]:
    """The accuracy in the order of the classes that fits far better than the one at hand, and that order in words; the
    accuracy as it is and "" when there is none."""
    best, words = float(right.mean()), ""
    for meant, order, question in _orders(known, n_classes or int(max(known.max(), said.max())) + 1):
        fits = meant == said
        if (accuracy := float(fits.mean())) > best and _wins(fits, right, meant, said):
            best, words = accuracy, f"{order} would give {_percent(accuracy)} ({question})"
    found = _fitted(known, said)
    return (best, words) if found is None or (words and found[0] < best + MARGIN) else found


def _wins(fits: Mask, right: Mask, meant: I64, said: I64) -> bool:
    """Whether an order beats the one at hand by a wide and significant margin, and chance as well."""
    won, lost = int((fits & ~right).sum()), int((right & ~fits).sum())
    n = len(fits)
    return (
        won - lost >= MARGIN * n
        and _tail(won, won + lost, 0.5) < CLEAR
        and _tail(int(fits.sum()), n, _chance(meant, said)) < CLEAR
    )


def _orders(known: I64, classes: int) -> Iterator[tuple[I64, str, str]]:
    """Orders that need no fitting: (class (N,) that each label would mean, its name, what it asks)."""
    yield known - 1, "labels shifted by -1", "are they numbered from 1?"
    up = "does the model number its classes from 1, or keep class 0 for the background?"
    yield known + 1, "labels shifted by +1", up
    for first in (0, 1) if classes <= LARGEST_AS_TEXT else ():
        order = _as_text(first, classes)
        if (np.diff(order) == 1).all():
            continue
        shown = f"({', '.join(map(str, order[:5].tolist()))}, …)"
        of_folders, of_model = order - first, np.argsort(order)
        yield _at(of_folders, known), f"labels read as places in text order {shown}", "were folders sorted as text?"
        by_model = (f"the model's classes in text order {shown}", "was it trained on folders sorted as text?")
        yield _at(of_model, known), *by_model
        if first:  # and labels numbered from 1 as well
            yield _at(of_model, known - 1), *by_model


@lru_cache(maxsize=16)
def _as_text(first: int, classes: int) -> I64:
    """The numbers from *first* on as a listing of folders sorts them: 0, 1, 10, 11, 2."""
    return np.array(sorted(range(first, classes + first), key=str), np.int64)


def _at(order: I64, places: I64) -> I64:
    """``order[places]``, -1 where there is no such place."""
    inside = (places >= 0) & (places < len(order))
    return np.where(inside, order[np.where(inside, places, 0)], -1)


def _fitted(known: I64, said: I64) -> tuple[float, str] | None:
    """(accuracy, words) of the best order of the classes, fitted on one half and judged on the other."""
    halves = np.random.default_rng(0).permutation(len(known))
    fit, judged = halves[: len(halves) // 2], halves[len(halves) // 2 :]
    if not len(fit):
        return None
    classes, a, b = _compact(known, said)
    rows, columns = np.unique(a[fit]), np.unique(b[fit])
    if max(len(rows), len(columns)) > LARGEST:
        return None
    table = np.zeros((len(rows), len(columns)))
    np.add.at(table, (np.searchsorted(rows, a[fit]), np.searchsorted(columns, b[fit])), 1.0)
    diagonal = rows[:, None] == columns[None, :]
    if (table.max(axis=1).sum() - table[diagonal].sum()) < MARGIN * len(fit):  # no order wins so much
        return None
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError:
        return None

    at_rows, at_columns = linear_sum_assignment(table + 0.1 * diagonal, maximize=True)  # of equals, the order at hand
    meant = np.arange(len(classes))
    meant[rows[at_rows]] = columns[at_columns]
    theirs = meant[a[judged]]
    fits, right = theirs == b[judged], a[judged] == b[judged]
    if not _wins(fits, right, theirs, b[judged]):
        return None
    gains = table[at_rows, at_columns]
    moved = [i for i in np.argsort(-gains).tolist() if rows[at_rows[i]] != columns[at_columns[i]]]
    pairs = [f"{classes[rows[at_rows[i]]]} → {classes[columns[at_columns[i]]]}" for i in moved]
    accuracy = float(fits.mean())
    return accuracy, (
        f"another order of the classes ({examples(pairs, SHOWN)}) would give {_percent(accuracy)} on the half of the "
        "samples that did not choose it (are the labels in the model's class order?)"
    )
