"""COCO's instances as data: images in the order of their ids, and the boxes in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import load_data
from pilotfish.data.coco import CocoDataset
from pilotfish.errors import DataError
from support.boxes import instances, made_truth


def laid_out(root: Path, folder: str = "val2017") -> Path:
    """annotations/instances_val2017.json beside the folder of images."""
    truth = made_truth(0, images=3)
    document = instances(truth)
    (root / "annotations").mkdir()
    (root / folder).mkdir(parents=True)
    for i, image in enumerate(document["images"]):
        Image.new("RGB", (40 + i, 30), (i, 0, 0)).save(root / folder / image["file_name"])
    document["images"].reverse()
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("folder", ["val2017", "images/val2017", "annotations/images", "elsewhere"])
def test_images_are_found_beside_their_annotations_or_where_they_are_named(tmp_path: Path, folder: str) -> None:
    if folder.startswith("annotations"):
        (tmp_path / folder).parent.mkdir()
        path = tmp_path / "annotations" / "instances_val2017.json"
        other = tmp_path / "a"
        other.mkdir()
        laid_out(other, "x").rename(path)
        (other / "x").rename(tmp_path / folder)
    else:
        path = laid_out(tmp_path, folder)
    spec = f"coco:{path}" + (f",{tmp_path / folder}" if folder == "elsewhere" else "")
    data = load_data(spec)
    assert isinstance(data, CocoDataset)
    assert (data.spec, data.task, data.labels, len(data)) == (spec, "boxes", None, 3)
    assert data.ids == ("100", "103", "106")
    assert [data.read(i).size for i in range(3)] == [(40, 30), (41, 30), (42, 30)]
    assert data.truth.box == made_truth(0, images=3).box
    assert data.class_names is not None
    assert (data.class_names[1], data.class_names[2]) == ("class 1", "N/A")


def test_other_boxes_are_other_data(tmp_path: Path) -> None:
    path = laid_out(tmp_path)
    before = load_data(f"coco:{path}").fingerprint
    document = json.loads(path.read_text())
    document["annotations"][0]["bbox"][2] += 1
    path.write_text(json.dumps(document))
    assert load_data(f"coco:{path}").fingerprint != before


def test_annotations_without_truth_are_images_of_which_nothing_is_known(tmp_path: Path) -> None:
    path = laid_out(tmp_path)
    document = json.loads(path.read_text())
    del document["annotations"]
    path.write_text(json.dumps(document))
    data = load_data(f"coco:{path}")
    assert isinstance(data, CocoDataset)
    assert not data.truth.known.any()
    assert np.array_equal(data.truth.box.counts, [0, 0, 0])
    assert "no annotations" in data.notes[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: {"images": []}, "without a list of images"),
        (lambda d: {**d, "images": [{"id": 1}]}, "have no file_name"),
        (lambda d: {**d, "images": [{"id": 1, "file_name": "x.jpg"}]}, "no x.jpg in"),
    ],
)
def test_what_is_no_such_data_is_refused(tmp_path: Path, change: object, words: str) -> None:
    path = laid_out(tmp_path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))  # type: ignore[operator]
    with pytest.raises(DataError) as error:
        load_data(f"coco:{path}")
    assert words in str(error.value)
    with pytest.raises(DataError, match="no such file"):
        load_data(f"coco:{tmp_path / 'none.json'}")


@pytest.mark.parametrize("rest", ["", ",pictures"], ids=["no folder", "another folder"])
def test_images_that_are_nowhere_are_refused(rest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = laid_out(tmp_path).rename(tmp_path / "instances.json")
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "images": [{"id": 1, "file_name": "x.jpg"}]}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="write the folder that the images are in, as in coco:instances") as error:
        load_data(f"coco:instances.json{rest}")
    looked = str(error.value).partition("no x.jpg in ")[2].partition(";")[0].split(", ")
    assert len(looked) == len(set(looked))
