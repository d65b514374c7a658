"""Boxes with a class and a score: detection, measured as COCO measures it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import AlignmentError, ModelError, RecordsError
from pilotfish.reading.coco_json import NO_NAME
from pilotfish.scores import ScoreKind
from pilotfish.scores.outputs import I64
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks.box_matching import Boxes, TrueBoxes, match
from pilotfish.tasks.box_scores import (
    SURE,
    check_scores,
    fit_learned,
    fit_scores,
    image_f1,
    learned,
    mean_score,
    soft_f1,
    with_scores,
)
from pilotfish.tasks.chance import FEWEST, Verdict
from pilotfish.tasks.drawing import draw_boxes
from pilotfish.tasks.mean_precision import (
    class_precisions,
    coco_table,
    mean_precision,
    mean_precisions,
    precision_curves,
)
from pilotfish.tasks.task import Adjustment, Column, Metric, Task, register
from pilotfish.text import examples, quantity

F64 = NDArray[np.float64]


def reduce_boxes(raw: Any, rows: int, model: str, keep: int | str = 1) -> Boxes:
    """A list of *rows* answers, each a dictionary as torchvision's detectors give it: ``boxes`` (m, 4), corners x1, y1,
    x2, y2 in pixels of the image, ``scores`` (m,) and ``labels`` (m,); or the three as a tuple."""
    if isinstance(raw, Boxes):
        raw_rows = len(raw)
    else:
        raw_rows = len(raw) if isinstance(raw, (list, tuple)) else -1
    if raw_rows != rows:
        found = type(raw).__name__ if raw_rows < 0 else f"{raw_rows} of them"
        raise ModelError(
            f"{model}: expected boxes for {rows} images, a list of dictionaries with boxes (m, 4), scores (m,) and "
            f"labels (m,); found {found}"
        )
    if isinstance(raw, Boxes):
        return raw
    parts = [_checked(one, model) for one in raw]
    return Boxes(
        Ragged.of([box for box, _, _ in parts], shape=(4,)),
        Ragged.of([score for _, score, _ in parts]),
        Ragged.of([label for _, _, label in parts], np.int64),
    )


def _checked(answer: Any, model: str) -> tuple[F64, F64, I64]:
    """(box (m, 4) as COCO has it, score (m,), label (m,)) of one image."""
    try:
        given = [answer[name] for name in ("boxes", "scores", "labels")] if isinstance(answer, dict) else list(answer)
        corners, score, label = (np.asarray(values) for values in given)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{model}: expected boxes (m, 4), scores (m,) and labels (m,) for each image, found "
            f"{sorted(answer) if isinstance(answer, dict) else type(answer).__name__}"
        ) from error
    m = score.size
    if corners.size == 0:
        corners = corners.reshape(0, 4)
    if corners.shape != (m, 4) or label.shape != (m,) or score.shape != (m,) or label.dtype.kind not in "iuf":
        raise ModelError(
            f"{model}: expected boxes (m, 4), scores (m,) and labels (m,), found {corners.shape}, {score.shape} and "
            f"{label.dtype} {label.shape}"
        )
    corners = corners.astype(np.float64)
    box = np.concatenate([corners[:, :2], np.maximum(corners[:, 2:] - corners[:, :2], 0.0)], axis=1)
    return box, score.astype(np.float64), label.astype(np.int64)


def no_truth(n: int) -> TrueBoxes:
    """Nothing is known of n images."""
    none = np.zeros(n, np.int64)
    empty = TrueBoxes.of(none, np.empty((0, 4)), none[:0], np.empty(0, bool), np.empty(0))
    return replace(empty, known=np.zeros(n, bool))


def as_truth(boxes: Boxes) -> TrueBoxes:
    """A base without labels is right: its boxes of score .5 and more."""
    kept = boxes.score.values >= SURE
    counts = np.bincount(boxes.score.owner[kept], minlength=len(boxes))
    box = boxes.box.values[kept]
    return TrueBoxes.of(counts, box, boxes.label.values[kept], np.zeros(len(box), bool), box[:, 2] * box[:, 3])


def answers(boxes: Boxes) -> NDArray[Any]:
    """object (N,): per image a dictionary: ``box`` (m, 4) as x, y, width, height, ``score`` (m,) and ``label`` (m,)."""
    found = np.empty(len(boxes), object)
    for i, (low, high) in enumerate(zip(boxes.score.offsets[:-1], boxes.score.offsets[1:], strict=True)):
        found[i] = {name: values.values[low:high] for name, values in vars(boxes).items()}
    return found


def of_answers(said: Sequence[Any]) -> Boxes:
    """What :func:`answers` gave, as boxes again."""
    return Boxes(
        Ragged.of([one["box"] for one in said], shape=(4,)),
        Ragged.of([one["score"] for one in said]),
        Ragged.of([one["label"] for one in said], np.int64),
    )


def says(answer: Any, names: Sequence[str] | None) -> tuple[Any, str | None]:
    """(a list of boxes with label, name, score and box, surest first; what they are of: "2 dog, 1 cat")."""
    rows = []
    for at in np.argsort(-answer["score"], kind="stable").tolist():
        label = int(answer["label"][at])
        name = names[label] if names and 0 <= label < len(names) and names[label] != NO_NAME else None
        score, box = float(answer["score"][at]), answer["box"][at].tolist()
        rows.append({"label": label, "name": name, "score": score, "box": box})
    kinds = Counter(row["name"] or f"class {row['label']}" for row in rows if row["score"] >= SURE)
    nothing = f"no box of score {SURE:g} or more" if rows else "nothing"
    return rows, ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()) or nothing


def check_boxes(model: str, truth: TrueBoxes, outputs: Boxes, n_classes: int | None) -> None:
    """RecordsError, which names an image's row, for boxes that are none."""
    for what, parts in (("", outputs), ("truth_", truth)):
        lists = {name: values for name, values in vars(parts).items() if isinstance(values, Ragged)}
        for name, values in lists.items():
            expected = (4,) if name == "box" else ()
            if values.values.shape[1:] != expected:
                raise RecordsError(
                    f"{model}: {what}{name} has entries of shape {values.values.shape[1:]}, not {expected}"
                )
            if (uneven := np.flatnonzero(values.counts != lists["box"].counts)).size:
                row = int(uneven[0])
                raise RecordsError(
                    f"{model}: row {row} has {lists['box'].counts[row]} boxes and {values.counts[row]} entries in "
                    f"{what}{name}; these must be equally many"
                )
            if values.values.dtype.kind == "f" and not (fine := values.all_true(np.isfinite(values.values))).all():
                row = int(np.argmin(fine))
                raise RecordsError(f"{model}: {what}{name} of row {row} is not finite throughout; leave such boxes out")


def match_classes(records: Any, base: Any) -> None:
    """AlignmentError where a class number means another class in the other model's records."""
    mine, theirs = records.meta.class_names or (), base.meta.class_names or ()
    pairs = zip(mine, theirs, strict=False)
    if wrong := [f"{i} is {a!r} and {b!r}" for i, (a, b) in enumerate(pairs) if a != b and NO_NAME not in (a, b)]:
        raise AlignmentError(
            f"the classes of {records.meta.model} and {base.meta.model} are numbered differently: {examples(wrong)}; "
            "bring the boxes into one numbering and record again"
        )


def place(truth: TrueBoxes, data: Any, classes: Any) -> tuple[TrueBoxes, tuple[str, ...]]:
    """The true boxes in the model's class numbers, by the names of the classes; as they are where either has none."""
    theirs, own = data.class_names, classes.names
    if theirs is None or own is None:
        unnamed = f"{classes.spec} names no classes" if own is None else f"the categories of {data.spec} have no names"
        return truth, (f"{unnamed}: the model's class numbers are taken to be the ids of categories",)
    there = {_plain(name): i for i, name in reversed(list(enumerate(own))) if name != NO_NAME}
    number = np.arange(len(theirs))
    lacking = []
    for i, name in enumerate(theirs):
        if name != NO_NAME:
            number[i] = there.get(_plain(name), len(own) + i)
            lacking += [] if _plain(name) in there else [name]
    if len(lacking) == sum(name != NO_NAME for name in theirs):
        return truth, (f"no class of {classes.spec} is called as one of {data.spec}: numbers are taken as they are",)
    notes: tuple[str, ...] = ()
    if lacking:
        lacked = quantity(len(lacking), f"class of {data.spec} is", f"classes of {data.spec} are")
        notes = (f"{lacked} none of {classes.spec}: {examples(lacking)}",)
    label = Ragged(number[truth.label.values], truth.label.offsets)
    return TrueBoxes(truth.box, label, truth.crowd, truth.area, truth.known), notes


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def _value(states: Any, answered_by: I64) -> float:
    return mean_precision(tuple(states), answered_by)


def _along(states: Any, routings: Iterable[I64]) -> F64:
    return mean_precisions(tuple(states), routings)


MAP = Metric("map", "mAP", "rank", states=match, value=_value, along=_along)
AP50 = Metric("ap50", "AP50", "rank", states=partial(match, ious=(0.5,)), value=_value, along=_along)
IMAGE_F1 = Metric("image_f1", "F1 per image", quality=image_f1)


def judge_boxes(truth: TrueBoxes, outputs: Boxes, n_classes: int | None) -> Verdict:
    """Whether there is anything to find: without a true box every detector is as good as any other."""
    n = int(np.count_nonzero(truth.known))
    if not n or len(truth.box.values):
        return Verdict(n, 0.0, 0.0)
    nothing = f"no box is true in any of the {n:,} images: by mAP every detector is as good as any other"
    return Verdict(n, 0.0, 0.0, n >= FEWEST, nothing)


BOXES = register(
    Task(
        name="boxes",
        metric=MAP,
        metrics=(AP50, IMAGE_F1),
        quality=soft_f1,
        outputs=Boxes,
        columns={
            "box": Column("box", np.float64, dims=2, ragged=True),
            "score": Column("score", np.float64, ragged=True),
            "label": Column("label", np.int64, ragged=True),
        },
        no_truth=no_truth,
        truth_columns={
            "box": Column("truth_box", np.float64, dims=2, ragged=True),
            "label": Column("truth_label", np.int64, ragged=True),
            "crowd": Column("truth_crowd", np.bool_, ragged=True),
            "area": Column("truth_area", np.float64, ragged=True),
            "known": Column("truth_known", np.bool_),
        },
        truth_of=TrueBoxes,
        place=place,
        adjustment=Adjustment(fit_scores, with_scores, check_scores),
        reduce=reduce_boxes,
        reference=as_truth,
        missing=None,
        answer=answers,
        of_answers=of_answers,
        says=says,
        draw=lambda image, said, names: draw_boxes(image, said),
        by_class=("AP", class_precisions),
        figures=coco_table,
        curves=precision_curves,
        scores={
            kind.name: kind
            for kind in (
                ScoreKind("mean_score", mean_score),
                ScoreKind("learned", learned, fit=fit_learned, candidate=True),
            )
        },
        check=check_boxes,
        match=match_classes,
        judge=judge_boxes,
    )
)
