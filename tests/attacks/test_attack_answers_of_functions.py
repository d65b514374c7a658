"""Functions that answered with numbers beyond float64, names of 5,000 digits, one class twice, or objects that raise
when they are looked at ended in a traceback, or were recorded.

Taught: what a function returns is looked at as what a file holds is, and what it declares is hashed only where it has
bytes that stay the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.models import load_model

MODULE = """
import numpy as np

class Raises(dict):
    def items(self): raise RuntimeError("looked at")
class Unshown:
    def __repr__(self): raise RuntimeError("shown")

ANSWERS = {
    "beyond_float64": {"cat": 10**400, "dog": 0.0},
    "unprintable": {"cat": 10**5000, "dog": 0.0},
    "digits": ("9" * 5000, 0.9),
    "superscript": ("²", 0.9),
    "int64": (2**63, 0.9),
    "twice": [{"label": "cat", "score": 0.5}, {"label": "cat", "score": 0.9}],
    "alike": {"cat": 0.5, "Cat": 0.2, "dog": 0.3},
    "raises": Raises(cat=1.0),
    "unshown": Unshown(),
}

def answering(answer, **declared):
    def predict(images): return [answer for _ in images]
    predict.takes = "images"
    for name, value in declared.items(): setattr(predict, name, value)
    return predict

globals().update({name: answering(answer) for name, answer in ANSWERS.items()})
GOOD = {"cat": 0.6, "dog": 0.4}
device, pipe = answering(GOOD, files=["/dev/zero"]), answering(GOOD, files="pipe")
objects = answering(GOOD, arrays={"a": np.array([object()])})
declared = answering({"dog": 0.6, "cat": 0.4}, classes=np.array(["cat", "dog"]))
unsaid = answering(GOOD, weights_hash="")
"""


@pytest.fixture(autouse=True)
def _imported_anew() -> Iterator[None]:
    yield
    sys.modules.pop("answers", None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(np.full((8, 8, 3), 40 * k, np.uint8)).save(tmp_path / "photos" / name / f"{k}.png")
    (tmp_path / "answers.py").write_text(MODULE, encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("beyond_float64", "returns [{'cat': 1000"),
        ("unprintable", "returns an object of class list that cannot be shown"),
        ("digits", "names '9999"),
        ("superscript", "names '²', which is none of the 2 classes"),
        ("int64", "answers with a class of more than 9 digits; expected 0 to 1"),
        ("twice", "names 'cat' twice for one sample"),
        ("alike", "names 'Cat' twice for one sample"),
        ("raises", "returns [{'cat': 1.0}]; expected for each sample"),
        ("unshown", "returns an object of class list that cannot be shown"),
        ("device", "declares '/dev/zero', which is a pipe or a device"),
        ("pipe", "declares 'pipe', which is a pipe or a device"),
        ("objects", "its attribute arrays holds Python objects"),
    ],
)
def test_what_a_function_returns_or_declares(
    name: str, said: str, folder: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    asked = ("record", "--data", "folder:photos", "--model", f"python:answers:{name}", "--run", "run", "--no-timing")
    assert said in refused(*asked)


def test_classes_that_are_an_array_are_declared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert load_model("python:answers:declared").class_names == ("cat", "dog")


def test_an_empty_hash_is_no_identity(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    model = load_model("python:answers:unsaid")
    assert model.weights_hash
    assert "its identity is its source alone" in model.notes[0]
