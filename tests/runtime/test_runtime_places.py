"""Cascades that were moved find their models, or say where they looked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pilotfish.cascade import load_artefact
from pilotfish.errors import ArtefactError
from pilotfish.models.names.spec import file_of, parse_spec
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from pilotfish.records.parquet import read_meta
from pilotfish.runtime import Cascade, save_with_weights

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 8)).astype(np.float32)
WEIGHTS = RNG.standard_normal((8, 4)).astype(np.float32) * 3


def onnx_file(path: Path, weights: np.ndarray) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    x, y = (helper.make_tensor_value_info(k, TensorProto.FLOAT, ["N", n]) for k, n in (("x", 8), ("y", 4)))
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])], "g", [x], [y], [numpy_helper.from_array(weights, "W")]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``models/small.onnx``, ``models/big.onnx`` and ``cascade``, tuned there by relative names."""
    folder = tmp_path / "home"
    (folder / "models").mkdir(parents=True)
    onnx_file(folder / "models/small.onnx", WEIGHTS + RNG.standard_normal((8, 4)).astype(np.float32))
    onnx_file(folder / "models/big.onnx", WEIGHTS)
    np.savez(folder / "data.npz", x=X)
    monkeypatch.chdir(folder)
    names = ["onnx:models/small.onnx", "onnx:models/big.onnx"]
    record("arrays:data.npz", names, "run", options=RecordOptions(timing=False))
    tune(Run(Path("run")), names, max_drop=0.05, holdout=0).save("cascade")
    return folder


def away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "away").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "away")
    return tmp_path / "away"


def everything(home: Path, target: Path) -> Path:
    return home.rename(target / "other name") / "cascade"


def the_cascade_alone(home: Path, target: Path) -> Path:
    return (home / "cascade").rename(target / "cascade")


def models_beside_it(home: Path, target: Path) -> Path:
    for file in (home / "models").iterdir():
        file.rename(target / file.name)
    return the_cascade_alone(home, target)


def models_inside_it(home: Path, target: Path) -> Path:
    (home / "models").rename(home / "cascade/models")
    return the_cascade_alone(home, target)


def of_an_earlier_version(home: Path, target: Path) -> Path:
    file = home / "cascade/cascade.json"
    document = json.loads(file.read_text())
    for stage in document["stages"]:
        del stage["files"]
    file.write_text(json.dumps(document))
    return everything(home, target)


@pytest.mark.parametrize(
    "move",
    [
        lambda home, _: home / "cascade",
        everything,
        the_cascade_alone,
        models_beside_it,
        models_inside_it,
        of_an_earlier_version,
    ],
)
def test_a_cascade_answers_from_anywhere(
    move: Callable[[Path, Path], Path], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Cascade.load("cascade").predict(X)
    target = away(monkeypatch, tmp_path)
    assert Cascade.load(move(home, target)).predict(X) == expected


def test_a_file_of_the_same_name_is_not_taken_for_the_model(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Cascade.load("cascade").predict(X)
    target = away(monkeypatch, tmp_path)
    (target / "models").mkdir()
    onnx_file(target / "models/small.onnx", WEIGHTS * 2)
    (target / "models/big.onnx").write_bytes(b"no model")
    assert Cascade.load(home / "cascade").predict(X) == expected
    shutil.rmtree(home / "models")
    with pytest.raises(ArtefactError, match="the thresholds were made for weights"):
        Cascade.load(home / "cascade")


def test_what_is_nowhere_is_said_with_the_places_and_embed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = away(monkeypatch, tmp_path)
    shutil.rmtree(home / "models")
    with pytest.raises(ArtefactError) as caught:
        Cascade.load(home / "cascade")
    said = str(caught.value)
    for part in ("no such file 'small.onnx'", str(target), str(home), str(home / "cascade"), "--embed"):
        assert part in said
    assert "\n" not in said


def test_places_are_kept_in_records_and_folders_and_not_where_weights_are_embedded(home: Path, tmp_path: Path) -> None:
    whole = str((home / "models/small.onnx").resolve())
    assert read_meta(next(Path("run").glob("*small*"))).file == whole
    artefact = load_artefact("cascade")
    assert artefact.stages[0].files == ("../models/small.onnx", whole)
    embedded = save_with_weights(artefact, tmp_path / "embedded")
    assert [stage.files for stage in load_artefact(embedded).stages] == [(), ()]
    assert "home" not in (embedded / "cascade.json").read_text()


@pytest.mark.parametrize("files", [3, "text", None, {"a": 1}])
def test_places_that_are_no_list_are_refused(files: object, home: Path) -> None:
    file = home / "cascade/cascade.json"
    document = json.loads(file.read_text())
    document["stages"][0]["files"] = files
    file.write_text(json.dumps(document))
    with pytest.raises(ArtefactError, match="damaged or incomplete"):
        load_artefact(home / "cascade")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("onnx:a/b.onnx@64?mean=0.5", "a/b.onnx"),
        ("checkpoint:w.safetensors?num_classes=3", "w.safetensors"),
        ("exits:net.safetensors#2", "net.safetensors"),
        ("timm:resnet18?weights=a/w.pth&num_classes=3", "a/w.pth"),
        ("torchvision:resnet18?weights=w.pth", "w.pth"),
        ("torchvision:resnet18?weights=IMAGENET1K_V1", None),
        ("timm:resnet18?weights=random", None),
        ("timm:resnet18", None),
        ("python:m:f", None),
    ],
)
def test_names_lead_to_files(name: str, file: str | None) -> None:
    assert file_of(parse_spec(name)) == file
