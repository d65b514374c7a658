"""What is fitted to boxes and to images of them, and what a task of boxes says of odd answers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from pilotfish.errors import AlignmentError, ModelError, RecordsError
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks import BOXES, find_task
from pilotfish.tasks.box_matching import Boxes, match
from pilotfish.tasks.box_scores import (
    check_scores,
    fit_learned,
    fit_scores,
    image_f1,
    learned,
    mean_score,
    soft_f1,
    with_scores,
)
from pilotfish.tasks.boxes import as_truth
from pilotfish.tasks.mean_precision import mean_precision
from support.boxes import made_boxes, made_truth


def boxes_of(scores: list[list[float]]) -> Boxes:
    score = Ragged.of([np.array(one) for one in scores])
    m = len(score.values)
    box, label = (Ragged(values, score.offsets) for values in (np.tile([0.0, 0, 10, 10], (m, 1)), np.ones(m, int)))
    return Boxes(box, score, label)


def test_the_papers_score_is_the_mean_of_boxes_above_a_floor() -> None:
    found = mean_score(boxes_of([[0.9, 0.5, 0.04], [0.01], [], [0.05]]))
    assert found == pytest.approx([0.7, 0, 0, 0.05])


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("shift", [lambda s: s, lambda s: 40 * s - 7, lambda s: s**8])
def test_fitted_scores_mean_something_and_keep_the_order(ties: bool, shift: Callable[[np.ndarray], np.ndarray]) -> None:
    truth = made_truth(2, images=200)
    boxes = made_boxes(truth, 2, ties=ties)
    score = Ragged(shift(boxes.score.values), boxes.score.offsets)
    boxes = Boxes(boxes.box, score, boxes.label)
    fitted = with_scores(boxes, fit_scores(boxes, truth))
    order = np.argsort(boxes.score.values, kind="stable")
    raw, now = boxes.score.values[order], fitted.score.values[order]
    assert ((np.diff(raw) > 0) == (np.diff(now) > 0)).all()
    assert (now >= 0).all()
    assert (now <= 1).all()
    alone = np.zeros(200, np.int64)
    one, other = (mean_precision((match(each, truth),), alone) for each in (boxes, fitted))
    assert one == other
    matches = match(fitted, truth)
    plain = matches.counts.values.all(axis=1)
    said, found = matches.score.values[plain], matches.right.values[plain].mean(axis=1)
    for low, high in ((0, 0.3), (0.3, 0.6), (0.6, 1.01)):
        part = (said >= low) & (said < high)
        assert part.sum() < 40 or said[part].mean() == pytest.approx(found[part].mean(), abs=0.05)


@pytest.mark.parametrize("kept", [0, 1])
def test_nothing_to_fit_is_no_trouble(kept: int) -> None:
    truth = made_truth(1, images=5)
    few = boxes_of([[0.5] * kept, [], [], [], []])
    parameters = fit_scores(few, truth)
    check_scores(parameters)
    assert np.isfinite(with_scores(few, parameters).score.values).all()


def test_a_learned_score_tells_good_answers_from_bad_ones() -> None:
    truth = made_truth(4, images=400)
    boxes = made_boxes(truth, 4)
    quality = soft_f1(boxes, truth)
    parameters = fit_learned(SimpleNamespace(outputs=boxes.take(slice(0, 200)), right=quality[:200]))
    held, plain = boxes.take(slice(200, 400)), quality[200:]
    found = np.corrcoef(learned(held, parameters), plain)[0, 1]
    assert found > max(0.3, np.corrcoef(mean_score(held), plain)[0, 1])


def test_quality_per_image_is_a_loop_over_its_boxes() -> None:
    truth = made_truth(6, images=40, crowds=0.3)
    boxes = made_boxes(truth, 6)
    hard, soft = image_f1(boxes, truth), soft_f1(boxes, truth)
    for i in range(40):
        there = (~truth.crowd[[i]].values).sum()
        one = match(boxes.take([i]), truth.take([i]))
        score, counts, right = one.score.values, one.counts.values, one.right.values
        said = (score >= 0.5) & counts[:, 0]
        total = said.sum() + there
        assert hard[i] == pytest.approx(2 * (said & right[:, 0]).sum() / total if total else 1)
        weight = score * counts.any(axis=1)
        total = weight.sum() + there
        assert soft[i] == pytest.approx(2 * (weight * right.mean(axis=1)).sum() / total if total else 1)


TORCHVISION = {"boxes": np.array([[1, 2, 4, 8.0]], np.float32), "scores": np.array([0.5]), "labels": np.array([3])}


@pytest.mark.parametrize("one", [TORCHVISION, tuple(TORCHVISION.values())], ids=["dictionary", "tuple"])
def test_answers_of_models_become_boxes(one: object) -> None:
    nothing = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, int)}
    found = BOXES.reduce([one, nothing, one], 3, "m", 1)
    assert found.box.values.tolist() == [[1, 2, 3, 6]] * 2
    assert found.score.counts.tolist() == [1, 0, 1]
    first, empty, _ = BOXES.answer(found)
    said = [{"label": 3, "name": "cat", "score": 0.5, "box": [1, 2, 3, 6]}]
    assert BOXES.says(first, ["N/A", "a", "b", "cat"]) == (said, "1 cat")
    assert BOXES.says(first, None)[1] == "1 class 3"
    assert BOXES.says(empty, None) == ([], "nothing")
    assert BOXES.says({**first, "score": np.array([0.4])}, None)[1] == "no box of score 0.5 or more"


@pytest.mark.parametrize(
    "raw",
    [
        np.zeros((2, 10), np.float32),
        [TORCHVISION],
        [TORCHVISION, {"boxes": np.zeros((1, 4))}],
        [TORCHVISION, {**TORCHVISION, "boxes": np.zeros((2, 4))}],
        [TORCHVISION, {**TORCHVISION, "labels": np.array(["cat"])}],
        [TORCHVISION, 3],
    ],
    ids=["logits", "too few", "no scores", "uneven", "texts", "number"],
)
def test_other_answers_are_refused_by_the_models_name(raw: object) -> None:
    with pytest.raises(ModelError, match="net: expected"):
        BOXES.reduce(raw, 2, "net", 1)


def test_an_answer_with_no_number_is_not_usable() -> None:
    nan = {**TORCHVISION, "scores": np.array([np.nan])}
    infinite = {**TORCHVISION, "boxes": np.array([[0, 0, np.inf, 1]])}
    found = BOXES.reduce([TORCHVISION, nan, infinite], 3, "m", 1)
    assert BOXES.usable(found).tolist() == [True, False, False]


def test_a_base_without_labels_is_right() -> None:
    boxes = boxes_of([[0.9, 0.2], [], [0.5]])
    truth = BOXES.reference(boxes)
    assert truth.label.counts.tolist() == [1, 0, 1]
    assert truth.known.all()
    assert BOXES.value(boxes, truth) == pytest.approx(1)


def test_checks_name_the_row() -> None:
    truth, boxes = made_truth(0, images=3), made_boxes(made_truth(0, images=3), 0)
    score = boxes.score.values.copy()
    score[-1] = np.nan
    with pytest.raises(RecordsError, match="score of row 2 is not finite"):
        BOXES.check("m", truth, Boxes(boxes.box, Ragged(score, boxes.score.offsets), boxes.label), None)  # type: ignore[misc]
    fewer = Ragged.by_counts(boxes.score.values[1:], boxes.score.counts - [1, 0, 0])
    with pytest.raises(RecordsError, match=r"row 0 has .* boxes and .* entries in score"):
        BOXES.check("m", truth, Boxes(boxes.box, fewer, boxes.label), None)  # type: ignore[misc]


def test_classes_under_other_numbers_are_no_pair() -> None:
    def named(model: str, *names: str) -> SimpleNamespace:
        return SimpleNamespace(meta=SimpleNamespace(model=model, class_names=names))

    assert BOXES.match is not None
    BOXES.match(named("a", "N/A", "cat", "dog"), named("b", "back", "cat", "N/A"))
    with pytest.raises(AlignmentError, match="1 is 'cat' and 'dog'"):
        BOXES.match(named("a", "N/A", "cat"), named("b", "N/A", "dog"))


def test_the_truth_is_put_into_the_models_numbers() -> None:
    truth = made_truth(0, images=4)
    names = tuple({1: "cat", 3: "Dog", 7: "traffic_light", 90: "ox"}.get(i, "N/A") for i in range(91))
    data = SimpleNamespace(class_names=names, spec="coco:x")
    assert BOXES.place is not None
    model = SimpleNamespace(names=("dog", "traffic light", "cat"), spec="net")
    found, notes = BOXES.place(truth, data, model)
    moved = {1: 2, 3: 0, 7: 1, 90: 3 + 90}
    assert found.label.values.tolist() == [moved[i] for i in truth.label.values.tolist()]
    assert notes == ("1 class of coco:x is none of net: ox",)
    for other in (SimpleNamespace(names=None, spec="net"), SimpleNamespace(names=("x", "y"), spec="net")):
        same, notes = BOXES.place(truth, data, other)
        assert same is truth
        assert len(notes) == 1


@pytest.mark.parametrize(("images", "bad"), [(5, False), (60, True)])
def test_images_without_a_true_box_anywhere_are_said(images: int, bad: bool) -> None:
    judge = find_task("boxes").judge
    assert judge is not None
    empty = as_truth(boxes_of([[]] * images))
    found = judge(empty, boxes_of([[0.5]] * images), None)
    assert found.bad is bad
    assert f"no box is true in any of the {images} images" in str(found.note)
    assert judge(made_truth(1, images=5), boxes_of([[0.5]] * 5), None).note is None
