"""scenes: digits on a canvas, with the truth that each task needs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import load_data
from pilotfish.data.scenes import Scenes
from pilotfish.errors import DataError


def scenes(text: str) -> Scenes:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    found = load_data(text)
    assert isinstance(found, Scenes)
    return found


def test_masks_boxes_and_labels_tell_of_the_same_digits() -> None:
    data = scenes("scenes:val?n=40")
    present = data.present()
    for i in range(len(data)):
        own = data.owner == i
        assert set(np.unique(data.masks[i])) - {0} == set(data.digits[own] + 1)
        assert set(np.flatnonzero(present[i])) == set(data.digits[own])
        covered = np.zeros_like(data.masks[i], bool)
        for (x, y, w, h), digit in zip(data.boxes[own].astype(int), data.digits[own], strict=True):
            inside = data.masks[i][y : y + h, x : x + w] == digit + 1
            assert inside.any(axis=1)[[0, -1]].all()  # the box is as tight as can be
            assert inside.any(axis=0)[[0, -1]].all()
            covered[y : y + h, x : x + w] = True
        assert not data.masks[i][~covered].any()


@pytest.mark.parametrize("task", ["mask", "boxes", "labels"])
def test_each_task_has_the_same_images_and_ids(task: str) -> None:
    data, other = scenes(f"scenes:val?task={task}&n=5"), scenes("scenes:val?n=5")
    assert data.task == task
    assert data.ids == other.ids
    assert len(data.truth) == len(data) == 5
    assert len(data.class_names) == (11 if task == "mask" else 10)
    assert np.array_equal(np.asarray(data.read(3)), np.asarray(other.read(3)))
    assert (data.fingerprint == other.fingerprint) == (task == "mask")


def test_a_mask_is_an_indexed_image_of_class_numbers() -> None:
    data = scenes("scenes:val?n=3")
    image = Image.open(io.BytesIO(data.truth[1]))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), data.masks[1])


def test_fewer_scenes_are_the_first_of_more_and_the_splits_differ() -> None:
    few, more, train = scenes("scenes:val?n=4"), scenes("scenes:val?n=9"), scenes("scenes:train?n=4")
    assert np.array_equal(few.images, more.images[:4])
    assert set(few.ids) < set(more.ids)
    assert set(few.ids).isdisjoint(train.ids)
    assert not np.array_equal(few.images, train.images)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scenes:test", "no split 'test'"),
        ("scenes:val?task=depth", "no task 'depth'; expected mask, boxes or labels"),
        ("scenes:val?n=0", "from 1 to 10000"),
        ("scenes:val?n=many", "from 1 to 10000"),
        ("scenes:val?size=3", "no option 'size'"),
    ],
)
def test_what_cannot_be_made_is_refused(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says.replace("?", r"\?")):
        load_data(text)
