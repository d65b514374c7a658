"""Models of other tasks than classes: what they take and return is found on samples, and written into their names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import Dataset, load_data
from pilotfish.errors import ModelError
from pilotfish.recording import RecordOptions, RecordResult, record
from pilotfish.records import Run

Arrays = Callable[..., Dataset]
LOGITS = np.random.default_rng(0).normal(0, 2, (20, 3)).astype(np.float32)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = ModuleType("answering")
    monkeypatch.setitem(sys.modules, "answering", found)
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Dataset:
    """Images of three sizes."""
    (tmp_path / "p").mkdir()
    for i in range(9):
        Image.new("RGB", [(20, 12), (12, 20), (16, 16)][i % 3], (i, 0, 0)).save(tmp_path / "p" / f"{i}.png")
    return load_data(f"folder:{tmp_path / 'p'}")


def recorded(data: Dataset, name: str, folder: Path, task: str) -> RecordResult:
    options = RecordOptions(task=task, timing=False, batch_size=4)
    return record(data, f"python:answering:{name}", folder, alias="m", options=options)[0]


def spec_of(folder: Path) -> str:
    return str(Run(folder).read("m").meta.spec)


@pytest.mark.parametrize(
    ("returned", "written"),
    [(LOGITS, "activation=none"), (1 / (1 + np.exp(-LOGITS)), "activation=sigmoid")],
    ids=["logits", "probabilities"],
)
def test_labels_are_probabilities_whichever_a_model_returns(
    returned: np.ndarray, written: str, arrays: Arrays, module: ModuleType, tmp_path: Path
) -> None:
    module.say = lambda batch: returned[np.rint(batch[:, 0]).astype(int)]  # type: ignore[attr-defined]
    data = arrays(x=np.arange(20, dtype=np.float32)[:, None])
    found = recorded(data, "say", tmp_path / "run", "labels")
    assert spec_of(tmp_path / "run") == f"python:answering:say?task=labels&{written}"
    assert np.allclose(Run(tmp_path / "run").read("m").outputs.probs, 1 / (1 + np.exp(-LOGITS)), atol=1e-6)
    said = [note for note in found.notes if "taken as probabilities" in note]
    assert len(said) == ("sigmoid" in written)


def test_a_softmax_is_no_model_of_labels_and_a_note_says_so(arrays: Arrays, module: ModuleType, tmp_path: Path) -> None:
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    module.say = lambda batch: shares[np.rint(batch[:, 0]).astype(int)]  # type: ignore[attr-defined]
    found = recorded(arrays(x=np.arange(20, dtype=np.float32)[:, None]), "say", tmp_path / "run", "labels")
    assert any("is its task not classes?" in note for note in found.notes)


def _one(image: Any) -> dict[str, Any]:
    width, height = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
    return {"boxes": [[0, 0, width, height]], "scores": [0.5], "labels": [1]}


@pytest.mark.parametrize(
    ("find", "takes"),
    [
        (lambda images: [_one(image.convert("RGB")) for image in images], "images"),
        (lambda image: _one(image.convert("RGB")), "image"),
        (lambda arrays: [_one(array) for array in arrays if array.ndim == 3 or 1 / 0], "arrays"),
        (lambda path: _one(Image.open(path)), "path"),
    ],
)
def test_a_detector_is_given_images_as_it_takes_them(
    find: Callable[[Any], Any], takes: str, photos: Dataset, module: ModuleType, tmp_path: Path
) -> None:
    module.find = find  # type: ignore[attr-defined]
    found = recorded(photos, "find", tmp_path / "run", "boxes")
    boxes = Run(tmp_path / "run").read("m").outputs.box.values
    assert [box[2:].tolist() for box in boxes] == [[20, 12], [12, 20], [16, 16]] * 3
    assert found.failures == ()
    if takes != "arrays":  # it may be given images that are arrays, or arrays
        assert f"takes={takes}" in spec_of(tmp_path / "run")


def test_a_callable_that_answers_classes_is_refused_with_what_is_expected(
    photos: Dataset, module: ModuleType, tmp_path: Path
) -> None:
    module.find = lambda images: np.zeros((len(images), 5), np.float32)  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"expected for each image a dictionary of boxes \(m, 4\).*float32 \(1, 5\)"):
        recorded(photos, "find", tmp_path / "run", "boxes")


def test_an_image_whose_boxes_are_not_finite_fails_alone(photos: Dataset, module: ModuleType, tmp_path: Path) -> None:
    def find(image: Image.Image) -> dict[str, Any]:
        found = _one(image.convert("RGB"))
        return {**found, "scores": [np.nan]} if image.getpixel((0, 0))[0] == 4 else found  # type: ignore[index]

    find.takes = "image"  # type: ignore[attr-defined]
    module.find = find  # type: ignore[attr-defined]
    result = recorded(photos, "find", tmp_path / "run", "boxes")
    assert (result.n, [f.id for f in result.failures]) == (8, ["4.png"])
    assert "not finite" in result.failures[0].reason
