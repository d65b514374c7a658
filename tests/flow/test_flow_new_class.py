"""docs/new-class.md, typed as it stands: twenty classes become twenty-one."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.cascade import load_artefact
from pilotfish.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from support.colours import linear_onnx
from support.process import command, refused
from support.quick import quick

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

PAGE = Path(__file__).parents[2] / "docs" / "new-class.md"
NAMES = [f"kind {k}" for k in range(20)] + ["umbrella"]
BLOCK = re.compile(r"```\n(.*?)```(?:\n\n> (.*?)\n)?", re.DOTALL)
EACH = 8
COLOURS = np.random.default_rng(0).uniform(0.1, 0.9, (21, 3))


def photos(folder: Path, classes: int) -> None:
    rng = np.random.default_rng(1)
    for name, colour in zip(NAMES[:classes], COLOURS, strict=False):
        (folder / name).mkdir(parents=True)
        for i in range(EACH):
            pixels = 255 * colour + rng.normal(0, 9, 3) + rng.normal(0, 20, (32, 32, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{i}.png")


def network(path: Path, side: int, classes: int, noise: float) -> None:
    """An ONNX file that knows the mean colour of each class, with some noise, and takes images of *side* pixels."""
    known = COLOURS[:classes] + noise * np.random.default_rng(2).normal(size=(classes, 3))
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    weights = np.repeat((200 * known * std).T, side * side, axis=0) / side**2
    bias = 200 * known @ mean - 100 * (known**2).sum(axis=1)
    linear_onnx(
        path,
        weights.astype(np.float32),
        bias.astype(np.float32),
        ("n", 3, side, side),
        names=json.dumps(NAMES[:classes]),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos, four models, and the cascade of twenty classes."""
    made = tmp_path_factory.mktemp("new-class")
    for name, classes in (("photos", 20), ("photos-21", 21)):
        photos(made / name, classes)
    for name, classes in (("", 20), ("-21", 21)):
        network(made / f"small{name}.onnx", 8, classes, 0.05)
        network(made / f"big{name}.onnx", 32, classes, 0.0)
    models = ("onnx:small.onnx", "onnx:big.onnx")
    with contextlib.chdir(made):
        record("folder:photos", models, "run", options=RecordOptions(timing=False, batch_size=32))
        tune(Run("run"), models, max_drop=0.01).save("cascade")
    return made


def test_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command does what the page says of it: those that are followed by a message are refused with it."""
    quick(monkeypatch)
    blocks, shown = BLOCK.findall(PAGE.read_text()), ""
    assert [bool(said) for _, said in blocks] == [True, True, False, False]
    for typed, said in blocks:
        for line in typed.splitlines():
            words = shlex.split(line)[1:]
            ended = command(folder, *words, *(["--runs", 1] if words[0] == "build" else []))
            if said:
                assert said in refused(ended)
            else:
                assert ended.returncode == 0, (line, ended.stderr)
                shown += ended.stdout
    assert shown.count("umbrella/") == EACH
    assert {len(stage.class_names or ()) for stage in load_artefact(folder / "cascade-21").stages} == {21}
    assert shown.count("accuracy of the base") == 2
