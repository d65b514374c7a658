"""Segmentation: counts and metrics beside a plain confusion matrix, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import DataError, ModelError, RecordsError
from pilotfish.tasks.indexed_png import decode, encode
from pilotfish.tasks.mask import (
    base_masks,
    check_counts,
    class_iou,
    count,
    counts,
    image_iou,
    miou,
    named,
    pixel_accuracy,
    states,
)
from pilotfish.tasks.mask_answers import Masks, reduce_masks
from pilotfish.tasks.true_masks import TrueMask, class_order

CLASSES = 5
Array = np.ndarray[Any, Any]


def scenes(n: int = 12, seed: int = 0) -> tuple[list[Array], Array]:
    """(raw answers (C, h, w) of n images of many sizes, their true masks with ignored pixels)."""
    rng = np.random.default_rng(seed)
    raw, true = [], np.empty(n, object)
    for i in range(n):
        shape = tuple(rng.integers(1, 20, 2))
        mask = rng.integers(0, CLASSES, shape)
        raw.append(
            (2 * rng.standard_normal((CLASSES, *shape)) + 3 * np.eye(CLASSES)[mask].transpose(2, 0, 1)).astype("f4")
        )
        true[i] = TrueMask(encode(np.where(rng.random(shape) < 0.1, 255, mask), 256), f"{i}.jpg", CLASSES)
    return raw, true


def confusion(raw: Array, true: TrueMask) -> Array:
    """(C, C), pixels of each true and each predicted class."""
    assert isinstance(true.source, bytes)
    table = np.zeros((CLASSES, CLASSES), int)
    for t, said in zip(decode(true.source, "").ravel(), raw.argmax(axis=0).ravel(), strict=True):
        if t != 255:
            table[t, said] += 1
    return table


def plain_miou(table: Array) -> float:
    union = table.sum(axis=0) + table.sum(axis=1) - np.diag(table)
    return float(np.mean([table[c, c] / union[c] for c in range(len(table)) if union[c]]))


def test_mixtures_are_what_a_confusion_matrix_says() -> None:
    rng = np.random.default_rng(3)
    (small, true), (big, _) = scenes(), scenes()
    small = [one + rng.standard_normal(one.shape).astype("f4") * 3 for one in small]
    of = [states(*count(reduce_masks(raw, len(raw), "m"), true)) for raw in (small, big)]
    for _ in range(20):
        which = rng.integers(0, 2, len(true))
        table = sum(confusion((small, big)[k][i], true[i]) for i, k in enumerate(which))
        sums = np.stack(of)[which, np.arange(len(which))].sum(axis=0)
        assert miou(sums) == pytest.approx(plain_miou(table), abs=1e-12)
        union = table.sum(axis=0) + table.sum(axis=1) - np.diag(table)
        assert class_iou(sums) == pytest.approx(np.diag(table) / union, nan_ok=True)


def test_qualities_are_those_of_each_image() -> None:
    raw, true = scenes()
    found = count(reduce_masks(raw, len(raw), "m"), true)
    for i, one in enumerate(raw):
        table = confusion(one, true[i])
        if table.sum():
            assert image_iou(*found)[i] == pytest.approx(plain_miou(table))
            assert pixel_accuracy(*found)[i] == pytest.approx(np.trace(table) / table.sum())


def test_classes_that_nobody_has_are_left_out() -> None:
    sums = np.array([[3.0, 0, 0, 0, 4, 1, 0, 0], [0] * 8])
    assert miou(sums).tolist() == [3 / 8, 0.0]
    assert miou(np.array([1.0, 1.0])) == 1.0


def test_without_labels_the_masks_of_the_base_are_right() -> None:
    raw, _ = scenes()
    rng = np.random.default_rng(1)
    base = count(reduce_masks(raw, len(raw), "m"), np.full(len(raw), -1, np.int8))
    assert (base[1] == -1).all()
    assert not base[0].union.any()
    reference = base_masks(base[0])
    assert miou(states(base[0], reference).sum(axis=0)) == 1.0
    other = reduce_masks([one + rng.standard_normal(one.shape).astype("f4") * 3 for one in raw], len(raw), "m")
    both, either = counts(other, reference)
    said, right = (decode(one.mask[4], "") for one in (other, base[0]) if one.mask is not None)
    assert both[4].sum() == (said == right).sum()
    assert (both + either).sum() == 2 * sum(one[0].size for one in raw)


@pytest.mark.parametrize(
    "form",
    [
        lambda raw: list(raw),
        lambda raw: [one.argmax(axis=0) for one in raw],
        lambda raw: [np.exp(one) / np.exp(one).sum(axis=0) for one in raw],
        lambda raw: [one.astype(np.float16) for one in raw],
    ],
    ids=["logits", "numbers", "probabilities", "half"],
)
def test_every_form_of_answer_gives_the_same_mask(form: Callable[[Any], Any]) -> None:
    raw, true = scenes()
    raw = [one.astype(np.float16).astype("f4") for one in raw]
    plain = count(reduce_masks(raw, len(raw), "m"), true)
    found = count(reduce_masks(form(raw), len(raw), "m"), true)
    assert (found[0].union == plain[0].union).all()
    assert (found[1] == plain[1]).all()


def test_only_the_score_asked_for_is_computed() -> None:
    raw = np.stack([np.zeros((3, 8, 8)), np.ones((3, 8, 8))]).astype("f4")
    there = {
        keep: {name for name, value in vars(reduce_masks(raw, 2, "m", keep)).items() if value is not None}
        - {"intersection", "union", "mask"}
        for keep in (1, "grid", "pixels", "learned", "auto")
    }
    assert there == {
        1: {"grid"},
        "grid": {"grid"},
        "pixels": {"pixels"},
        "learned": {"features"},
        "auto": {"grid", "pixels", "features"},
    }


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("keep", [1, "pixels", "learned", "auto"])
def test_one_number_that_is_none_takes_the_score_of_its_image(bad: float, keep: Any) -> None:
    raw = np.random.default_rng(0).standard_normal((3, 4, 70, 65)).astype("f4")
    raw[1, 2, 69, 3] = bad  # not at a point of the grid
    found = reduce_masks(raw, 3, "m", keep)
    for name in ("grid", "pixels", "features"):
        values = getattr(found, name)
        if values is not None:
            assert np.isfinite(values.reshape(3, -1)).all(axis=1).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (np.zeros((2, 8, 8), "f4"), r"float \(2, C, H, W\)"),
        (np.zeros((3, 4, 8, 8), "f4"), r"found float32 \(3, 4, 8, 8\)"),
        (np.zeros((2, 1, 8, 8), "f4"), "one channel per pixel"),
        (np.full((2, 8, 8), -1), "classes are numbered from 0"),
        (np.zeros((2, 0, 8, 8), "f4"), "found float32"),
        ("nothing", "found"),
    ],
)
def test_other_answers_are_refused(raw: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        reduce_masks(raw, 2, "m")


def blank(height: int, width: int, classes: int = 3) -> Masks:
    return reduce_masks(np.zeros((1, classes, height, width), "f4"), 1, "m")


def truth(mask: Array, **more: Any) -> Array:
    found = np.empty(1, object)
    found[0] = TrueMask(encode(mask, 256), "a.jpg", **more)
    return found


@pytest.mark.parametrize(
    ("outputs", "true", "words"),
    [
        (blank(4, 4), truth(np.zeros((8, 8), int)), "4 x 4 pixels and its mask 8 x 8; answer at the size"),
        (blank(4, 4), truth(np.zeros((4, 5), int)), "4 x 4 pixels and its mask 5 x 4"),
        (blank(30, 3, 40), truth(np.zeros((40, 30), int)), "are the classes the last axis"),
        (blank(2, 2), truth(np.full((2, 2), 3)), "class 3 in 4 pixels, and there are 3 classes"),
        (blank(2, 2), truth(np.full((2, 2), 254)), "class 254 in 4 pixels"),
        (reduce_masks(np.ones((1, 2, 2), int), 1, "m"), truth(np.zeros((2, 2), int)), "how many classes there are"),
        (reduce_masks(np.full((1, 2, 2), 7), 1, "m"), truth(np.zeros((2, 2), int), classes=3), "says class 7"),
    ],
)
def test_a_truth_that_cannot_be_is_refused(outputs: Masks, true: Array, words: str) -> None:
    with pytest.raises((DataError, ModelError), match=words):
        count(outputs, true)


def test_an_image_of_which_no_pixel_counts_is_not_known() -> None:
    outputs, known = count(blank(3, 3), truth(np.full((3, 3), 255)))
    assert known.tolist() == [-1]
    assert not outputs.union.any()


def test_an_image_of_one_pixel() -> None:
    outputs, known = count(blank(1, 1), truth(np.zeros((1, 1), int)))
    assert known.tolist() == [1]
    assert outputs.intersection.tolist() == [[1, 0, 0]]
    assert outputs.grid is not None
    assert np.isfinite(outputs.grid).all()


@pytest.mark.parametrize(
    ("both", "either", "words"),
    [
        ([[1, 3]], [[2, 2]], "row 0 has an intersection larger than its union for class 1: 3 of 2"),
        ([[0, -1]], [[2, 2]], "row 0 has a negative intersection for class 1"),
        ([[1, 1]], [[2, 2, 2]], "both are"),
        ([[1, 1, 1]], [[2, 2, 2]], "counts of 3 classes, and there are 2"),
    ],
)
def test_counts_that_cannot_be_are_refused(both: Any, either: Any, words: str) -> None:
    with pytest.raises(RecordsError, match=words):
        check_counts("m", None, Masks(np.array(both), np.array(either)), 2)


def test_counts_without_masks_need_labels() -> None:
    outputs = Masks(np.zeros((1, 2), int), np.ones((1, 2), int))
    with pytest.raises(RecordsError, match="no labels"):
        base_masks(outputs)
    with pytest.raises(RecordsError, match="no labels"):
        counts(outputs, base_masks(blank(2, 2, 2)))


@pytest.mark.parametrize(
    ("names", "theirs", "expected"),
    [
        (("background", "cat"), ("__background__", "Cat"), None),
        (("cat", "background"), ("__background__", "cat", "dog"), [1, 0]),
        (("cat", "dog"), None, None),
        (("cat", "dog"), ("LABEL_0", "LABEL_1"), None),
        (None, ("cat", "dog"), None),
    ],
)
def test_classes_are_matched_by_name(names: Any, theirs: Any, expected: Any) -> None:
    order, notes = class_order(names, theirs, theirs and len(theirs), "masks:a,b", "m")
    assert (order is None) == (expected is None)
    assert expected is None or np.asarray(order).tolist() == expected
    assert notes == ()


def test_names_of_which_none_is_known_are_matched_by_position_and_said() -> None:
    order, notes = class_order(("Katze", "Hund"), ("cat", "dog"), 2, "masks:a,b", "m")
    assert order is None
    assert "matched by position alone (0: 'Katze' = 'cat'" in notes[0]


@pytest.mark.parametrize(
    ("names", "theirs", "n", "words"),
    [
        (("cat", "emu"), ("cat", "dog"), 2, "'emu'"),
        (("a", "b", "c"), ("cat", "dog"), 2, "3 of its 3 classes are none"),
        (("a", "b", "c"), None, 2, "has 3 classes"),
    ],
)
def test_classes_that_the_model_lacks_are_refused(names: Any, theirs: Any, n: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        class_order(names, theirs, n, "masks:a,b", "m")


def test_masks_are_counted_in_the_numbers_of_the_model() -> None:
    mask = np.array([[0, 1], [1, 255]])
    raw = np.zeros((1, 3, 2, 2), "f4")
    raw[0, [1, 2, 2, 0], [0, 0, 1, 1], [0, 1, 0, 1]] = 5
    outputs, _ = count(reduce_masks(raw, 1, "m"), truth(mask, order=np.array([1, 2])))
    assert outputs.intersection.tolist() == outputs.union.tolist() == [[0, 1, 2]]


def test_an_answer_is_said_as_a_png_and_shares() -> None:
    png = encode(np.array([[0, 0, 0, 2]]), 3)
    document, words = named(png, ("ground", "cat", "dog"))
    assert (document["width"], document["height"]) == (4, 1)
    assert words == "ground 75%, dog 25%"
    assert named(None, None) == (None, None)
    few = np.zeros((20, 20), int)
    few[0, 0] = 1
    assert named(encode(few, 3), None)[1] == "0 100%, 1 <1%"
