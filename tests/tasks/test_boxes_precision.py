"""Mean average precision of detectors and of their mixtures, against pycocotools and faster-coco-eval."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pilotfish.tasks.box_matching import match
from pilotfish.tasks.mean_precision import NOBODY, coco_table, mean_precision, mean_precisions
from support.boxes import made_boxes, made_truth, mixed, oracle

ORACLES = ["pycocotools", "faster_coco_eval"]
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ties": ({}, {}),
    "distinct scores": ({}, {"ties": False}),
    "crowds": ({"crowds": 0.6}, {}),
    "crowds alone": ({"crowds": 1.0}, {"spare": 1}),
    "more than 100 boxes": ({"images": 2, "classes": 1, "most": 30}, {"spare": 400}),
    "no false ones": ({}, {"spare": 0}),
    "hardly any found": ({}, {"skill": 0.05, "spare": 0}),
    "one class": ({"classes": 1, "most": 12}, {"spare": 12}),
    "empty images": ({"most": 1, "images": 30}, {}),
}


@pytest.mark.parametrize("module", ORACLES)
@pytest.mark.parametrize("case", CASES)
def test_the_table_is_what_coco_prints(module: str, case: str) -> None:
    pytest.importorskip(module)
    for seed in range(4):
        truth = made_truth(seed, **CASES[case][0])
        boxes = made_boxes(truth, seed, **CASES[case][1])
        if not len(boxes.score.values):
            continue
        printed = oracle(module, truth, boxes).stats[:12]
        ours = np.array(list(coco_table(boxes, truth).values()))
        assert np.nan_to_num(ours, nan=-1.0) == pytest.approx(printed, abs=1e-9)


@pytest.mark.parametrize("module", ORACLES)
@pytest.mark.parametrize("detectors", [2, 3])
def test_a_mixture_is_measured_as_if_one_detector_had_said_it_all(module: str, detectors: int) -> None:
    pytest.importorskip(module)
    truth = made_truth(1, images=30)
    parts = [made_boxes(truth, seed, skill=0.4 + 0.2 * seed) for seed in range(detectors)]
    matches, rng = tuple(match(one, truth) for one in parts), np.random.default_rng(0)
    for _ in range(5):
        routing = rng.integers(0, detectors, len(truth))
        printed = oracle(module, truth, mixed(parts, routing)).stats[0]
        assert mean_precision(matches, routing) == pytest.approx(printed, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_many_routings_are_each_measured_alone(seed: int) -> None:
    truth, rng = made_truth(seed, images=25), np.random.default_rng(seed)
    matches = tuple(match(made_boxes(truth, 10 * seed + k), truth) for k in range(3))
    routings, now = [], np.full(25, 2)
    for _ in range(40):  # a few images move at a time, are left out, or come back
        now = now.copy()
        now[rng.integers(0, 25, rng.integers(0, 4))] = rng.integers(NOBODY, 3)
        routings.append(now)
    fresh = [
        mean_precision(tuple(one.take(kept) for one in matches), routing[kept])
        for routing in routings
        for kept in [np.flatnonzero(routing != NOBODY)]
    ]
    assert mean_precisions(matches, iter(routings)) == pytest.approx(fresh, abs=1e-12)


def test_rows_may_be_taken_before_or_after_matching() -> None:
    truth = made_truth(5)
    boxes, rows = made_boxes(truth, 5), np.array([7, 2, 3, 11])
    one, other = match(boxes.take(rows), truth.take(rows)), match(boxes, truth).take(rows)
    assert all(getattr(one, name) == getattr(other, name) for name in vars(one))


def test_what_is_compared_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = made_truth(6)
    boxes = made_boxes(truth, 6)
    whole = match(boxes, truth)
    monkeypatch.setattr("pilotfish.tasks.box_matching.MOST_PAIRS", 3)
    assert all(getattr(match(boxes, truth), name) == getattr(whole, name) for name in vars(whole))


@pytest.mark.parametrize("images", [0, 1, 5])
def test_images_without_truth_or_boxes_are_no_trouble(images: int) -> None:
    none = made_truth(0, images=images, most=0)
    boxes = made_boxes(none, 0)
    empty = made_boxes(none, 0, spare=0)
    alone = np.zeros(images, np.int64)
    assert mean_precision((match(boxes, none),), alone) == 0
    assert mean_precision((match(empty, none),), alone) == 0
    truth = made_truth(3, images=images)
    nothing = made_boxes(truth, 0, skill=0, spare=0)
    assert mean_precision((match(nothing, truth),), alone) == 0
    assert not np.nansum(list(coco_table(nothing, truth).values()))
