"""What a cascade is given: paths, bytes, images and arrays, one alone or mixed, read alike wherever they go."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import open_image
from pilotfish.errors import UsageError
from pilotfish.models import Preprocessing
from pilotfish.models.preprocessing import AS_IT_IS
from pilotfish.runtime import Answer, Cascade, predict_sequentially, summarise
from pilotfish.runtime.inputs import sorted_out

if TYPE_CHECKING:
    from conftest import Pair

FORMS: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "bytes": Path.read_bytes,
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "image": Image.open,
    "loaded image": open_image,
    "array": lambda path: np.asarray(Image.open(path)),
}


class Tensor:
    """What other libraries call an array."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


def said(found: list[Answer]) -> list[tuple[Any, ...]]:
    return [(a.prediction, a.stage, a.error) for a in found]


@pytest.fixture
def cascade(pair: Pair) -> Cascade:
    return Cascade.load(pair.cascade, allow_python=pair.allowed)


@pytest.mark.parametrize("form", FORMS)
def test_one_alone_is_one_image(form: str, cascade: Cascade, photos: list[Path]) -> None:
    expected = cascade.predict(photos)
    for photo, answer in zip(photos[:3], expected, strict=False):
        made = FORMS[form]
        name = str(photo) if form in ("path", "text") else "0"
        for found in (cascade.predict(made(photo)), cascade.predict([made(photo)]), [cascade.predict_one(made(photo))]):
            assert said(found) == said([answer])
            assert [a.input for a in found] == [name]
            assert found[0].confidence == pytest.approx(answer.confidence, abs=1e-6)


def test_any_mixture_is_answered_in_order(pair: Pair, cascade: Cascade, photos: list[Path]) -> None:
    expected = cascade.predict(photos)
    rng = np.random.default_rng(0)
    for _ in range(5):
        rows = rng.integers(0, len(photos), 30)
        forms = rng.choice(list(FORMS), 30)
        mixed = [FORMS[form](photos[row]) for form, row in zip(forms, rows, strict=True)]
        names = [
            str(photos[row]) if form in ("path", "text") else str(i)
            for i, (form, row) in enumerate(zip(forms, rows, strict=True))
        ]
        whole = cascade.predict(mixed)
        assert said(whole) == said([expected[row] for row in rows])
        assert [a.input for a in whole] == names
        assert said(list(cascade.stream(mixed))) == said(whole)
        assert predict_sequentially(pair.cascade, mixed, allow_python=pair.allowed) == whole


def test_folders_bad_inputs_and_others_in_one_list(cascade: Cascade, photos: list[Path]) -> None:
    expected = said(cascade.predict(photos))
    gone = photos[0].parent / "gone.png"
    mixed = [photos[0].parent, photos[3].read_bytes(), 5, b"junk", gone, np.zeros((2, 3, 4, 5), np.uint8), [photos[0]]]
    found = cascade.predict(mixed)  # type: ignore[list-item]
    assert said(found[:21]) == [*expected, expected[3]]
    assert [a.input for a in found[20:]] == ["1", "2", "3", str(gone), "5", "6"]
    assert [a.error is None for a in found] == [True] * 21 + [False] * 5
    assert found[21].error == "expected a path, bytes, an image or an array, found int"
    assert "not an image of an allowed format" in str(found[22].error)
    assert "there is no such file" in str(found[23].error)
    assert "expected uint8 (H, W) or (H, W, 3)" in str(found[24].error)
    assert said(cascade.predict(str(photos[0].parent))) == expected
    for item, answer in zip(mixed[1:], found[20:], strict=True):
        assert said([cascade.predict_one(item)]) == said([answer])  # type: ignore[arg-type]
    assert "it is a folder" in str(cascade.predict_one(photos[0].parent).error)


def test_a_picture_is_turned_and_flattened_as_its_file_is(pair: Pair, cascade: Cascade) -> None:
    """Phones note how a photo was held; who opens it with Pillow has it lying on its side."""
    rng = np.random.default_rng(3)
    files = []
    for i, mode in enumerate(("RGB", "RGBA", "LA", "P", "L", "I;16", "CMYK")):
        for orientation in (1, 6):
            if mode == "I;16":
                picture = Image.fromarray(rng.integers(0, 65536, (9, 7), dtype=np.uint16))
            else:
                picture = Image.fromarray(rng.integers(0, 256, (9, 7, 4), dtype=np.uint8), "RGBA").convert(mode)
            exif = Image.Exif()
            exif[274] = orientation
            files.append(pair.folder / f"{i}-{orientation}.{'jpg' if mode == 'CMYK' else 'png'}")
            picture.save(files[-1], exif=exif)
    by_path = cascade.predict(files)
    lazy = [Image.open(file) for file in files]
    found = cascade.predict(lazy)
    assert said(found) == said(by_path)
    assert [a.confidence for a in found] == pytest.approx([a.confidence for a in by_path], abs=1e-6)
    assert [a.error for a in found] == [None] * len(files)
    for opened, file in zip(lazy, files, strict=True):  # still the user's own
        assert (opened.size, opened.mode) == (Image.open(file).size, Image.open(file).mode)
        assert opened.getpixel((0, 0)) == Image.open(file).getpixel((0, 0))


@pytest.mark.parametrize("spoil", ["cut", "closed", "not numbers", "no pixels"])
def test_pictures_that_cannot_be_loaded_have_an_error(spoil: str, cascade: Cascade, photos: list[Path]) -> None:
    item: Any = Image.open(io.BytesIO(photos[0].read_bytes()[: -60 if spoil == "cut" else None]))
    if spoil == "closed":
        item.close()
    if spoil == "not numbers":
        item = np.array([[b"a"]])
    if spoil == "no pixels":
        item = Image.new("RGB", (0, 5))
    answer = cascade.predict_one(item)
    assert answer.error is not None
    assert "\n" not in answer.error
    assert [a.error for a in cascade.predict([photos[1], item])] == [None, answer.error]


IMAGE, GREY = Preprocessing(), Preprocessing(mean=(0.5,), std=(0.5,))


@pytest.mark.parametrize(
    ("shape", "chains", "own", "samples"),
    [
        ((6, 5), [IMAGE], None, None),
        ((6, 5, 3), [IMAGE], None, None),
        ((6, 5, 1), [GREY, IMAGE], None, None),
        ((9, 6, 5), [IMAGE], None, 9),
        ((3, 6, 5), [GREY], None, 3),
        ((9, 6, 5, 3), [IMAGE], None, 9),
        ((3, 6, 5, 3), [IMAGE, IMAGE], None, 3),
        ((6, 5), [AS_IT_IS], None, 6),
        ((6, 5), [AS_IT_IS], (5,), 6),
        ((5,), [AS_IT_IS], (5,), None),
        ((6, 5, 3), [AS_IT_IS], (6, 5, 3), None),
        ((3, 6, 5), [AS_IT_IS], (3, 6, 5), None),
        ((3, 6, 5), [AS_IT_IS], (6, 5), 3),
        ((4, 6, 5, 3), [AS_IT_IS], (6, 5, 3), 4),
        ((6, 5, 3), [AS_IT_IS, IMAGE], (6, 5, 3), None),
    ],
)
@pytest.mark.parametrize("kind", [lambda x: x, Tensor], ids=["numpy", "another library's"])
def test_one_array_is_one_sample_or_many(
    kind: Callable[[np.ndarray], Any],
    shape: tuple[int, ...],
    chains: list[Preprocessing],
    own: tuple[int, ...] | None,
    samples: int | None,
) -> None:
    """samples: how many; None where the array is one."""
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    given = sorted_out(kind(array), chains, own)
    assert given.names == [str(i) for i in range(samples or 1)]
    read = given.reader(False)
    np.testing.assert_array_equal([read(i) for i in range(samples or 1)], array if samples else array[None])


@pytest.mark.parametrize("shape", [(6, 5, 3), (3, 5, 3)])
def test_pixels_for_stages_of_unknown_shape_may_be_either(shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.uint8)
    with pytest.raises(
        UsageError, match=rf"may be one image or {shape[0]} samples \(5, 3\); write predict\(\[array\]\)"
    ):
        sorted_out(array, [AS_IT_IS])
    assert len(sorted_out([array], [AS_IT_IS]).names) == 1
    assert len(sorted_out(list(array), [AS_IT_IS]).names) == shape[0]


def test_a_path_may_be_bytes_to_the_system(cascade: Cascade, photos: list[Path]) -> None:
    for entry in os.scandir(os.fsencode(photos[0].parent)):
        answer = cascade.predict_one(entry)
        assert (answer.input, answer.error) == (os.fsdecode(entry.path), None)
        assert cascade.predict([entry])[0].prediction == answer.prediction
        break


@pytest.mark.parametrize("gives", [RuntimeError("gone"), OSError(5, "Input/output error"), 7, None])
def test_a_path_that_cannot_be_asked_for_has_an_error(gives: Any, cascade: Cascade, photos: list[Path]) -> None:
    class Remote:
        def __fspath__(self) -> Any:
            if isinstance(gives, Exception):
                raise gives
            return gives

    one = cascade.predict_one(Remote())
    assert (one.input, one.prediction) == ("0", None)
    assert "Remote gives no path" in str(one.error)
    for found in (cascade.predict([photos[0], Remote()]), list(cascade.stream([photos[0], Remote()]))):
        assert [a.error is None for a in found] == [True, False]
        assert [a.input for a in found] == [str(photos[0]), "1"]
    assert cascade.predict(Remote())[0].error == one.error


def test_names_may_come_in_an_array(cascade: Cascade, photos: list[Path]) -> None:
    expected = cascade.predict(photos)
    assert cascade.predict(np.array([str(photo) for photo in photos])) == expected
    assert cascade.predict(np.array(photos, object)) == expected
    assert cascade.predict(tuple(photos)) == expected


def test_a_tensor_on_a_device_says_what_to_do(cascade: Cascade, photos: list[Path]) -> None:
    class OnDevice:
        def __array__(self, dtype: Any = None) -> np.ndarray:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    with pytest.raises(UsageError, match=r"takes an array of numbers; OnDevice cannot be read .* Use Tensor.cpu\(\)"):
        cascade.predict(OnDevice())  # type: ignore[arg-type]
    found = cascade.predict([photos[0], OnDevice()])  # type: ignore[list-item]
    assert [a.error is None for a in found] == [True, False]


@pytest.mark.parametrize("form", ["bytes", "image", "array"])
def test_a_state_is_of_inputs_with_names(form: str, pair: Pair, photos: list[Path]) -> None:
    """Other bytes may lie at the same place when the run is taken up again."""
    state = pair.folder / "state.npz"
    with pytest.raises(UsageError, match="a state needs inputs that have names"):
        predict_sequentially(pair.cascade, [FORMS[form](photos[0])], state=state, allow_python=pair.allowed)
    assert not state.exists()


def test_what_a_stage_cannot_compute_is_an_answer_of_one(pair: Pair, cascade: Cascade) -> None:
    def fails(batch: np.ndarray) -> np.ndarray:
        raise RuntimeError("no such kernel")

    pair.module.saver.__code__ = fails.__code__
    answer = cascade.predict_one(pair.images[0])
    assert "RuntimeError: no such kernel" in str(answer.error)
    assert (answer.prediction, answer.stage, answer.confidence) == (None, None, None)


def test_a_summary_counts_who_answered(cascade: Cascade, photos: list[Path]) -> None:
    found = cascade.predict([*photos, "gone.png", b""])
    summary = summarise(found, cascade.artefact)
    answered = [a for a in found if a.error is None]
    assert (summary.n, summary.errors) == (len(photos) + 2, 2)
    for k, share in enumerate(summary.stages):
        own = [a.confidence for a in answered if a.stage == k]
        assert (share.stage, share.name, share.n) == (k, cascade.artefact.stages[k].name, len(own))
        assert share.share == pytest.approx(len(own) / len(answered))
        assert share.confidence == (pytest.approx(np.mean(own)) if own else None)
    nothing = summarise([], cascade.artefact).to_json()
    assert nothing["n"] == 0
    assert [(s["n"], s["share"], s["confidence"]) for s in nothing["stages"]] == [(0, 0.0, None)] * 2
