"""Whether new samples look other than those that a cascade was tuned on: by its scores, and by the classes it sees.

A shift is said where it is both certain and large: p below .001 and a distance above .05. On many samples either alone
would cry at nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pilotfish.cascade import Artefact
from pilotfish.scores import to_shown

F64 = NDArray[np.float64]
CERTAIN, LARGE = 1e-3, 0.05
FEWEST = 5  # expected counts of a class that chi-square is asked about; rarer ones are counted together


def notes_on_shift(
    artefact: Artefact, values: Sequence[tuple[F64, int]], classes: NDArray[np.int64] | None = None
) -> list[str]:
    """A line for each stage whose scores are shifted, and one where the classes are; none for cascades that an earlier
    version wrote, which keep no profile.

    values   per stage but the last, its scores float64 (N,) in their own unit, and how many of them are independent
    classes  int64 (N,), the class that the first stage takes each sample for
    """
    kept = artefact.profile
    if kept is None:
        return []
    notes = []
    for stage, scale, quantiles, (row, n) in zip(
        artefact.stages[:-1], artefact.scales, kept.quantiles, values, strict=True
    ):
        known = row[~np.isnan(row)]
        if not quantiles or not len(known):
            continue
        distance = ks_distance(quantiles, known)
        p = ks_p(distance, kept.n, n)
        if p < CERTAIN and distance > LARGE:
            then, now = (
                float(to_shown(scale, middle)) for middle in (quantiles[len(quantiles) // 2], np.median(known))
            )
            notes.append(
                f"shift: the scores of {stage.name} are not those that it was tuned with (KS distance {distance:.2f}, "
                f"p = {p:.1g}; median {then:.4g} then, {now:.4g} now): look at what changed in the inputs, or tune "
                "again on samples like these"
            )
    if classes is not None and kept.classes and len(classes):
        notes += _class_note(artefact, np.array(kept.classes), classes, kept.n, values[0][1])
    return notes


def ks_distance(quantiles: Sequence[float], values: F64) -> float:
    """The distance of Kolmogorov and Smirnov between samples of which the quantiles (evenly in rank) were kept, and
    *values*: as much of it as is certain, at most a step between two quantiles too small."""
    q, ordered = np.asarray(quantiles), np.sort(values)
    share, steps = np.linspace(0, 1, len(q)), 1 / (len(q) - 1)
    upto = np.searchsorted(ordered, q, side="right") / len(ordered)
    below = np.searchsorted(ordered, q, side="left") / len(ordered)
    last = np.searchsorted(q, q, side="right") - 1  # of equal quantiles
    first = np.searchsorted(q, q, side="left")
    at_most = np.where(last + 1 < len(q), share[last] + steps, 1.0)  # of the kept samples, how many are <= q
    apart = np.concatenate([share[last] - upto, upto - at_most, below - share[first], share[first] - steps - below])
    return float(max(apart.max(), 0.0))


def ks_p(distance: float, n: int, m: int) -> float:
    """The chance of such a distance between samples of one kind, n and m of them; asymptotic."""
    from scipy.special import kolmogorov

    return float(kolmogorov(distance * math.sqrt(n * m / (n + m))))


def chi_square_p(one: ArrayLike, other: ArrayLike) -> float:
    """The chance that counts of classes in two samples differ so much where classes come alike; rare classes are
    counted together."""
    from scipy.special import chdtrc

    counts = np.stack([np.asarray(one, np.float64), np.asarray(other, np.float64)])
    totals = counts.sum(axis=1)
    if not totals.all():
        return 1.0
    often = counts.sum(axis=0) * totals.min() / totals.sum() >= FEWEST
    rest = counts[:, ~often].sum(axis=1, keepdims=True)
    table = np.concatenate([counts[:, often], rest], axis=1)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 1.0
    expected = totals[:, None] * table.sum(axis=0) / totals.sum()
    return float(chdtrc(table.shape[1] - 1, float(((table - expected) ** 2 / expected).sum())))


def _class_note(artefact: Artefact, then: NDArray[np.int64], classes: NDArray[np.int64], n: int, m: int) -> list[str]:
    now = np.bincount(classes, minlength=len(then))
    then = np.pad(then, (0, len(now) - len(then)))
    before, since = then / then.sum(), now / now.sum()
    distance = float(np.abs(since - before).sum() / 2)
    p = chi_square_p(before * n, since * m)
    if p >= CERTAIN or distance <= LARGE:
        return []
    most, names = int(np.abs(since - before).argmax()), artefact.stages[0].class_names
    name = names[most] if names and most < len(names) else f"class {most}"
    note = (
        f"shift: the classes that {artefact.stages[0].name} sees are not those that it was tuned with (distance "
        f"{distance:.2f}, p = {p:.1g}; most of all {name}: {before[most]:.1%} then, {since[most]:.1%} now)"
    )
    return [note]
