"""Folders of images with several labels each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import load_data
from pilotfish.data.subset import Subset
from pilotfish.errors import DataError
from pilotfish.recording.labels import ModelClasses
from pilotfish.recording.placed_truth import match_columns


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcd":
        Image.new("RGB", (4, 3)).save(tmp_path / f"{name}.png")
    return tmp_path


Y = [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]]
FORMS = [
    "file,label\na.png,dog;cat\nb.png,dog\nc.png,\nd.png,emu;cat\n",
    "filename,labels\na.png,cat|dog\nb.png,dog\nc.png,\nd.png,cat|emu\n",
    'file,label\na.png,"[""cat"", ""dog""]"\nb.png,"[""dog""]"\nc.png,[]\nd.png,"[""cat"", ""emu""]"\n',
    "file,cat,dog,emu\na.png,1,1,0\nb.png,0,1,0\nc.png,0,0,0\nd.png,1,0,1\n",
    "file,cat,dog,emu,width\na.png,True,True,False,17\nb.png,False,True,False,4\nc.png,0,0,0,9\nd.png,1,0,1,8\n",
]


@pytest.mark.parametrize("text", FORMS)
def test_lists_of_names_and_columns_of_classes(folder: Path, text: str) -> None:
    (folder / "labels.csv").write_text(text)
    data = load_data(f"labels:{folder}")
    assert (data.task, data.labels, data.class_names) == ("labels", None, ("cat", "dog", "emu"))
    assert data.truth.tolist() == Y
    assert data.read(0).size == (4, 3)
    assert load_data(data.spec).fingerprint == data.fingerprint
    (folder / "labels.csv").write_text(text.replace("d.png,emu;cat", "d.png,emu").replace("d.png,1", "d.png,0"))
    if "emu;cat" in text or "d.png,1" in text:
        assert load_data(data.spec).fingerprint != data.fingerprint


def test_lists_of_numbers_and_a_table_of_any_name(folder: Path) -> None:
    (folder / "truth.csv").write_text("file,label\na.png,0;1\nb.png,1\nc.png,\nd.png,0;2\n")
    data = load_data(f"labels:{folder / 'truth.csv'}")
    assert data.class_names is None
    assert data.truth.tolist() == Y
    matched = match_columns(data.truth, data, ModelClasses("m", n_classes=5))
    assert matched.labels.tolist() == [[*row, 0, 0] for row in Y]


def test_rows_without_labels_are_unknown_and_said(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,cat,dog\na.png,1,0\nb.png,,\nc.png,0,0\nd.png,1,1\n")
    data = load_data(f"labels:{folder}")
    assert data.truth.tolist() == [[1, 0], [-1, -1], [0, 0], [1, 1]]
    assert any("no labels for 1 of 4 samples" in note for note in data.notes)
    placed = match_columns(data.truth, data, ModelClasses("m", 2, ("dog", "cat"))).labels
    assert placed.tolist() == [[0, 1], [-1, -1], [0, 0], [1, 1]]


def test_no_labels_at_all_is_said(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,label\na.png,\nb.png,\nc.png,\nd.png,\n")
    data = load_data(f"labels:{folder}")
    assert data.truth is None
    assert any("has no labels" in note for note in data.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has no labels.csv; expected one with file, and label"),
        ("file,cat,dog\na.png,1,3\nb.png,1,0\nc.png,0,1\n", "'dog' of row 0 is '3', and others are 0 and 1"),
        ("file,cat,dog\na.png,1,0\nb.png,1,\n", "row 1 has no value for 'dog' and has some for others"),
        ("cat,dog\n1,0\n", "has no column for the file"),
        ("file,label\n../a.png,cat\n", "points outside the folder"),
        ("file,label\na.png,999999\n", "holds the class number 999,999"),
    ],
)
def test_tables_that_cannot_be_are_named(folder: Path, text: str | None, message: str) -> None:
    if text is not None:
        (folder / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_data(f"labels:{folder}")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("Dog", "emu", "CAT"), [[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]]),
        (("dog", "emu", "cat", "fox"), [[1, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]]),
        (None, Y),
    ],
)
def test_labels_stand_in_the_order_of_the_models_classes(
    folder: Path, names: tuple[str, ...] | None, expected: list[list[int]]
) -> None:
    (folder / "labels.csv").write_text(FORMS[0])
    data = load_data(f"labels:{folder}")
    matched = match_columns(data.truth, data, ModelClasses("m", len(expected[0]), names))
    assert matched.labels.tolist() == expected
    said = " ".join(matched.notes)
    assert ("by position alone" in said) == (names is None)
    assert ("'fox'" in said) == (names is not None and "fox" in names)


def test_a_label_that_the_model_does_not_know(folder: Path) -> None:
    (folder / "labels.csv").write_text(FORMS[0])
    data = load_data(f"labels:{folder}")
    with pytest.raises(DataError, match=r"1 of its 3 class names are none of m: 'emu'.*1 sample, d.png the first"):
        match_columns(data.truth, data, ModelClasses("m", 3, ("cat", "dog", "owl")))
    with pytest.raises(DataError, match="has 3 classes"):
        match_columns(data.truth, data, ModelClasses("m", 2))


def test_nothing_is_true(folder: Path) -> None:
    (folder / "labels.csv").write_text("file,cat,dog\na.png,0,0\nb.png,0,0\n")
    data = load_data(f"labels:{folder}")
    assert not match_columns(data.truth, data, ModelClasses("m", 2, ("dog", "cat"))).labels.any()
    assert np.asarray(data.truth).shape == (2, 2)


def test_arrays_with_a_label_for_each_class(tmp_path: Path) -> None:
    labels = np.array([[1, 1, 0], [0, 0, 0], [-1, -1, -1], [0, 0, 1]])
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2)), label=labels, class_names=["cat", "dog", "emu"])
    data = load_data(f"arrays:{tmp_path / 'a.npz'}")
    assert (data.task, data.labels) == ("labels", None)
    assert data.truth.tolist() == labels.tolist()
    assert any("several labels" in note for note in data.notes)
    part = Subset(data, np.array([3, 0]))
    assert (part.task, part.truth.tolist()) == ("labels", [[0, 0, 1], [1, 1, 0]])
    assert Subset(data, relabelled=np.zeros(4, np.int64)).truth is None
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2)), label=np.eye(4)[:, :3] + np.eye(4)[:, 1:], class_names=["a", "b"])
    with pytest.raises(DataError, match="label has 3 columns and there are 2 class_names"):
        load_data(f"arrays:{tmp_path / 'a.npz'}")
