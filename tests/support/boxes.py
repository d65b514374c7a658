"""Made detections: boxes of a detector beside true ones, as arrays and as COCO's own JSON."""

from __future__ import annotations

from typing import Any

import numpy as np

from pilotfish.scores.ragged import Ragged
from pilotfish.tasks.box_matching import Boxes, TrueBoxes


def made_truth(seed: int, images: int = 12, classes: int = 4, most: int = 6, crowds: float = 0.1) -> TrueBoxes:
    """Boxes of all three sizes, on whole and on half pixels; some images have none, some boxes are crowds."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most + 1, images)
    m = int(counts.sum())
    side = np.exp(rng.uniform(np.log(8), np.log(200), (m, 2)))
    box = np.round(2 * np.concatenate([rng.uniform(0, 300, (m, 2)), side], axis=1)) / 2
    label, crowd = rng.choice(np.array([1, 3, 7, 90])[:classes], m), rng.uniform(size=m) < crowds
    area = np.round(box[:, 2] * box[:, 3] * rng.uniform(0.4, 1, m), 2)
    lists = [Ragged.by_counts(values, counts) for values in (box, label, crowd, area)]
    return TrueBoxes(*lists, known=np.ones(images, bool))


def made_boxes(truth: TrueBoxes, seed: int, skill: float = 0.7, ties: bool = True, spare: int = 3) -> Boxes:
    """What a detector finds: true boxes moved a little, twice now and then, and up to *spare* others per image. With
    *ties* scores are of ten values only."""
    rng = np.random.default_rng([seed, 7])
    classes = np.unique(np.append(truth.label.values, [1, 50]))
    boxes, labels, scores = [], [], []
    for i in range(len(truth)):
        box, label = truth.box[[i]].values, truth.label[[i]].values
        kept = np.repeat(np.arange(len(box)), rng.choice(3, len(box), p=[1 - skill, 0.8 * skill, 0.2 * skill]))
        near = box[kept] + np.round(rng.normal(size=(len(kept), 4)) * 0.05 * box[kept][:, [2, 3, 2, 3]])
        others = rng.integers(0, spare + 1)
        far = np.round(np.concatenate([rng.uniform(0, 300, (others, 2)), rng.uniform(4, 150, (others, 2))], axis=1))
        found = np.concatenate([near, far])
        found[:, 2:] = np.maximum(found[:, 2:], 1)
        boxes.append(found)
        labels.append(np.concatenate([label[kept], rng.choice(classes, others)]))
        score = rng.beta(np.concatenate([np.full(len(kept), 4.0), np.full(others, 1.5)]), 2)
        scores.append(np.ceil(10 * score) / 10 if ties else score)
    return Boxes(Ragged.of(boxes, shape=(4,)), Ragged.of(scores), Ragged.of(labels, np.int64))


def mixed(parts: list[Boxes], answered_by: np.ndarray) -> Boxes:
    """The boxes of whoever answers each image."""
    rows = [(parts[k], i) for i, k in enumerate(answered_by.tolist())]
    fields = {
        name: Ragged.of([getattr(one, name)[[i]].values for one, i in rows], dtype, shape)
        for name, dtype, shape in (("box", np.float64, (4,)), ("score", np.float64, ()), ("label", np.int64, ()))
    }
    return Boxes(**fields)


def instances(truth: TrueBoxes, categories: list[int] | None = None, first: int = 100) -> dict[str, Any]:
    """COCO's instances JSON: image i has the id *first* + 3 i."""
    ids = (first + 3 * np.arange(len(truth))).tolist()
    found = sorted({*truth.label.values.tolist(), 1, 50}) if categories is None else categories
    rows = zip(
        truth.box.owner.tolist(),
        truth.box.values.tolist(),
        truth.label.values.tolist(),
        truth.crowd.values.tolist(),
        truth.area.values.tolist(),
        strict=True,
    )
    return {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in ids],
        "annotations": [
            {"id": n, "image_id": ids[i], "bbox": box, "category_id": c, "iscrowd": int(crowd), "area": area}
            for n, (i, box, c, crowd, area) in enumerate(rows, 1)
        ],
        "categories": [{"id": c, "name": f"class {c}"} for c in found],
    }


def results(boxes: Boxes, first: int = 100) -> list[dict[str, Any]]:
    """COCO's results JSON of the same images."""
    rows = zip(
        (first + 3 * boxes.box.owner).tolist(),
        boxes.label.values.tolist(),
        boxes.box.values.tolist(),
        boxes.score.values.tolist(),
        strict=True,
    )
    return [{"image_id": i, "category_id": c, "bbox": box, "score": score} for i, c, box, score in rows]


def oracle(module: str, truth: TrueBoxes, boxes: Boxes) -> Any:
    """A finished evaluation by ``pycocotools`` or ``faster_coco_eval``."""
    import contextlib
    import io

    given, found = instances(truth), results(boxes)
    with contextlib.redirect_stdout(io.StringIO()):
        if module == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval as Evaluation
        else:
            from faster_coco_eval import COCO
            from faster_coco_eval import COCOeval_faster as Evaluation
        coco = COCO()
        coco.dataset = given
        coco.createIndex()
        evaluation = Evaluation(coco, coco.loadRes(found) if found else None, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
