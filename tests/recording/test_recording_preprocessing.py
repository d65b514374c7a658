"""Preprocessing that nobody stated: what was assumed is said, and where labels show that another choice is better by
far, so is that, with the name to record."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from pilotfish.data import load_data
from pilotfish.errors import ModelError
from pilotfish.models import Model, Preprocessing, load_model, parse_spec
from pilotfish.models.names.load_model import take_variant
from pilotfish.models.names.python_model import PythonBackend
from pilotfish.models.names.stated import ASSUMED, spec_with, with_stated
from pilotfish.recording import RecordOptions, RecordResult, record
from pilotfish.recording.preprocessing_check import (
    better_by_test,
    choices,
    preprocessing_notes,
    stating,
)
from pilotfish.records import Run
from support.colours import SIDE, by_hand, linear_onnx, nearest, pictures, plain_accuracy

OPTIONS = RecordOptions(timing=False, batch_size=32, workers=1)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OWN: dict[str, dict[str, Any]] = {
    "0..1": {},
    "-1..1": {"scale": 2, "offset": -1},
    "0..255": {"scale": 255},
    "bgr": {"bgr": True, "mean": MEAN[::-1], "std": STD[::-1]},
    "squeezed": {"squeeze": True, "mean": MEAN, "std": STD},
    "0..1, squeezed": {"squeeze": True},
    "0..255, bgr": {"scale": 255, "bgr": True},
    "caffe": {"scale": 255, "bgr": True, "mean": (103.939, 116.779, 123.68)},
    "0..255, bytes, squeezed, channels last": {"scale": 255, "squeeze": True, "last": True},
    "-1..1, channels last": {"scale": 2, "offset": -1, "last": True},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("pictures"), n=96)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose classes a centre crop cuts away."""
    return pictures(tmp_path_factory.mktemp("wide"), n=96, size=(64, 36))


def accuracy(run: Path, result: RecordResult) -> float:
    found = Run(run).read(result.model)
    return float((found.outputs.prediction == found.label).mean())


def about(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Those that are about preprocessing."""
    return tuple(note for note in notes if "preprocessing" in note or "as they are" in note)


def advised(notes: tuple[str, ...]) -> str:
    """The model's name in the note that names a better one."""
    [note] = [note for note in notes if "record with" in note]
    [name] = shlex.split(note.rpartition("record with ")[2])
    return name


@pytest.mark.parametrize("own", OWN)
def test_the_better_choice_is_named_and_gives_the_accuracy_of_plain_code(
    own: str, folder: Path, wide: Path, tmp_path: Path
) -> None:
    folder = wide if "squeezed" in own else folder
    plain = by_hand(**OWN[own])
    weights, bias = nearest(plain, folder)
    expected = plain_accuracy(plain, weights, bias, folder)
    shape = ("N", SIDE, SIDE, 3) if "last" in own else ("N", 3, SIDE, SIDE)
    path = linear_onnx(tmp_path / "net.onnx", weights, bias, shape, "UINT8" if "bytes" in own else "FLOAT")
    [first] = record(f"folder:{folder}", f"onnx:{path}", tmp_path / "run", options=OPTIONS)
    assert expected > 0.95
    assert any(note.startswith("preprocessing assumed: resize 36, centre crop 32, bicubic") for note in first.notes)
    assert accuracy(tmp_path / "run", first) < expected - 0.05
    name = advised(first.notes)
    [second] = record(f"folder:{folder}", name, tmp_path / "again", options=OPTIONS)
    assert accuracy(tmp_path / "again", second) == expected
    assert not any("record with" in note for note in second.notes)


def test_nobody_is_talked_out_of_what_is_right_or_of_what_makes_no_difference(folder: Path, tmp_path: Path) -> None:
    weights, bias = nearest(by_hand(MEAN, STD), folder)
    path = linear_onnx(tmp_path / "right.onnx", weights, bias, ("N", 3, SIDE, SIDE))
    [found] = record(f"folder:{folder}", f"onnx:{path}", tmp_path / "run", options=OPTIONS)
    assert [note.partition(":")[0] for note in about(found.notes)] == ["preprocessing assumed"]
    data = load_data(f"folder:{folder}")
    labels = np.asarray(data.labels)
    for seed in range(4):
        noise = np.random.default_rng(seed).standard_normal(weights.shape).astype(np.float32)
        path = linear_onnx(tmp_path / f"{seed}.onnx", noise, 0 * bias, ("N", 3, SIDE, SIDE))
        assert preprocessing_notes(data, load_model(f"onnx:{path}"), labels) == ()


@pytest.mark.parametrize(
    "stated", ["mean=0&std=1&crop=0.875", "scale=0..1&crop=squeeze", "mean=0.5&std=0.5&crop=center"]
)
def test_nothing_is_said_of_what_is_stated(stated: str, folder: Path, tmp_path: Path) -> None:
    weights, bias = nearest(by_hand(scale=255), folder)
    path = linear_onnx(tmp_path / "net.onnx", weights, bias, ("N", 3, SIDE, SIDE))
    [found] = record(f"folder:{folder}", f"onnx:{path}?{stated}", tmp_path / "run", options=OPTIONS)
    assert about(found.notes) == ()


def test_few_labels_and_none_decide_nothing(folder: Path, tmp_path: Path) -> None:
    weights, bias = nearest(by_hand(scale=255), folder)
    model = load_model(f"onnx:{linear_onnx(tmp_path / 'net.onnx', weights, bias, ('N', 3, SIDE, SIDE))}")
    data = load_data(f"folder:{folder}")
    labels = np.asarray(data.labels).copy()
    assert len(preprocessing_notes(data, model, labels)) == 1
    labels[49:] = -1
    assert preprocessing_notes(data, model, labels) == ()
    assert preprocessing_notes(data, model, np.full(len(data), -1)) == ()


def test_an_interrupted_recording_keeps_what_was_found_when_it_began(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, bias = nearest(by_hand(scale=255), folder)
    name = f"onnx:{linear_onnx(tmp_path / 'net.onnx', weights, bias, ('N', 3, SIDE, SIDE))}"

    def stop(_: str, done: int, __: int) -> None:
        if done >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(f"folder:{folder}", name, tmp_path / "run", options=OPTIONS, progress=stop)
    monkeypatch.setattr("pilotfish.recording.planned.preprocessing_notes", lambda *_: pytest.fail("checked twice"))
    [found] = record(f"folder:{folder}", name, tmp_path / "run", options=OPTIONS)
    assert advised(found.notes) == f"{name}?scale=0..255"
    assert set(Run(tmp_path / "run").read(name).meta.notes) <= set(found.notes)


@pytest.mark.parametrize("assumed", [ASSUMED, ("crop", "channels"), ("mean", "std"), ("std", "channels"), ("crop",)])
@pytest.mark.parametrize("mean", [MEAN, (0.5, 0.5, 0.5), (0.2,)])
@pytest.mark.parametrize("resize", [256, None, (300, 260)])
def test_every_choice_is_stated_so_that_it_is_read_back(
    mean: tuple[float, ...], resize: Any, assumed: tuple[str, ...]
) -> None:
    chain = Preprocessing(resize=resize, mean=mean, std=STD[: len(mean)])
    backend = PythonBackend(lambda batch: batch)
    model = Model("onnx:a", backend, chain, "w", (len(mean), 224, 224), assumed=assumed)
    typed = {what: ":".join(map(str, getattr(chain, what))) for what in ("mean", "std") if what not in assumed}
    base = spec_with("onnx:a", {"interpolation": "bicubic", **typed})
    seen = choices(chain, assumed, typed)
    seen += [further for one in seen for further in choices(one, assumed, typed)]
    for one in seen:
        name = spec_with(base, stating(one, chain))
        assert with_stated(model, take_variant(parse_spec(name))[0]).preprocessing == one, name


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (5, 5), (13, 2), (30, 11), (256, 0)])
def test_the_paired_test_is_the_binomial_tail(wins: int, losses: int) -> None:
    n = wins + losses
    expected = sum(math.comb(n, k) for k in range(wins, n + 1)) / 2**n
    assert better_by_test(wins, losses) == pytest.approx(expected, rel=1e-12)


def test_pictures_that_go_in_as_arrays_are_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "as_arrays.py").write_text("def f(batch): return batch.reshape(len(batch), -1)[:, :6] * 2.0 - 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    [found] = record(f"folder:{folder}", "python:as_arrays:f", tmp_path / "run", options=OPTIONS)
    assert about(found.notes)[0].startswith("pictures are given as they are: pixels from 0 to 255 of shape (40, 40, 3)")
    [found] = record(
        f"folder:{folder}", "python:as_arrays:f?size=8&scale=0..1&crop=1", tmp_path / "run", options=OPTIONS
    )
    assert about(found.notes) == ()


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0])
def test_bytes_are_not_made_of_other_numbers(value: float, tmp_path: Path) -> None:
    path = linear_onnx(tmp_path / "net.onnx", np.eye(4, dtype=np.float32), np.zeros(4, np.float32), ("N", 4), "UINT8")
    np.savez(tmp_path / "bytes.npz", x=np.arange(40, dtype=np.float32).reshape(10, 4))
    [found] = record(f"arrays:{tmp_path}/bytes.npz", f"onnx:{path}", tmp_path / "run", options=OPTIONS)
    assert found.n == 10
    np.savez(tmp_path / "others.npz", x=np.full((10, 4), value, np.float32))
    with pytest.raises(ModelError, match=r"takes bytes \(uint8\), and 0 of .* expected whole numbers from 0 to 255"):
        record(f"arrays:{tmp_path}/others.npz", f"onnx:{path}", tmp_path / "other", options=OPTIONS)
