"""Cascades that take arrays, and answers that are no classes: several labels each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.data import load_data
from pilotfish.errors import ModelError
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from pilotfish.runtime import Answer, Cascade
from support.requests import b64, infer, tensor
from support.server import Serving, serving

NAMED = ("red", "green", "blue")
CODE = """
import numpy as np

def large(batch):
    return 1 / (1 + np.exp(-(8 * batch[:, :3] - 4)))

def small(batch):
    hard = batch[:, 3:]
    return 1 / (1 + np.exp(-((8 * batch[:, :3] - 4) / (1 + 9 * abs(hard)) + hard)))
"""
MODULE = "served_labels"
ALLOWED = (f"{MODULE}:small", f"{MODULE}:large")


def samples(n: int, seed: int) -> np.ndarray:
    """float32 (n, 6): the labels, and how wrong the saver is."""
    rng = np.random.default_rng(seed)
    wrong = rng.standard_normal((n, 3)) * (np.arange(n) % 2)[:, None]
    return np.concatenate([rng.random((n, 3)) < 0.4, wrong], axis=1).astype(np.float32)


X = samples(8, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("arrays")
    (place / f"{MODULE}.py").write_text(CODE)
    x = samples(200, seed=0)
    np.savez(place / "data.npz", x=x, label=(x[:, :3] > 0).astype(np.int8), class_names=NAMED)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        models = [f"python:{name}?activation=sigmoid" for name in ALLOWED]
        data = load_data(f"arrays:{place / 'data.npz'}")
        record(data, models, Run(place / "run"), options=RecordOptions(timing=False, workers=1))
        tune(Run(place / "run"), models, max_drop=0.05).save(place / "cascade")
    return place


@pytest.fixture(scope="module")
def expected(folder: Path, arrays: Serving) -> list[Answer]:
    found = Cascade.load(folder / "cascade", allow_python=ALLOWED).predict(X)
    assert {a.stage for a in found} == {0, 1}
    return found


@pytest.fixture(scope="module")
def arrays(folder: Path) -> Iterator[Serving]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with serving({"pair": folder / "cascade"}, allow_python=ALLOWED) as running:
            yield running


def check(outputs: list[Any], expected: list[Answer]) -> None:
    found = {one["name"]: one["data"] for one in outputs}
    assert [json.loads(one) for one in found["prediction"]] == [a.prediction for a in expected]
    assert found["name"] == [a.name or "" for a in expected]
    assert found["stage"] == [a.stage for a in expected]
    assert found["confidence"] == pytest.approx([a.confidence for a in expected], abs=1e-5)


def test_the_tensors_are_described(arrays: Serving) -> None:
    said = arrays.get("/v2/models/pair").json
    assert [(one["name"], one["datatype"]) for one in said["inputs"]] == [("input", "FP32")]
    assert said["inputs"][0]["shape"][0] == -1
    assert said["outputs"][0] == {"name": "prediction", "datatype": "BYTES", "shape": [-1]}


@pytest.mark.parametrize(("datatype", "dtype"), [("FP32", "<f4"), ("FP64", "<f8"), ("FP16", "<f2")])
def test_binary_tensors(arrays: Serving, expected: list[Answer], datatype: str, dtype: str) -> None:
    found = infer(arrays, {"inputs": [tensor(datatype, X.shape)]}, X.astype(dtype).tobytes())
    assert found.status == 200, found.body
    if datatype != "FP16":
        check(found.json["outputs"], expected)


@pytest.mark.parametrize("data", [X.tolist(), X.ravel().tolist()], ids=["nested", "flat"])
def test_numbers_in_json(arrays: Serving, expected: list[Answer], data: list[Any]) -> None:
    check(infer(arrays, {"inputs": [tensor("FP32", X.shape, data=data)]}).json["outputs"], expected)


def test_predict_and_v1(arrays: Serving, expected: list[Answer]) -> None:
    for path, key in (("/predict", "answers"), ("/v1/models/pair:predict", "predictions")):
        instances = [{"array": one} for one in X[:4].tolist()] + X[4:].tolist()
        found = arrays.ask("POST", path, {"instances": instances}).json[key]
        for said, answer in zip(found, expected, strict=True):
            assert (said["prediction"], said["name"], said["stage"]) == (answer.prediction, answer.name, answer.stage)


def test_a_bad_sample(arrays: Serving, expected: list[Answer]) -> None:
    odd = infer(arrays, {"inputs": [tensor("BOOL", X.shape)]}, bytes(47) + b"\2")
    assert (odd.status, "other than 0 and 1" in odd.json["error"]) == (400, True)
    broken = X.copy()
    broken[3, 0] = np.nan
    found = infer(arrays, {"inputs": [tensor("FP32", X.shape)]}, broken.tobytes())
    assert found.status == 400
    assert found.json["error"].startswith("input[3]: ")
    instances = [{"array": X[0].tolist()}, {"array": [1e39] * 6}, {"b64": b64(b"x")}, {"array": [True, 1]}]
    found = arrays.ask("POST", "/predict", {"instances": instances})
    answers = found.json["answers"]
    assert answers[0]["prediction"] == expected[0].prediction
    assert ["too large" in answers[1]["error"], "not encoded images" in answers[2]["error"]] == [True, True]
    assert "found booleans and numbers" in answers[3]["error"]


@pytest.mark.parametrize(
    ("array", "status"),
    [(X[0], 500), (X[0, :5], 400), (X[:2, :3], 400), (X[0, 0], 400)],
    ids=["sound", "short", "deep", "a number"],
)
def test_where_the_first_stage_raises_it_is_told_whose_fault_it_is(
    folder: Path, array: np.ndarray, status: int
) -> None:
    """The cascade does not know its shapes: they are those that it has answered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with serving({"pair": folder / "cascade"}, allow_python=ALLOWED) as running:
            assert running.ask("POST", "/predict", {"array": X[1].tolist()}).status == 200
            stages = running.server.hosted().engine.stages
            stages[0] = replace(stages[0], backend=Broken(), alone=None)
            found = infer(running, {"inputs": [tensor("FP32", (1, *array.shape))]}, array.tobytes())
    assert (found.status, found.json["error"]) == (status, "input[0]: it cannot be computed")


@pytest.mark.parametrize(("value", "status"), [(0.5, 500), (1e30, 500), (np.nan, 400), (-np.inf, 400)])
def test_where_no_outputs_are_finite_it_is_told_whose_fault_it_is(folder: Path, value: float, status: int) -> None:
    """Functions that are given arrays as they are may be given NaN; other stages refuse it."""
    array = X[:1].copy()
    array[0, 0] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with serving({"pair": folder / "cascade"}, allow_python=ALLOWED) as running:
            hosted = running.server.hosted()
            for k, stage in enumerate(hosted.engine.stages):
                hosted.engine.stages[k] = replace(stage, backend=NotFinite(), alone=None)
            found = infer(running, {"inputs": [tensor("FP32", array.shape)]}, array.tobytes())
            counted = {cause: n for cause, n in hosted.meter.causes.errors.items() if n}
    assert found.status == status
    assert counted == {"model" if status == 500 else "bad_input": 1}


class NotFinite:
    name = "not finite"

    def step(self, inputs: np.ndarray, carry: object = None) -> tuple[np.ndarray, None]:
        return np.full((len(inputs), 3), np.nan, np.float32), None


class Broken:
    name = "broken"

    def step(self, inputs: np.ndarray | None, carry: object = None) -> tuple[np.ndarray, None]:
        raise ModelError("it cannot be computed")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"inputs": [tensor("BYTES", [1], data=["x"])]}, "expected FP32"),
        ({"inputs": [tensor("INT8", [1, 2], data=[1, 300])]}, "int8"),
        ({"inputs": [tensor("FP32", [1, 2], data=[1e300, 0])]}, "float32"),
        ({"inputs": [tensor("BOOL", [1, 2], data=[1, 0])]}, "bool"),
        ({"inputs": [tensor("FP32", X.shape, data=X.tolist())], "outputs": [{"name": "prediction",
          "parameters": {"classification": 1}}]}, "not a class"),
    ],
)  # fmt: skip
def test_what_does_not_fit(arrays: Serving, request_: dict[str, Any], words: str) -> None:
    found = infer(arrays, request_)
    assert found.status == 400
    assert words in found.json["error"]


def test_the_console_names_the_metric_as_people_do(arrays: Serving) -> None:
    assert arrays.get("/console.json").json["model"]["frontier"]["metric"] == "micro F1"


def test_an_image_is_415(arrays: Serving) -> None:
    found = arrays.ask("POST", "/predict", b"\xff\xd8\xff", {"Content-Type": "image/jpeg"})
    assert found.status == 415
    assert "arrays" in found.json["error"]
