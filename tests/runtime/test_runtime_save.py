"""predict(save=DIR): a picture of each answer."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from pilotfish.cascade import Artefact
from pilotfish.errors import UnreadableSample, UsageError
from pilotfish.runtime.answers import Answer
from pilotfish.runtime.save_answers import caption, file_names, save_answers
from pilotfish.tasks import CLASSES

STAGES = (SimpleNamespace(name="small", class_names=("cat", "dog")), SimpleNamespace(name="big", class_names=None))


def artefact(task: Any = CLASSES) -> Artefact:
    return cast(Artefact, SimpleNamespace(task=task, stages=STAGES))


def answer(name: str, stage: int = 0, error: str | None = None) -> Answer:
    if error is not None:
        return Answer(name, None, None, None, None, error)
    return Answer(name, 1, "dog", 0.75, stage, None)


def image(_: int = 0) -> Image.Image:
    return Image.new("RGB", (40, 30), (9, 90, 200))


def test_a_picture_for_each_answer_that_there_is(tmp_path: Path) -> None:
    given = [answer("a/cat.jpg"), answer("b/broken.png", error="broken"), answer("b/dog.png", stage=1)]
    files = save_answers(given, image, artefact(), tmp_path / "drawn")
    assert [file.name for file in files] == ["cat.png", "dog.png"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["cat.png", "dog.png"]
    with Image.open(files[0]) as drawn:
        assert drawn.width == 440
        assert drawn.height > 330  # the caption stands below
        assert drawn.getpixel((0, 0)) == (9, 90, 200)


def test_the_caption_says_what_how_surely_and_who() -> None:
    assert caption(answer("x"), "small") == "dog · 0.750 · stage 0, small"
    assert caption(dataclasses.replace(answer("x"), name=None, confidence=None), "big") == "1 · stage 0, big"


def test_a_tasks_own_drawing_gets_the_answer_and_the_names(tmp_path: Path) -> None:
    seen = []

    def draw(one: Image.Image, prediction: Any, names: Any) -> Any:
        seen.append((one.size, prediction, names))
        return np.zeros((50, 60, 3), np.uint8)

    (file,) = save_answers([answer("x.png")], image, artefact(dataclasses.replace(CLASSES, draw=draw)), tmp_path)
    assert seen == [((40, 30), 1, ("cat", "dog"))]
    with Image.open(file) as drawn:
        assert drawn.width == 60


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (["a/1.jpg", "b/2.jpg"], ["1.png", "2.png"]),
        (["a/1.jpg", "a/1.png"], ["1.jpg.png", "1.png.png"]),
        (["a/1.jpg", "b/1.jpg"], ["a_1.jpg.png", "b_1.jpg.png"]),
        (["a/1.jpg", "b/1.jpg", "a_1.jpg"], ["a_1.jpg.png", "b_1.jpg.png", "a_1.png"]),
        (["0", "1"], ["0.png", "1.png"]),
        (["..", "x\n:y.png"], ["_.png", "x__y.png"]),
        (["x" * 300 + ".png"], ["x" * 60 + ".png"]),
    ],
)
def test_files_are_called_as_inputs_are_and_differ(inputs: list[str], names: list[str]) -> None:
    assert file_names(inputs) == names


@pytest.mark.parametrize("shape", [(3, 64, 64), (64, 64, 4), (5,)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="answers are drawn on images, and 0 is an array"):
        save_answers([answer("0")], lambda _: np.zeros(shape, np.uint8), artefact(), tmp_path)


def test_an_input_that_is_gone_by_now_has_no_picture(tmp_path: Path) -> None:
    def gone(_: int) -> Any:
        raise UnreadableSample("it is gone")

    assert save_answers([answer("0")], gone, artefact(), tmp_path) == []
