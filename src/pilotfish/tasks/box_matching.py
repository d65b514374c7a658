"""Which boxes are right: COCO's matching of found boxes to true ones, per image, class and IoU.

Found boxes choose in the order of their scores. Each takes the free true box of its class that it overlaps most, if
the overlap is enough; of equals the later one. A crowd (one true box around many objects) is matched last and by any
number of boxes, which then count neither as right nor as wrong. The result equals pycocotools', for all IoUs at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.outputs import I64, SampleArrays, join_outputs
from pilotfish.scores.ragged import Ragged

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
IOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())
ANY_AREA = (0.0, 1e10)  # pixels², COCO's "all"
MOST_BOXES = 100  # per image and class; the others are not looked at
MOST_PAIRS = 4_000_000  # of a found and a true box that are compared at once


@dataclass(frozen=True)
class Boxes(SampleArrays):
    """The boxes that a detector found in N images.

    box    Ragged float64 (M, 4): x, y of the upper left corner, width, height, in pixels of the image
    score  Ragged float64 (M,), larger is surer
    label  Ragged int64 (M,), the category's id in the data
    """

    box: Ragged
    score: Ragged
    label: Ragged


@dataclass(frozen=True)
class TrueBoxes(SampleArrays):
    """The boxes that are in N images.

    box    Ragged float64 (M, 4), as :class:`Boxes` have them
    label  Ragged int64 (M,)
    crowd  Ragged bool (M,): one box around many objects
    area   Ragged float64 (M,): pixels² of the object, at most those of its box
    known  bool (N,): False where nothing is known of the image; an image without objects is known
    """

    box: Ragged
    label: Ragged
    crowd: Ragged
    area: Ragged
    known: Mask

    @classmethod
    def of(cls, counts: I64, box: F64, label: I64, crowd: Mask, area: F64) -> TrueBoxes:
        """Those of N images whose boxes are known, *counts* (N,) for each, one image after the other."""
        lists = [Ragged.by_counts(values, counts) for values in (box, label, crowd, area)]
        return cls(lists[0], lists[1], lists[2], lists[3], np.ones(len(counts), bool))


@dataclass(frozen=True, eq=False)  # itself, so that what is sorted once is kept by it
class Matches(SampleArrays):
    """How the boxes of N images fare at T IoUs; those of an image in the order of class and falling score.

    score, label  Ragged float64 and int64 (M,)
    right         Ragged bool (M, T): matched to a true box that counts
    counts        Ragged bool (M, T): False where it is neither right nor wrong: matched to a crowd, or of another size
    truth         Ragged int64: the classes of the true boxes that count
    """

    score: Ragged
    label: Ragged
    right: Ragged
    counts: Ragged
    truth: Ragged


def match(
    boxes: Boxes,
    truth: TrueBoxes,
    ious: Sequence[float] = IOUS,
    area: tuple[float, float] = ANY_AREA,
    most: int = MOST_BOXES,
) -> Matches:
    """Match the boxes of N images to the true ones.

    ious  T overlaps from which a box is right
    area  pixels² of the true boxes that count; found boxes of other sizes that match none count neither way
    most  boxes per image and class that are looked at, the best ones
    """
    n, image, of_truth = len(boxes), boxes.box.owner, truth.box.owner
    codes = np.unique(np.concatenate([boxes.label.values, truth.label.values]), return_inverse=True)[1]
    classes = int(codes.max(initial=0)) + 1
    group = image * classes + codes[: len(image)]  # of one image and class
    order = np.lexsort((-boxes.score.values, group))
    order = order[_places(group[order]) < most]
    image, group, rank = image[order], group[order], _places(group[order])
    box, score, label = boxes.box.values[order], boxes.score.values[order], boxes.label.values[order]

    theirs = of_truth * classes + codes[len(boxes.box.values) :]
    by_group = np.argsort(theirs, kind="stable")
    begin = np.searchsorted(theirs[by_group], group, "left")
    with_each = np.searchsorted(theirs[by_group], group, "right") - begin
    if with_each.sum() > MOST_PAIRS and n > 1:
        halves = [slice(0, n // 2), slice(n // 2, n)]
        return join_outputs([match(boxes.take(h), truth.take(h), ious, area, most) for h in halves])
    crowd = truth.crowd.values
    ignored = crowd | (truth.area.values < area[0]) | (truth.area.values > area[1])
    mine = np.repeat(np.arange(len(order)), with_each)
    true = by_group[np.repeat(begin - (np.cumsum(with_each) - with_each), with_each) + np.arange(len(mine))]
    overlap = _overlaps(box[mine], truth.box.values[true], crowd[true])
    enough = np.minimum(np.asarray(ious), 1 - 1e-10)
    near = overlap >= enough.min()
    mine, true, overlap = mine[near], true[near], overlap[near]
    # the best choice first: what counts, the largest overlap, the later one
    preferred = np.lexsort((-true, -overlap, ignored[true], mine, rank[mine]))
    mine, true, overlap = mine[preferred], true[preferred], overlap[preferred]

    right, counts = np.zeros((len(order), len(enough)), bool), np.ones((len(order), len(enough)), bool)
    taken = np.zeros((len(theirs), len(enough)), bool)
    cuts = np.flatnonzero(np.diff(rank[mine], prepend=-1, append=most))
    for low, high in pairwise(cuts.tolist()):  # one box of every group, which cannot meet
        found, choice = mine[low:high], true[low:high]
        free = (overlap[low:high, None] >= enough) & (crowd[choice, None] | ~taken[choice])
        first = np.flatnonzero(np.diff(found, prepend=-1))
        place = np.minimum.reduceat(np.where(free, np.arange(len(found))[:, None], len(found)), first, axis=0)
        who, at = np.nonzero(place < len(found))
        chosen = choice[place[who, at]]
        taken[chosen, at] = True
        right[found[first[who]], at] = ~ignored[chosen]
        counts[found[first[who]], at] = ~ignored[chosen]
    size = box[:, 2] * box[:, 3]
    outside = (size < area[0]) | (size > area[1])
    counts[outside] &= right[outside]
    per_image, valid = np.bincount(image, minlength=n), ~ignored
    return Matches(
        Ragged.by_counts(score, per_image),
        Ragged.by_counts(label, per_image),
        Ragged.by_counts(right, per_image),
        Ragged.by_counts(counts, per_image),
        Ragged.by_counts(truth.label.values[valid], np.bincount(of_truth[valid], minlength=n)),
    )


def _places(group: I64) -> I64:
    """The place of each of M entries among those of its group; entries of a group stand together."""
    first = np.flatnonzero(np.diff(group, prepend=-1))
    return np.asarray(np.arange(len(group)) - np.repeat(first, np.diff(first, append=len(group))))


def _overlaps(found: F64, true: F64, crowd: Mask) -> NDArray[Any]:
    """float64 (P,): IoU of P pairs of boxes (P, 4); with a crowd the share of the found box that lies in it."""
    low, high = (
        np.maximum(found[:, :2], true[:, :2]),
        np.minimum(found[:, :2] + found[:, 2:], true[:, :2] + true[:, 2:]),
    )
    side = high - low
    both = np.where((side > 0).all(axis=1), side[:, 0] * side[:, 1], 0.0)
    own, other = found[:, 2] * found[:, 3], true[:, 2] * true[:, 3]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = both / np.where(crowd, own, own + other - both)
    return np.where(both > 0, share, 0.0)
