"""Labels in the model's class order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pilotfish.data import Dataset
from pilotfish.errors import DataError
from pilotfish.models import Model
from pilotfish.recording.labels import model_labels

ZEROS = np.zeros((4, 2), np.float32)
Arrays = Callable[..., Dataset]


@pytest.fixture
def model(matrix_model: Callable[..., Model]) -> Callable[..., Model]:
    def make(**fields: object) -> Model:
        return matrix_model(np.eye(2, 5, dtype=np.float32), **fields)

    return make


def test_names_that_the_model_knows_decide(arrays: Arrays, model: Callable[..., Model]) -> None:
    data = arrays(x=ZEROS, label=np.array([0, 1, 2, -1]), class_names=["dog", "cat", "eel"])
    found = model_labels(data, model(n_classes=5, class_names=("ant", "bee", "cat", "dog", "eel")))
    assert found.tolist() == [3, 2, 4, -1]


def test_identifiers_such_as_wnids_will_do(arrays: Arrays, model: Callable[..., Model]) -> None:
    data = arrays(x=ZEROS, label=np.array([1, 0, 1, 0]), class_names=["n02", "n01"])
    found = model_labels(data, model(n_classes=3, class_names=("a", "b", "c"), class_ids=("n00", "n01", "n02")))
    assert found.tolist() == [1, 2, 1, 2]


def test_unknown_names_are_the_model_s_own_numbers_when_there_are_as_many(
    arrays: Arrays, model: Callable[..., Model]
) -> None:
    data = arrays(x=ZEROS, label=np.array([0, 1, 2, 0]), class_names=["x", "y", "z"])
    assert model_labels(data, model(n_classes=3, class_names=("a", "b", "c"))).tolist() == [0, 1, 2, 0]
    assert model_labels(data, model()).tolist() == [0, 1, 2, 0]
    with pytest.raises(DataError, match=r"has 3 classes \(x, y, z, …\) and matrix has 1000, whose names are others"):
        model_labels(data, model(n_classes=1000))


def test_labels_beyond_the_model_s_classes_name_a_sample(arrays: Arrays, model: Callable[..., Model]) -> None:
    data = arrays(x=ZEROS, label=np.array([0, 1, 7, 0]), id=np.array(["p", "q", "r", "s"]))
    with pytest.raises(DataError, match=r"r has label 7, but matrix has 5 classes \(0 to 4\)"):
        model_labels(data, model(n_classes=5))
    assert model_labels(data, model()).tolist() == [0, 1, 7, 0]


def test_no_labels_at_all(arrays: Arrays, model: Callable[..., Model]) -> None:
    assert model_labels(arrays(x=ZEROS), model(n_classes=5)).tolist() == [-1] * 4
