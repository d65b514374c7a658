"""COCO's results as records of task ``boxes``: what a detector found, beside what is there."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import RecordsError, UsageError
from pilotfish.reading.coco_json import Found, Instances, doubles, image_order, read_instances, read_results
from pilotfish.records.records import Records, RecordsMeta, check, string_ids
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks.box_matching import Boxes, TrueBoxes
from pilotfish.tasks.boxes import no_truth
from pilotfish.text import examples, quantity

Mask = NDArray[np.bool_]
FEW = 0.9  # share of the images that have a box, below which it is said
PIXELS = 1.0  # by which a box may reach beyond its image before that is said


def import_coco(path: Path, meta: RecordsMeta, labels: Path | None, images: Path | None) -> Records:
    """The results in *path*, an image a row, in the order of their ids, with boxes or without.

    labels  COCO's instances: the true boxes, and which images there are
    images  without *labels*: the ids of the images, one a line

    RecordsError for what is no such file, or of other images or categories altogether.
    """
    if labels is not None and images is not None:
        raise UsageError("the instances given with --labels name the images; leave --images out")
    found = read_results(path, RecordsError)
    if labels is not None:
        there = read_instances(labels, RecordsError)
        ids, truth, notes = there.images, true_boxes(there), list(there.notes)
        meta = _with_classes(meta, there)
        where = labels.name
    else:
        ids, notes = _ids(found, images, path)
        there, truth, where = None, no_truth(len(ids)), "" if images is None else images.name
    boxes, said = _placed(path, found, ids, there, where)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    meta = replace(meta, source=f"imported:{path.name}", created=now, notes=(*notes, *said))
    return check(Records(string_ids([str(i) for i in ids]), truth, boxes, meta))


def true_boxes(there: Instances) -> TrueBoxes:
    """The true boxes of all images of a file of instances."""
    n = len(there.images)
    if there.boxes is None:
        return no_truth(n)
    order, counts = _by_image(there.boxes, {i: at for at, i in enumerate(there.images)}, n)
    found = there.boxes
    return TrueBoxes.of(counts, found.box[order], found.category[order], there.crowd[order], there.area[order])


def _by_image(boxes: Found, places: dict[Any, int], n: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """(the boxes of known images by image, else in their order; how many each of n images has)."""
    image = np.array([places.get(i, -1) for i in boxes.image], np.int64)
    order = np.argsort(image, kind="stable")[np.count_nonzero(image < 0) :]
    return order, np.bincount(image[order], minlength=n)


def _ids(found: Found, images: Path | None, path: Path) -> tuple[tuple[Any, ...], list[str]]:
    if images is None:
        ids = list(dict.fromkeys(found.image))
        if not ids:
            raise RecordsError(f"{path}: no boxes, and no images: name them with --labels INSTANCES or --images FILE")
        note = "images without a box are not known and left out: name all with --labels INSTANCES, or --images FILE"
        return tuple(ids[at] for at in image_order(ids)), [note]
    try:
        lines = images.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeError) as error:
        raise RecordsError(f"{images}: cannot be read ({error}); expected an image id a line") from error
    whole = all(type(i) is int for i in found.image)
    try:
        listed: list[Any] = [int(line) for line in lines] if whole else list(lines)
    except ValueError:
        raise RecordsError(f"{images}: {path.name} has whole numbers as ids, expected one a line") from None
    if not listed or len(set(listed)) < len(listed):
        raise RecordsError(f"{images}: {'no ids' if not listed else 'an id stands more than once'}; one a line each")
    return tuple(listed[at] for at in image_order(listed)), []


def _with_classes(meta: RecordsMeta, there: Instances) -> RecordsMeta:
    names = there.class_names
    return meta if names is None else replace(meta, n_classes=len(names), class_names=names)


def _placed(
    path: Path, found: Found, ids: tuple[Any, ...], there: Instances | None, where: str
) -> tuple[Boxes, list[str]]:
    """(the boxes of each image, what is odd about them)."""
    notes = []
    places = {i: at for at, i in enumerate(ids)}
    if found.image and not any(i in places for i in found.image):
        raise RecordsError(
            f"{path}: its image ids ({examples([str(i) for i in dict.fromkeys(found.image)])}) are none of {where} "
            f"({examples([str(i) for i in ids])}); are they of the same data?"
        )
    if spare := [i for i in found.image if i not in places]:
        shown = examples([str(i) for i in dict.fromkeys(spare)])
        left = quantity(len(spare), "box is of an image", "boxes are of images")
        notes.append(f"{left} that {where} does not have ({shown}): left out")
    bad = ~(np.isfinite(found.score) & np.isfinite(found.box).all(axis=1))
    if bad.any():
        first = found.image[int(np.argmax(bad))]
        left = quantity(int(bad.sum()), "box", "boxes")
        notes.append(f"left out, as the score or a place is no number: {left}, of image {first} first")
        kept = np.flatnonzero(~bad)
        image = tuple(found.image[at] for at in kept.tolist())
        found = Found(image, found.category[kept], found.box[kept], found.score[kept])
    order, counts = _by_image(found, places, len(ids))
    boxes = Boxes(*(Ragged.by_counts(values[order], counts) for values in (found.box, found.score, found.category)))
    empty = int((counts == 0).sum())
    if not counts.any():
        notes.append(f"no boxes at all in {path.name}, for {quantity(len(ids), 'image')}")
    elif empty > (1 - FEW) * len(ids):
        notes.append(f"{empty:,} of {quantity(len(ids), 'image')} without a box; are all results in {path.name}?")
    if len(again := doubles(boxes.box.owner, boxes.label.values, boxes.box.values, boxes.score.values)):
        repeated = quantity(len(again), "box repeats another", "boxes repeat others")
        first = ids[int(boxes.box.owner[again[0]])]
        notes.append(
            f"{repeated} of {path.name}, score and all, of image {first} first: kept, and wrong wherever the first of "
            "them is right; were results written twice?"
        )
    return boxes, [*notes, *_odd(path, boxes, there)]


def _odd(path: Path, boxes: Boxes, there: Instances | None) -> list[str]:
    notes, box, label = [], boxes.box.values, boxes.label.values
    if there is not None and there.categories and len(label):
        known = np.isin(label, list(there.categories))
        shown = examples([str(c) for c in np.unique(label[~known]).tolist()], 5)
        asked = "are categories numbered as in the instances' file?"
        if not known.any():
            raise RecordsError(f"{path}: none of its category ids ({shown}) is in the instances; {asked}")
        if not known.all():
            left = quantity(int((~known).sum()), "box is of a category", "boxes are of categories")
            notes.append(f"{left} that the instances lack ({shown}); {asked}")
        elif (last := max(there.categories)) > len(there.categories) > label.max() and len(there.categories) > 10:
            notes.append(f"no box is of categories {label.max() + 1} to {last}: {asked}")
    if (turned := (box[:, 2:] < 0).any(axis=1)).any():
        left = quantity(int(turned.sum()), "box has", "boxes have")
        notes.append(f"{left} a negative width or height, which fits nothing: are they x1, y1, x2, y2?")
    if there is not None and len(box):
        size = there.sizes[boxes.box.owner]
        outside = ((box[:, :2] < -PIXELS) | (box[:, :2] + box[:, 2:] > size + PIXELS)).any(axis=1) & (size > 0).all(
            axis=1
        )
        if outside.any():
            question = ": are they corners x1, y1, x2, y2?" if outside.mean() > 0.2 else "; kept as they are"
            left = quantity(int(outside.sum()), "box reaches beyond its image", "boxes reach beyond their image")
            notes.append(f"{left}{question}")
    score = boxes.score.values
    if len(score) and (score.min() < 0 or score.max() > 1):
        notes.append(
            f"scores run from {score.min():.4g} to {score.max():.4g}, not from 0 to 1: they are fitted in tuning"
        )
    return notes
