"""What Pilotfish writes, it reads back right: the preprocessing, what of it was assumed, the classes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

from pilotfish.cascade import load_artefact, save_artefact
from pilotfish.data import load_data
from pilotfish.errors import ArtefactError, ModelError
from pilotfish.flow.quantise import quantise
from pilotfish.models import Model, load_model
from pilotfish.models.preprocessing import AS_IT_IS
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from pilotfish.runtime import Cascade
from pilotfish.runtime.export import export, export_stages
from support.colours import CLASSES, SIDE, by_hand, linear_onnx, nearest, pictures

OPTIONS = RecordOptions(timing=False, batch_size=32, workers=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pictures``; ``bytes.onnx`` (channels last, bytes, squeezed), ``small.onnx`` (assumed),
    ``big.onnx`` (-1 to 1), the run ``run`` and the cascade ``cascade`` of the three."""
    folder = tmp_path_factory.mktemp("read-back")
    pictures(folder / "pictures", n=96, size=(48, 40), noise=25.0)
    classes = json.dumps({"names": list(CLASSES), "ids": None})
    bytes_last = by_hand(scale=255, squeeze=True, last=True)
    weights, bias = nearest(bytes_last, folder / "pictures")
    weights += np.random.default_rng(0).normal(0, 0.3 * weights.std(), weights.shape).astype(np.float32)
    shape = ("N", SIDE, SIDE, 3)
    linear_onnx(folder / "bytes.onnx", weights, bias, shape, "UINT8", **{"pilotfish.classes": classes})
    for name, chain in (("small", by_hand((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))), ("big", by_hand(0.5, 0.5))):
        weights, bias = nearest(chain, folder / "pictures")
        linear_onnx(folder / f"{name}.onnx", weights, bias, ("N", 3, SIDE, SIDE), **{"pilotfish.classes": classes})
    names = stages(folder)
    run = Run(folder / "run")
    record(f"folder:{folder}/pictures", names, run, options=OPTIONS)
    tune(run, names, max_drop=0.05, holdout=0).save(folder / "cascade")
    return folder


def stages(folder: Path) -> list[str]:
    return [
        f"onnx:{folder}/bytes.onnx?crop=squeeze",
        f"onnx:{folder}/small.onnx",
        f"onnx:{folder}/big.onnx?scale=-1..1&crop=0.875",
    ]


def same(a: Model, b: Model) -> bool:
    return (a.preprocessing, a.assumed, a.class_names, a.class_ids) == (
        b.preprocessing,
        b.assumed,
        b.class_names,
        b.class_ids,
    )


def test_the_stages_of_an_export_are_the_models_they_were(made: Path, tmp_path: Path) -> None:
    export_stages(made / "cascade", tmp_path / "stages", data=load_data(f"folder:{made}/pictures"))
    run = Run(made / "run")
    for k, name in enumerate(stages(made), 1):
        stage = f"onnx:{tmp_path}/stages/stage{k}.onnx"
        assert same(load_model(stage), load_model(name))
        record(f"folder:{made}/pictures", stage, tmp_path / "run", options=OPTIONS)
        again, first = Run(tmp_path / "run").read(stage), run.read(name)
        assert np.array_equal(again.outputs.prediction, first.outputs.prediction)
    assert "assumed" in load_model(f"onnx:{tmp_path}/stages/stage2.onnx").notes[0]
    assert load_model(f"onnx:{tmp_path}/stages/stage3.onnx").notes == ()


def test_tensors_in_other_files_are_brought_along(made: Path, tmp_path: Path) -> None:
    beside = tmp_path / "beside.onnx"
    onnx.save(onnx.load(made / "big.onnx"), beside, save_as_external_data=True, location="w.bin", size_threshold=0)
    names = [stages(made)[1], f"onnx:{beside}?scale=-1..1&crop=0.875"]
    record(f"folder:{made}/pictures", names, tmp_path / "run", options=OPTIONS)
    tune(Run(tmp_path / "run"), names, max_drop=0.05, holdout=0).save(tmp_path / "cascade")
    export_stages(tmp_path / "cascade", tmp_path / "stages")
    assert same(load_model(f"onnx:{tmp_path}/stages/stage2.onnx"), load_model(names[1]))


@pytest.mark.parametrize("batched", [False, True])
def test_a_graph_takes_bytes_and_channels_last_as_the_engine_does(batched: bool, made: Path, tmp_path: Path) -> None:
    data = load_data(f"folder:{made}/pictures")
    found = export(made / "cascade", tmp_path / "whole.onnx", batched=batched, data=data, samples=24)
    assert (found.samples, found.flips) == (24, 0)
    assert [entry.shape for entry in found.inputs] == [(SIDE, SIDE, 3), (3, SIDE, SIDE), (3, SIDE, SIDE)]
    with pytest.raises(ModelError, match="is a whole cascade that `pilotfish export` wrote"):
        load_model(f"onnx:{tmp_path}/whole.onnx")


@pytest.mark.parametrize("k", [0, 1])
def test_an_int8_model_says_what_its_source_says_and_assumes(k: int, made: Path, tmp_path: Path) -> None:
    name = stages(made)[k]
    quantise(name, load_data(f"folder:{made}/pictures"), tmp_path / "int8.onnx", samples=16)
    source, found = load_model(name), load_model(f"onnx:{tmp_path}/int8.onnx")
    chain = dataclasses.replace(source.preprocessing, dtype="int8")
    assert same(found, dataclasses.replace(source, preprocessing=chain))
    assert found.notes == source.notes
    [again] = record(f"folder:{made}/pictures", f"onnx:{tmp_path}/int8.onnx", tmp_path / "run", options=OPTIONS)
    agree = (
        Run(tmp_path / "run").read(again.model).outputs.prediction == Run(made / "run").read(name).outputs.prediction
    )
    assert agree.mean() > 0.7


def test_a_part_of_a_network_is_no_model_of_its_own(made: Path, tmp_path: Path) -> None:
    graph = onnx.load(made / "small.onnx")
    graph.metadata_props.add(key="pilotfish.continues", value='{"stage": "net#2"}')
    onnx.save(graph, tmp_path / "stage2.onnx")
    with pytest.raises(ModelError, match="continues from the features of the stage before it"):
        load_model(f"onnx:{tmp_path}/stage2.onnx")


def test_what_was_assumed_by_an_earlier_version_is_what_a_cascade_runs(made: Path, tmp_path: Path) -> None:
    """Inputs with channels last were taken as arrays before they were images."""
    weights, bias = nearest(by_hand(last=True), made / "pictures")
    last = linear_onnx(tmp_path / "last.onnx", weights, bias, ("N", SIDE, SIDE, 3))
    pixels = np.random.default_rng(0).random((40, SIDE, SIDE, 3), dtype=np.float32)
    np.savez(tmp_path / "data.npz", x=pixels, label=np.zeros(40, int))
    names = [f"onnx:{last}?layout=tensor", f"onnx:{last}?layout=tensor&dtype=float32"]
    record(f"arrays:{tmp_path}/data.npz", names, tmp_path / "run", options=OPTIONS)
    artefact = tune(Run(tmp_path / "run"), names, max_drop=0.05, holdout=0).artefact
    old = [dataclasses.replace(stage, spec=f"onnx:{last}") for stage in artefact.stages]
    save_artefact(dataclasses.replace(artefact, stages=tuple(old)), tmp_path / "cascade")
    assert Cascade.load(tmp_path / "cascade").models[0].preprocessing == AS_IT_IS
    stated = [dataclasses.replace(stage, spec=f"onnx:{last}?scale=0..1&crop=1") for stage in artefact.stages]
    save_artefact(dataclasses.replace(artefact, stages=tuple(stated)), tmp_path / "cascade")
    with pytest.raises(ArtefactError, match="for other preprocessing"):
        Cascade.load(tmp_path / "cascade")
    assert len(load_artefact(made / "cascade").stages) == 3


def test_stages_are_written_with_the_classes_that_only_the_data_named(made: Path, tmp_path: Path) -> None:
    for name, shrink in (("small", 0.5), ("big", 1.0)):
        weights, bias = nearest(by_hand(0.5, 0.5), made / "pictures")
        linear_onnx(tmp_path / f"{name}.onnx", shrink * weights, bias, ("N", 3, SIDE, SIDE))
    names = [f"onnx:{tmp_path}/{name}.onnx?scale=-1..1&crop=0.875" for name in ("small", "big")]
    record(f"folder:{made}/pictures", names, Run(tmp_path / "run"), options=OPTIONS)
    tune(Run(tmp_path / "run"), names, max_drop=0.9, holdout=0, allow_bad_base=True).save(tmp_path / "cascade")
    export_stages(tmp_path / "cascade", tmp_path / "stages")
    known = load_artefact(tmp_path / "cascade").stages[0].class_names
    assert known is not None
    for k in (1, 2):
        assert load_model(f"onnx:{tmp_path}/stages/stage{k}.onnx").class_names == known
