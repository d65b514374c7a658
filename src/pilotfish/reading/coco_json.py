"""COCO's own JSON: what is in images ("instances"), and what a detector found in them ("results").

Nothing is converted: boxes stay x, y, width, height in pixels, categories keep their ids, and images are in the order
of their ids, as pycocotools has them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import PilotfishError
from pilotfish.files import without_duplicates
from pilotfish.reading.limits import check_size
from pilotfish.text import examples, one_line, quantity

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
TIMES = 8
"""Bytes in memory of a byte of JSON, about."""
BLOCK = 50_000  # rows that are Python objects at a time
MOST_NAMED = 100_000
"""Category ids below it have names in records, which count from 0."""
NO_NAME = "N/A"
"""The name of an id that no category has, as in torchvision's lists."""
ROW = "expected rows with image_id, category_id, bbox (x, y, width, height) and score"


@dataclass(frozen=True)
class Found:
    """M boxes: image ids as they were written; category int64 (M,), box float64 (M, 4), score float64 (M,), NaN for a
    true box."""

    image: tuple[Any, ...]
    category: I64
    box: F64
    score: F64


@dataclass(frozen=True)
class Instances:
    """What a file of instances says.

    images      ids in their order, with the file's name and the size (width, height) in pixels, 0 where it is not said
    categories  names by id
    boxes       the true boxes; None where the file has no annotations
    crowd, area  bool and float64 (M,)
    """

    images: tuple[Any, ...]
    files: tuple[str, ...]
    sizes: F64
    categories: Mapping[int, str]
    boxes: Found | None
    crowd: NDArray[np.bool_]
    area: F64
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names by id, from 0; None where there are none, or an id is too large."""
        if not self.categories or max(self.categories) >= MOST_NAMED or min(self.categories) < 0:
            return None
        return tuple(self.categories.get(i, NO_NAME) for i in range(max(self.categories) + 1))


def looks_like_coco(path: Path) -> bool:
    """Whether a .json begins with rows that have a ``bbox``, or is an empty list: a detector that found nothing."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(2**16).lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"[") and (b'"bbox"' in head or not head.strip(b"[] \t\r\n"))


def read_results(path: Path, error: type[PilotfishError]) -> Found:
    """A list of results. *error*, which names the row, for anything else; numbers may be NaN."""
    text = _text(path, error)
    begin = len(text) - len(text.lstrip())
    if text[begin : begin + 1] != "[":
        what = "instances: give them with --labels" if '"annotations"' in text else "no list of results"
        raise error(f"{path} holds {what}; {ROW}")
    blocks, rows, at = [], _rows(path, text, begin + 1, error), 0
    while block := list(islice(rows, BLOCK)):
        blocks.append(_boxes(path, block, at, "score", error))
        at += len(block)
    if not blocks:
        return Found((), np.empty(0, np.int64), np.empty((0, 4)), np.empty(0))
    image = tuple(i for block in blocks for i in block.image)
    category, box, score = (np.concatenate([getattr(b, name) for b in blocks]) for name in ("category", "box", "score"))
    return Found(image, category, box, score)


def read_instances(path: Path, error: type[PilotfishError]) -> Instances:
    """COCO's instances: ``images``, ``categories`` and ``annotations``, the last of which may be missing."""
    try:
        document = json.loads(_text(path, error), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as reason:
        raise error(f"{path}: not valid JSON ({one_line(str(reason))[:200]})") from reason
    wanted = "expected COCO's instances, an object with images, annotations and categories"
    if not isinstance(document, dict) or not _objects(document.get("images")):
        raise error(f"{path}: {wanted}; found {one_line(type(document).__name__)} without a list of images")
    for what in ("annotations", "categories"):
        if what in document and not (document[what] == [] or _objects(document[what])):
            raise error(f"{path}: its {what} are no list of objects; {wanted}")
    images, files, sizes = _images(path, document["images"], error)
    categories, notes = _categories(path, document.get("categories", []), error)
    if "annotations" not in document:
        notes.append(f"{path.name} has images and no annotations: the truth is not known")
        return Instances(images, files, sizes, categories, None, np.empty(0, bool), np.empty(0), tuple(notes))
    rows, there = document["annotations"], set(images)
    kept = [row for row in rows if row.get("image_id") in there and row.get("category_id") in categories]
    if len(kept) < len(rows):
        left = quantity(len(rows) - len(kept), "annotation")
        notes.append(f"{path.name}: {left} of no image or category in it: not read")
    boxes = _boxes(path, kept, 0, None, error)
    if not np.isfinite(boxes.box).all():
        raise error(f"{path}: an annotation's bbox is not finite; {wanted}")
    crowd, area = (_of_annotations(path, kept, what, error) for what in ("iscrowd", "area"))
    size = boxes.box[:, 2] * boxes.box[:, 3]
    if (without := ~((area >= 0) & np.isfinite(area))).any():
        left = quantity(int(without.sum()), "annotation has", "annotations have")
        notes.append(f"{path.name}: {left} no area of 0 or more: that of the box is used")
    notes += _odd_annotations(path, kept, boxes, crowd)
    found = np.where(without, size, area)
    return Instances(images, files, sizes, categories, boxes, np.nan_to_num(crowd) != 0, found, tuple(notes))


def doubles(*columns: NDArray[Any]) -> NDArray[np.intp]:
    """The rows that say what an earlier row says, in rising order, of *columns* (N,) or (N, K)."""
    keys = np.column_stack(columns)
    order = np.lexsort(keys.T[::-1])
    return np.sort(order[1:][(np.diff(keys[order], axis=0) == 0).all(axis=1)])


def _categories(path: Path, rows: Sequence[Any], error: type[PilotfishError]) -> tuple[dict[int, str], list[str]]:
    """(names by id, what is odd about them)."""
    found: dict[int, str] = {}
    twice = []
    for row in rows:
        number, name = row.get("id"), row.get("name", "")
        if type(number) is not int or not isinstance(name, str):
            raise error(f"{path}: a category without a whole number as its id: {one_line(str(row))[:80]}")
        name = name or str(number)
        if found.get(number, name) != name:
            both = f"{one_line(found[number])[:40]!r} and {one_line(name)[:40]!r}"
            raise error(f"{path}: category id {number} is that of {both}; give each category an id of its own")
        twice += [str(number)] if number in found else []
        found[number] = name
    said = quantity(len(twice), "category stands", "categories stand")
    return found, [f"{path.name}: {said} more than once, id {examples(twice)}: read once"] if twice else []


def _of_annotations(path: Path, rows: Sequence[Any], what: str, error: type[PilotfishError]) -> F64:
    """A number of every annotation, float64 (M,), NaN where it has none."""
    values = [row.get(what) for row in rows]
    for at, value in enumerate(values):
        if value is not None and not isinstance(value, int | float):
            shown = one_line(json.dumps(value, default=str))[:40]
            raise error(f"{path}: {what} of annotation {at} is {shown}; expected a number")
    return np.array(values, np.float64)


def _odd_annotations(path: Path, rows: Sequence[Any], boxes: Found, crowd: F64) -> list[str]:
    """What is odd about true boxes that are read as they are."""
    notes = []
    if len(odd := np.unique(crowd[~np.isin(crowd, (0, 1)) & ~np.isnan(crowd)])):
        left = quantity(int(np.isin(crowd, odd).sum()), "annotation has", "annotations have")
        shown = examples([f"{value:g}" for value in odd.tolist()])
        notes.append(f"{path.name}: {left} an iscrowd other than 0 and 1 ({shown}): read as crowds")
    places = {i: at for at, i in enumerate(dict.fromkeys(boxes.image))}
    image = np.array([places[i] for i in boxes.image], np.int64)
    if len(again := doubles(image, boxes.category, boxes.box)):
        left = quantity(len(again), "annotation repeats another", "annotations repeat others")
        where = f"image {one_line(str(boxes.image[again[0]]))[:40]} first"
        notes.append(f"{path.name}: {left}, box and category alike, of {where}: each counts as an object of its own")
    ids = Counter(row["id"] for row in rows if isinstance(row.get("id"), int | str))
    if twice := [one_line(str(i))[:40] for i, n in ids.items() if n > 1]:
        left = quantity(len(twice), "annotation id stands", "annotation ids stand")
        notes.append(
            f"{path.name}: {left} more than once ({examples(twice)}): all are read, pycocotools reads the last one"
        )
    if (turned := (boxes.box[:, 2:] < 0).any(axis=1)).any():
        left = quantity(int(turned.sum()), "annotation has", "annotations have")
        notes.append(f"{path.name}: {left} a negative width or height, which no box fits: are they x1, y1, x2, y2?")
    return notes


def image_order(images: Sequence[Any]) -> list[int]:
    """Places of images in the order of their ids: numbers by size, others as text."""
    numbers = all(type(i) is int for i in images)
    return sorted(range(len(images)), key=lambda at: images[at] if numbers else str(images[at]))


def _text(path: Path, error: type[PilotfishError]) -> str:
    if not path.is_file():
        raise error(f"{path}: no such file; expected COCO's JSON")
    check_size(str(path), TIMES * path.stat().st_size, None, error)
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as reason:
        raise error(f"{path}: cannot be read ({one_line(str(reason))[:120]})") from reason


def _rows(path: Path, text: str, at: int, error: type[PilotfishError]) -> Iterator[Any]:
    """The rows of a list, one by one: a million of them as Python objects would fill the memory."""
    decode, n, end = json.JSONDecoder(object_pairs_hook=without_duplicates).raw_decode, 0, len(text)

    def skip(at: int) -> int:
        while at < end and text[at] in " \t\r\n":
            at += 1
        return at

    at = skip(at)
    if text[at : at + 1] == "]":
        return
    while True:
        try:
            row, at = decode(text, at)
        except (ValueError, RecursionError) as reason:
            raise error(f"{path}: row {n} is not valid JSON ({one_line(str(reason))[:120]})") from reason
        yield row
        n, at = n + 1, skip(at)
        if text[at : at + 1] != ",":
            break
        at = skip(at + 1)
    if text[at : at + 1] != "]":
        raise error(f"{path}: the list breaks off after {quantity(n, 'row')}; was the file cut short?")


def _objects(rows: Any) -> bool:
    return isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) for row in rows)


def _boxes(path: Path, rows: Sequence[Any], at: int, score: str | None, error: type[PilotfishError]) -> Found:
    try:
        image = tuple(row["image_id"] for row in rows)
        category = np.array([row["category_id"] for row in rows])
        box = np.array([row["bbox"] for row in rows], np.float64)
        scores = np.array([row[score] for row in rows], np.float64) if score else np.full(len(rows), np.nan)
    except (KeyError, TypeError, ValueError):
        image, category, box, scores = (), np.empty(0), np.empty(0), np.empty(0)
    sound = category.dtype.kind in "iu" and box.shape == (len(rows), 4) and scores.shape == (len(rows),)
    if rows and not (sound and all(type(i) is int or isinstance(i, str) for i in image)):
        number, row = next(((at + i, row) for i, row in enumerate(rows) if not _is_box(row, score)), (at, rows[0]))
        raise error(f"{path}: row {number} is {one_line(json.dumps(row, default=str))[:120]}; {ROW}")
    return Found(image, category.astype(np.int64), box.reshape(-1, 4), scores)


def _is_box(row: Any, score: str | None) -> bool:
    if not isinstance(row, dict):
        return False
    box, number = row.get("bbox"), (int, float)
    return (
        isinstance(row.get("image_id"), (int, str))
        and type(row.get("category_id")) is int
        and isinstance(box, list)
        and len(box) == 4
        and all(isinstance(v, number) for v in box)
        and (score is None or isinstance(row.get(score), number))
    )


def _images(
    path: Path, rows: Sequence[Any], error: type[PilotfishError]
) -> tuple[tuple[Any, ...], tuple[str, ...], F64]:
    ids = [row.get("id") for row in rows]
    if bad := [i for i in ids if type(i) is not int and not isinstance(i, str)]:
        raise error(f"{path}: an image has the id {one_line(str(bad[0]))[:40]}; expected a whole number or a text")
    if twice := [i for i, n in Counter(map(str, ids)).items() if n > 1]:
        raise error(f"{path}: image id {one_line(twice[0])[:40]} stands more than once; ids are unique")
    order = image_order(ids)
    files = tuple(str(rows[at].get("file_name", "")) for at in order)
    sides = [[rows[at].get(side, 0) or 0 for side in ("width", "height")] for at in order]
    for at, pair in zip(order, sides, strict=True):
        if not all(isinstance(side, int | float) for side in pair):
            raise error(
                f"{path}: image {one_line(str(ids[at]))[:40]} has width and height {str(pair)[:40]}; expected numbers"
            )
    sizes = np.array(sides, np.float64)
    return tuple(ids[at] for at in order), files, sizes
