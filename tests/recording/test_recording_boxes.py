"""Detectors over COCO's instances: recorded, tuned, run; images of many sizes, and one that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.process import command
from support.quick import quick

DETECTORS = """
import numpy as np

def found(images, noise):
    answers = []
    for image in images:
        light = np.asarray(image).max(axis=2) > 100
        ys, xs = np.nonzero(light)
        if not len(ys):
            answers.append({"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, int)})
            continue
        off = np.random.default_rng(int(xs.sum())).normal(size=4) * noise
        box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) + off
        answers.append({"boxes": box[None], "scores": np.array([1 / (1 + noise / len(xs) ** 0.5)]), "labels": [3]})
    return answers

def small(images):
    return found(images, 1.5)

def large(images):
    return found(images, 0.1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 images of one light rectangle each, of many sizes; the last has one pixel and nothing in it."""
    folder, rng = tmp_path_factory.mktemp("coco"), np.random.default_rng(0)
    (folder / "val").mkdir()
    images, annotations = [], []
    for i in range(80):
        width, height = rng.integers(30, 60, 2).tolist() if i < 79 else (1, 1)
        pixels = np.zeros((height, width, 3), np.uint8)
        if i < 79:
            w, h = rng.integers(4, 25, 2).tolist()
            x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            pixels[y : y + h, x : x + w] = 200
            annotations.append({"id": i + 1, "image_id": i, "category_id": 3, "bbox": [x, y, w, h], "area": w * h})
        Image.fromarray(pixels).save(folder / "val" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
    document = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "thing"}]}
    (folder / "instances_val.json").write_text(json.dumps(document))
    (folder / "detectors.py").write_text(DETECTORS)
    return folder


def test_detectors_are_recorded_tuned_and_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    models = [part for name in ("small", "large") for part in ("--model", f"python:detectors:{name}?takes=images")]
    done = command(
        folder, "record", "--task", "boxes", "--data", "coco:instances_val.json", *models, "--run", "run", "--json"
    )
    assert done.returncode == 0, done.stderr
    small, large = json.loads(done.stdout)
    assert (small["n"], large["n"]) == (80, 80)
    stages = f"{small['model']},{large['model']}"
    tuned = command(folder, "tune", "run", "--stages", stages, "--max-drop", "20%", "--out", "cascade", "--json")
    assert tuned.returncode == 0, tuned.stderr
    assert json.loads(tuned.stdout)["calibration"]["metric"] == "map"
    (folder / "bad.png").write_bytes(b"no image")
    allowed = [part for name in ("small", "large") for part in ("--allow-python", f"detectors:{name}")]
    files = ["val/0.png", "bad.png", "val/79.png"]
    said = command(folder, "predict", "cascade", *files, *allowed, "--json", PYTHONPATH=str(folder))
    assert said.returncode == 0, said.stderr
    one, bad, empty = json.loads(said.stdout)["answers"]
    (box,) = one["prediction"]
    assert (box["label"], box["name"], one["name"]) == (3, "thing", "1 thing")
    assert len(box["box"]) == 4
    assert 0 <= box["score"] <= 1
    assert bad["prediction"] is None
    assert "bad.png" in bad["error"]
    assert (empty["prediction"], empty["name"]) == ([], "nothing")
