"""``masks:IMAGES,MASKS``: which files belong together, and what does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import load_data
from pilotfish.errors import DataError, UnreadableSample
from pilotfish.tasks.indexed_png import encode


def folders(at: Path, images: list[str], masks: list[str], size: tuple[int, int] = (6, 4)) -> str:
    """Writes blank images and masks; returns the name of the data."""
    for name in images:
        path = at / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(path)
    for name in masks:
        path = at / "masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(np.zeros(size[::-1], int), 3))
    return f"masks:{at / 'images'},{at / 'masks'}"


def test_pairs_are_of_one_name(tmp_path: Path) -> None:
    data = load_data(folders(tmp_path, ["b.jpg", "a.png", "deep/a.jpg"], ["a.png", "b.png", "deep/a.png"]))
    assert list(data.ids) == ["a.png", "b.jpg", "deep/a.jpg"]
    assert data.task == "mask"  # type: ignore[attr-defined]
    assert [path.name for path in data.truth] == ["a.png", "b.png", "a.png"]  # type: ignore[attr-defined]
    assert data.read(1).size == (6, 4)  # type: ignore[union-attr]
    assert data.labels is None
    assert data.notes == ()  # type: ignore[attr-defined]


def test_what_has_no_partner_is_left_out_and_said(tmp_path: Path) -> None:
    data = load_data(folders(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], ["a.png", "z.png"]))
    assert list(data.ids) == ["a.jpg"]
    notes = data.notes  # type: ignore[attr-defined]
    assert "images without a mask are left out: 2 (b.jpg, …)" in notes
    assert "masks without an image are left out: 1 (z.png)" in notes


@pytest.mark.parametrize(
    ("image", "mask"),
    [("a.jpg", "a_mask.png"), ("x/a_leftImg8bit.png", "x/a_gtFine_labelIds.png"), ("a-image.jpg", "a-seg.png")],
)
def test_usual_endings_are_left_out_and_said(tmp_path: Path, image: str, mask: str) -> None:
    data = load_data(folders(tmp_path, [image], [mask]))
    assert len(data) == 1
    assert f"{image} and {mask} belong together" in data.notes[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("images", "masks", "words"),
    [
        (["a.jpg"], ["b.png"], "no mask has the name of an image"),
        (["a.jpg"], [], "is no folder"),
        (["a.jpg", "a.png"], ["a.png"], "a.jpg and a.png have one name"),
    ],
)
def test_folders_that_do_not_belong_together_are_refused(
    tmp_path: Path, images: list[str], masks: list[str], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        load_data(folders(tmp_path, images, masks))


def test_one_folder_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected two, masks:IMAGES,MASKS"):
        load_data(f"masks:{tmp_path}")


def test_a_folder_may_have_a_comma(tmp_path: Path) -> None:
    assert len(load_data(folders(tmp_path / "a,b", ["a.jpg"], ["a.png"]))) == 1


@pytest.mark.parametrize("where", ["masks", "."])
@pytest.mark.parametrize("name", ["classes.txt", "classes.json"])
def test_class_names_lie_beside_the_masks(tmp_path: Path, where: str, name: str) -> None:
    spec = folders(tmp_path, ["a.jpg"], ["a.png"])
    before = load_data(spec).fingerprint
    names = ["ground", "cat"]
    (tmp_path / where / name).write_text(json.dumps(names) if name.endswith("json") else "\n".join(names) + "\n")
    data = load_data(spec)
    assert data.class_names == ("ground", "cat")
    assert data.fingerprint != before
    assert "classes by" in data.notes[-1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ['{"0": "a", "2": "b"}', "[1, 2]", "[", '["a", "a"]'])
def test_class_names_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    spec = folders(tmp_path, ["a.jpg"], ["a.png"])
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(DataError, match=r"classes\.json"):
        load_data(spec)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encode(np.zeros((4, 7), int), 3), "has 6 x 4 pixels, its mask a.png 7 x 4"),
        (encode(np.zeros((400, 600), int), 3), "its mask a.png 600 x 400"),
        (encode(np.zeros((4, 6), int), 3)[:-9], "cut off"),
        (b"", "not a PNG file"),
    ],
)
def test_a_mask_that_does_not_fit_costs_its_own_sample(tmp_path: Path, content: bytes, words: str) -> None:
    data = load_data(folders(tmp_path, ["a.jpg", "b.jpg"], ["a.png", "b.png"]))
    (tmp_path / "masks" / "a.png").write_bytes(content)
    with pytest.raises(UnreadableSample, match=words):
        data.read(0)
    assert data.read(1) is not None
