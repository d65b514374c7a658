"""Segmentation from folders of images of many sizes to a cascade that answers; and samples and models at fault."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.records import open_run
from pilotfish.tasks.indexed_png import decode, encode
from pilotfish.tasks.mask import miou
from support.process import command

NETWORKS = '''
import numpy as np

def big(batch):
    """One class per colour."""
    return np.asarray(8 * batch, np.float32)

def small(batch):
    """The same of an image that is rolled, where it is dark."""
    moved = np.roll(batch, 1, 3)
    return np.asarray(8 * np.where(batch.mean(axis=(1, 2, 3), keepdims=True) < 0.35, moved, batch), np.float32)

def numbers(batch):
    return batch.argmax(axis=1)

def broken(batch):
    found = big(batch)
    found[batch.mean(axis=(1, 2, 3)) > 0.45] = np.nan
    return found

def coarse(batch):
    return big(batch)[:, :, ::2, ::2]

def five(batch):
    return np.concatenate([big(batch), big(batch)[:, :2] - 9], axis=1)
'''
SIZES = ((12, 8), (9, 9), (1, 1))
N = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of colours and their masks, networks, and a run with records of two of them."""
    at = tmp_path_factory.mktemp("masks")
    (at / "nets.py").write_text(NETWORKS)
    for name in ("images", "masks"):
        (at / name).mkdir()
    rng = np.random.default_rng(0)
    for i in range(N):
        width, height = SIZES[i % len(SIZES)]
        light = 60 + 8 * (i % 12)
        mask = rng.integers(0, 3, (height, width))
        pixels = rng.integers(0, light, (height, width, 3)) + (100 * np.eye(3)[mask]).astype(int)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(at / "images" / f"{i:02}.png")
        mask[rng.random(mask.shape) < 0.1] = 255
        (at / "masks" / f"{i:02}.png").write_bytes(encode(mask, 256))
    done = record(at, "masks:images,masks", "small,big", "run")
    assert done.returncode == 0, done.stderr
    return at


def record(at: Path, data: str, names: str, run: str) -> Any:
    models = ",".join(f"python:nets:{name}?scale=0..1&layout=nchw" for name in names.split(","))
    return command(at, "record", "--data", data, "--model", models, "--run", run, "--task", "mask", "--no-timing")


def model(name: str) -> str:
    return f"python:nets:{name}?scale=0..1&layout=nchw"


def test_records_hold_counts_masks_and_scores(folder: Path) -> None:
    found = open_run(folder / "run").read(model("big"))
    said = np.zeros((2, 3), int)
    for i, one in enumerate(found.ids.to_pylist()):
        true = decode((folder / "masks" / one).read_bytes(), one)
        image = np.asarray(Image.open(folder / "images" / one))
        answer = image.argmax(axis=2)
        assert (decode(found.outputs.mask[i], one) == answer).all()
        for c in range(3):
            said[0, c] += (answer[true == c] == c).sum()
            said[1, c] += ((answer == c) & (true != 255)).sum() + (answer[true == c] != c).sum()
    assert found.outputs.intersection.sum(axis=0).tolist() == said[0].tolist()
    assert found.outputs.union.sum(axis=0).tolist() == said[1].tolist()
    assert found.value == pytest.approx(miou(said.ravel().astype(float)))
    assert found.outputs.slic is None


def test_from_records_to_answers(folder: Path, tmp_path: Path) -> None:
    cascade = tmp_path / "cascade"
    stages = f"{model('small')},{model('big')}"
    done = command(folder, "tune", "run", "--stages", stages, "--max-drop", "5%", "--out", cascade, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["score"] == "grid"
    assert found["calibration"]["metric"] == "miou"
    assert 0 < found["calibration"]["exit_ratio"][0] < 1
    assert not any("one label" in note for note in found["notes"])
    allowed = [option for name in ("small", "big") for option in ("--allow-python", f"nets:{name}")]
    done = command(
        folder,
        "predict",
        cascade,
        *(f"images/{i:02}.png" for i in range(4)),
        *allowed,
        "--json",
        PYTHONPATH=str(folder),
    )
    assert done.returncode == 0, done.stderr
    for i, answer in enumerate(json.loads(done.stdout)["answers"]):
        size = SIZES[i % len(SIZES)]
        assert (answer["prediction"]["width"], answer["prediction"]["height"]) == size
        assert decode(base64.b64decode(answer["prediction"]["png"]), "it").shape == size[::-1]
        assert "%" in answer["name"]
    done = command(folder, "predict", cascade, "images/00.png", *allowed, PYTHONPATH=str(folder))
    assert "iVBOR" not in done.stdout
    done = command(
        folder, "evaluate", cascade, "--data", "masks:images,masks", *allowed, "--json", PYTHONPATH=str(folder)
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["found"]["n"] == found["calibration"]["n"] + found["evaluation"]["n"]


def test_without_masks_the_base_is_right(folder: Path, tmp_path: Path) -> None:
    done = record(folder, "folder:images", "small,big", f"{tmp_path}/run")
    assert done.returncode == 0, done.stderr
    done = command(
        folder, "tune", tmp_path / "run", "--stages", f"{model('small')},{model('big')}", "--max-drop", "5%", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["calibration"]["base_value"] == 1.0
    assert any("mIoU means agreement with the base" in note for note in found["notes"])


def test_a_base_of_class_numbers(folder: Path, tmp_path: Path) -> None:
    (folder / "masks" / "classes.txt").write_text("red\ngreen\nblue\n")
    try:
        done = record(folder, "masks:images,masks", "numbers", f"{tmp_path}/run")
    finally:
        (folder / "masks" / "classes.txt").unlink()
    assert done.returncode == 0, done.stderr
    found, same = open_run(tmp_path / "run").read(model("numbers")), open_run(folder / "run").read(model("big"))
    assert (found.outputs.union == same.outputs.union).all()
    assert found.outputs.grid is None


def test_a_sample_at_fault_costs_its_own_row(folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in (folder / "masks").glob("*.png"):
        (masks / path.name).write_bytes(path.read_bytes())
    (masks / "00.png").write_bytes(encode(np.zeros((50, 50), int), 3))
    (masks / "01.png").write_bytes((masks / "01.png").read_bytes()[:-8])
    (masks / "02.png").write_bytes(encode(np.full((1, 1), 255), 256))
    done = record(folder, f"masks:images,{masks}", "big", f"{tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert "00.png has 12 x 8 pixels, its mask 00.png 50 x 50" in done.stderr
    assert "cut off" in done.stderr
    found = open_run(tmp_path / "run").read(model("big"))
    assert len(found) == N - 2
    read = [decode((masks / name).read_bytes(), name) for name in found.ids.to_pylist()]
    assert found.task.known(found.label).tolist() == [bool((mask != 255).any()) for mask in read]


def test_answers_that_are_not_finite_cost_their_own_rows(folder: Path, tmp_path: Path) -> None:
    done = record(folder, "masks:images,masks", "broken", f"{tmp_path}/run")
    assert done.returncode == 0, done.stderr
    assert "the model's outputs are not finite" in done.stderr
    assert 0 < len(open_run(tmp_path / "run").read(model("broken"))) < N


def test_answers_of_another_size_are_refused(folder: Path, tmp_path: Path) -> None:
    done = record(folder, "masks:images,masks", "coarse", f"{tmp_path}/run")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) >= 1
    assert "pixels" in done.stderr.splitlines()[-1]


def test_a_class_that_the_model_lacks_is_refused(folder: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "03.png").write_bytes(encode(np.full((8, 12), 7), 256))
    done = record(folder, f"masks:images,{masks}", "big", f"{tmp_path}/run")
    assert done.returncode == 1
    assert "the mask of 03.png has class 7 in 96 pixels, and there are 3 classes" in done.stderr


def test_models_of_other_classes_make_no_pair(folder: Path, tmp_path: Path) -> None:
    done = record(folder, "masks:images,masks", "small,five", f"{tmp_path}/run")
    assert done.returncode == 0, done.stderr
    done = command(folder, "savers", tmp_path / "run", "--base", model("five"))
    assert done.returncode == 1
    assert "has 3 classes and" in done.stderr
