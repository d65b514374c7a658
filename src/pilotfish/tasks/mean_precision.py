"""Mean average precision, as COCO has it, of one detector or of several that answer different images.

Matching is per image, so each detector's boxes are matched once (:func:`~pilotfish.tasks.box_matching.match`). Who
answers which image then decides which rows count: the rows of a class, sorted once by (falling score, image, rank),
give its precision by cumulative sums, an envelope and 101 points of recall. Where one image changes hands, only the
classes in it are summed again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pilotfish.reading.coco_json import MOST_NAMED
from pilotfish.scores.outputs import I64
from pilotfish.tasks.box_matching import IOUS, Boxes, Matches, TrueBoxes, match

F64 = NDArray[np.float64]
RECALLS = np.linspace(0.0, 1.0, 101)
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
NOBODY = -1
"""In a routing: the image is left out, with its true boxes."""


@dataclass(frozen=True, eq=False)
class _Class:
    """The rows of one class, best score first, and what they come to at T IoUs.

    image, detector  int64 (R,)
    right            int64 (2, H): t and row, for every row that is right at the t-th IoU, in this order
    spared           the same where a row is neither right nor wrong
    truth            int64 (G,), the images of the true boxes
    ious             T
    """

    image: I64
    detector: I64
    right: I64
    spared: I64
    truth: I64
    ious: int

    def precision(self, answered_by: I64) -> tuple[F64, int]:
        """(average precision at each IoU, float64 (T,); how many true boxes there are)."""
        there = int(np.count_nonzero(answered_by[self.truth] != NOBODY))
        at, found, envelope = self._envelope(answered_by[self.image] == self.detector)
        reached = _points(there)[found] if there else 0 * envelope
        return np.bincount(at, weights=reached * envelope, minlength=self.ious) / len(RECALLS), there

    def curve(self) -> F64:
        """float64 (T, 101): the precision at each point of recall, where every row counts."""
        at, _, envelope = self._envelope(np.ones(len(self.image), bool))
        first = np.searchsorted(np.arange(len(self.truth) + 1) / len(self.truth), RECALLS, side="left")
        missing = np.zeros(len(self.truth))
        return np.stack([np.append(envelope[at == t], missing)[np.maximum(first, 1) - 1] for t in range(self.ious)])

    def _envelope(self, active: NDArray[np.bool_]) -> tuple[I64, I64, F64]:
        """Of the *active* rows, for each that is right at an IoU: (the IoU's place, how many are right up to it, the
        best precision from it on)."""
        kept = np.flatnonzero(active[self.right[1]])
        at, row = self.right[0][kept], self.right[1][kept]
        seen = np.cumsum(active)[row]
        if self.spared.size:
            n, spared = len(active), self.spared[:, active[self.spared[1]]]
            places = spared[0] * n + spared[1]
            seen = seen - np.searchsorted(places, at * n + row) + np.searchsorted(places, at * n)
        number = np.bincount(at, minlength=self.ious)
        found = np.arange(1, len(row) + 1) - np.repeat(np.cumsum(number) - number, number)
        # the envelope of each IoU by itself: whatever comes later in the array is lower by 2
        precision = found / (seen + np.spacing(1)) - 2.0 * at
        return at, found, np.maximum.accumulate(precision[::-1])[::-1] + 2.0 * at

    def recall(self) -> float:
        """The share of the true boxes that is found, a mean over the IoUs."""
        return int(self.right.shape[1]) / self.ious / len(self.truth)


@lru_cache(maxsize=4096)
def _points(there: int) -> F64:
    """float64 (there + 1,): how many of the points of recall each right box is the first to reach, of so many."""
    first = np.searchsorted(np.arange(there + 1) / there, RECALLS, side="left")
    return np.bincount(np.maximum(first, 1), minlength=there + 1).astype(np.float64)


@lru_cache(maxsize=8)
def _classes(states: tuple[Matches, ...]) -> tuple[tuple[_Class, ...], I64, I64]:
    """(the classes of the true boxes; for every image and each class that is in it, or that a detector finds there, the
    image and the class's place, sorted by image)."""
    image, label, score = (
        np.concatenate([one.score.owner for one in states]),
        np.concatenate([one.label.values for one in states]),
        np.concatenate([one.score.values for one in states]),
    )
    detector = np.repeat(np.arange(len(states)), [len(one.score.values) for one in states])
    right, counts = (
        np.ascontiguousarray(np.concatenate([getattr(one, what).values for one in states]).T)
        for what in ("right", "counts")
    )
    order = np.lexsort((image, -score, label))  # stable: an image's boxes stay in the order of their ranks
    truth, of_truth = states[0].truth.owner, states[0].truth.values
    by_class = np.argsort(of_truth, kind="stable")
    names = np.unique(of_truth)
    found, places = [], []
    for place, name in enumerate(names.tolist()):
        low, high = np.searchsorted(label[order], [name, name + 1])
        first, last = np.searchsorted(of_truth[by_class], [name, name + 1])
        rows, own = order[low:high], truth[by_class[first:last]]
        flat = [np.stack(np.nonzero(what[:, rows])) for what in (right, ~counts)]
        found.append(_Class(image[rows], detector[rows], flat[0], flat[1], own, len(right)))
        there = np.unique(np.concatenate([image[rows], own]))
        places.append(np.stack([there, np.full(len(there), place)]))
    pairs = np.concatenate(places, axis=1) if places else np.zeros((2, 0), np.int64)
    pairs = pairs[:, np.argsort(pairs[0], kind="stable")]
    return tuple(found), pairs[0], pairs[1]


def mean_precision(states: tuple[Matches, ...], answered_by: I64) -> float:
    """mAP in [0, 1] where detector *answered_by* (N,) of K answers each image, or nobody: a mean over the classes that
    are in the images, 0 where none is."""
    return float(mean_precisions(states, [answered_by])[0])


def mean_precisions(states: tuple[Matches, ...], routings: Iterable[I64]) -> F64:
    """mAP of each of many routings, fast where neighbours differ in few images."""
    classes, image, place = _classes(states)
    value, there = np.zeros(len(classes)), np.zeros(len(classes), np.int64)
    before: I64 | None = None
    means = []
    for answered_by in routings:
        touched = np.arange(len(classes))
        if before is not None:
            moved = np.flatnonzero(answered_by != before)
            low, high = np.searchsorted(image, moved, "left"), np.searchsorted(image, moved, "right")
            touched = np.unique(np.concatenate([place[:0], *(place[a:b] for a, b in zip(low, high, strict=True))]))
        for c in touched.tolist():
            at_each, there[c] = classes[c].precision(answered_by)
            value[c] = at_each.mean()
        before = answered_by
        means.append(float(value[there > 0].mean()) if there.any() else 0.0)
    return np.array(means)


def coco_table(boxes: Boxes, truth: TrueBoxes) -> dict[str, float]:
    """The twelve figures that COCO prints of a detector, in [0, 1], by name; NaN where no true box is of that size."""
    matches = {name: match(boxes, truth, area=area) for name, area in AREAS.items()}
    precision = {name: _over_classes(one) for name, one in matches.items()}
    table = {"AP": float(np.mean(precision["all"]))}
    table |= {f"AP{100 * IOUS[t]:.0f}": float(precision["all"][t]) for t in (0, 5)}
    table |= {f"AP {name}": float(np.mean(precision[name])) for name in AREAS if name != "all"}
    table |= {f"AR {most}": _recall(match(boxes, truth, most=most)) for most in (1, 10)}
    return table | {"AR 100" if name == "all" else f"AR {name}": _recall(one) for name, one in matches.items()}


def class_precisions(boxes: Boxes, truth: TrueBoxes) -> F64:
    """float64 (C,): the average precision of each class by its number, a mean over the IoUs; NaN without true boxes.
    Numbers that are too large to have names are left out: the array would be as long."""
    matches = match(boxes, truth)
    names, alone = np.unique(matches.truth.values), np.zeros(len(matches), np.int64)
    precision = np.array([one.precision(alone)[0].mean() for one in _classes((matches,))[0]], np.float64)
    named = (names >= 0) & (names < MOST_NAMED)
    found = np.full(int(names[named].max(initial=-1)) + 1, np.nan)
    found[names[named]] = precision[named]
    return found


def precision_curves(boxes: Boxes, truth: TrueBoxes) -> dict[str, tuple[F64, F64]]:
    """(recall, precision), each float64 (101,), at IoU .50 and .75: a mean over the classes that have true boxes."""
    curves = [one.curve() for one in _classes((match(boxes, truth),))[0]]
    mean = np.mean(curves, axis=0) if curves else np.zeros((len(IOUS), len(RECALLS)))
    return {f"IoU .{100 * IOUS[t]:.0f}": (RECALLS, mean[t]) for t in (0, 5)}


def _over_classes(matches: Matches) -> F64:
    """float64 (T,): the mean average precision at each IoU."""
    alone = np.zeros(len(matches), np.int64)
    found = [one.precision(alone)[0] for one in _classes((matches,))[0]]
    return np.mean(found, axis=0) if found else np.full(len(IOUS), np.nan)


def _recall(matches: Matches) -> float:
    found = [one.recall() for one in _classes((matches,))[0]]
    return float(np.mean(found)) if found else float("nan")
