"""What is trained and what is recorded agree on which class a label is."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("torch")

from pilotfish.data import Dataset, load_data
from pilotfish.errors import DataError
from pilotfish.models import Preprocessing
from pilotfish.models.exits.describe import Description
from pilotfish.recording.labels import ModelClasses, match_labels
from pilotfish.train.training import in_class_order

NUMBERS = tuple(str(i) for i in range(12))


def folders(root: Path, names: tuple[str, ...]) -> Dataset:
    for name in names:
        (root / name).mkdir()
        Image.new("L", (2, 2)).save(root / name / "a.png")
    return load_data(f"folder:{root}")


def network(classes: int, names: tuple[str, ...] | None) -> Description:
    return Description(
        kind="attached", classes=classes, input_shape=(1, 2, 2), preprocessing=Preprocessing(), class_names=names
    )


@pytest.mark.parametrize(
    ("folder_names", "names", "moved"),
    [
        (NUMBERS, None, True),  # a network without names: folder 10 is class 10
        (NUMBERS, tuple(sorted(NUMBERS)), False),  # one that was trained on this folder
        (NUMBERS, tuple("abcdefghijkl"), True),
        (("ant", "bee", "cat"), ("cat", "bee", "ant"), True),
        (("ant", "bee", "cat"), None, False),
    ],
)
def test_labels_are_trained_as_they_are_recorded(
    folder_names: tuple[str, ...], names: tuple[str, ...] | None, moved: bool, tmp_path: Path
) -> None:
    data = folders(tmp_path, folder_names)
    trained = in_class_order(data, network(len(folder_names), names))
    recorded = match_labels(data, ModelClasses("m", len(folder_names), names)).labels
    assert trained.labels is not None
    assert trained.labels.tolist() == recorded.tolist()
    assert (trained is not data) == moved  # and a training that went well goes on with the very same data


def test_names_that_agree_in_part_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'fish'"):
        in_class_order(folders(tmp_path, ("cat", "dog", "fish")), network(3, ("cat", "dog", "eel")))
