"""Cascades of ``python:`` functions that take whole samples: timed with real ones, neither exported nor embedded."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from pilotfish import Cascade, bench, evaluate, open_run, tune, tune_runtime
from pilotfish.cascade import save_artefact
from pilotfish.cascade.artefact import OperatingPoint
from pilotfish.errors import PilotfishError
from pilotfish.models import load_model
from pilotfish.recording import RecordOptions, record
from pilotfish.runtime.embed import save_with_weights
from pilotfish.runtime.export.by_stage import export_stages
from pilotfish.runtime.export.export import export
from pilotfish.runtime.sequential import predict_sequentially

NAMES = (f"whole_samples_{i}" for i in itertools.count())
CODE = """
import numpy as np
from PIL import Image

KINDS = []


def shares(image):
    means = np.asarray(image, np.float64).mean((0, 1)) / 20
    e = np.exp(means - means.max())
    return e / e.sum()


def saver(image):
    KINDS.append(type(image).__name__)
    p = shares(image.convert("RGB"))
    image.thumbnail((1, 1))  # its own copy: the base sees the whole
    return ("red", "green", "blue")[p.argmax()], float(p.max())


def base(images):
    KINDS.extend(type(x).__name__ for x in images)
    assert all(x.size == (12, 9) for x in images)
    return [dict(zip(("red", "green", "blue"), shares(x.convert("RGB")))) for x in images]


saver.takes, base.takes = "image", "images"
"""


class Whole(NamedTuple):
    folder: Path
    data: str
    allowed: list[str]
    module: Any


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A cascade of two such functions, of which each answers half of the photos."""
    path, name = tmp_path_factory.mktemp("whole"), next(NAMES)
    rng = np.random.default_rng(0)
    for place, colour in enumerate(("red", "green", "blue")):
        (path / "photos" / colour).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 100, (9, 12, 3))
            pixels[..., place] += rng.integers(5, 40)
            Image.fromarray(pixels.astype(np.uint8)).save(path / "photos" / colour / f"{i}.png")
    (path / f"{name}.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path)
        module = importlib.import_module(name)
    data, allowed = f"folder:{path / 'photos'}", [f"{name}:saver", f"{name}:base"]
    for code in allowed:
        record(data, f"python:{code}", path / "run", alias=code.partition(":")[2], options=RecordOptions())
    found = tune(path / "run", ["saver", "base"], max_drop="50%", holdout=0, allow_bad_base=True, cost="ms").artefact
    sure = open_run(path / "run").read("saver").outputs.confidence
    middle = OperatingPoint((float(np.median(sure)),))
    save_artefact(dataclasses.replace(found, operating_point=middle), path / "cascade")
    return Whole(path / "cascade", data, allowed, module)


def test_their_time_per_sample_is_that_of_the_recording(whole: Whole) -> None:
    for name in ("saver", "base"):
        meta = open_run(whole.folder.parent / "run").read(name).meta
        assert {"ms", "ms@cpu", "ms@cpu-b8"} == set(meta.costs)
        assert meta.timing["backend"] == "python"


def test_bench_and_tune_runtime_time_them_with_real_samples(whole: Whole) -> None:
    whole.module.KINDS.clear()
    found = bench(whole.folder, whole.data, runs=1, samples=8, allow_python=whole.allowed)
    assert found.n == 8
    tuned = tune_runtime(whole.folder, whole.data, seconds=0.05, allow_python=whole.allowed)
    assert [stage.chosen.backend for stage in tuned.stages] == ["python", "python"]
    (whole.folder / "runtime.json").unlink()
    assert set(whole.module.KINDS) == {"Image"}


def test_without_data_tune_runtime_says_that_it_needs_some(whole: Whole) -> None:
    with pytest.raises(PilotfishError, match=r"saver does not state the shape of its inputs; give samples"):
        tune_runtime(whole.folder, seconds=0.05, allow_python=whole.allowed)


def test_every_way_to_predict_gives_the_same_answers(whole: Whole) -> None:
    """A function may write into its image: the next stage sees another."""
    cascade = Cascade.load(whole.folder, allow_python=whole.allowed)
    paths = sorted(str(path) for path in Path(whole.data.removeprefix("folder:")).rglob("*.png"))
    answers = cascade.predict(paths)
    assert {one.stage for one in answers} == {0, 1}
    assert not any(one.error for one in answers)
    images = [Image.open(path) for path in paths]
    others = [
        cascade.predict([Path(path).read_bytes() for path in paths]),
        cascade.predict(np.stack([np.asarray(image) for image in images])),
        list(cascade.stream(images)),
        [cascade.predict_one(path) for path in paths],
        [cascade.predict_one(image) for image in images],
        predict_sequentially(whole.folder, paths, allow_python=whole.allowed),
    ]
    for found in others:
        said = [(one.prediction, one.name, one.stage) for one in found]
        assert said == [(one.prediction, one.name, one.stage) for one in answers]
        assert np.allclose([one.confidence for one in found], [one.confidence for one in answers])


def test_evaluate_matches_their_classes_by_name_where_the_data_lack_one(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole.data.removeprefix("folder:"), tmp_path / "photos")
    shutil.rmtree(tmp_path / "photos" / "blue")  # the first of the data that they were recorded on
    kept = evaluate(whole.folder, whole.data, allow_python=whole.allowed)
    found = evaluate(whole.folder, f"folder:{tmp_path / 'photos'}", allow_python=whole.allowed)
    assert (found.n, kept.n) == (20, 30)
    answers = Cascade.load(whole.folder, allow_python=whole.allowed).predict([tmp_path / "photos"])
    right = [one.name == Path(one.input).parent.name for one in answers]
    assert found.found.accuracy == np.mean(right)


REFUSING: dict[str, Callable[[Whole, Path], Any]] = {
    "export": lambda whole, out: export(whole.folder, out / "a.onnx", allow_python=whole.allowed),
    "by stage": lambda whole, out: export_stages(whole.folder, out / "stages", allow_python=whole.allowed),
    "embed": lambda whole, out: save_with_weights(
        Cascade.load(whole.folder, allow_python=whole.allowed).artefact, out / "embedded", whole.allowed
    ),
}


@pytest.mark.parametrize("how", REFUSING)
def test_what_needs_weights_or_a_graph_refuses_them_and_says_what_to_do(how: str, whole: Whole, tmp_path: Path) -> None:
    if how != "embed":
        pytest.importorskip("onnx")
    with pytest.raises(PilotfishError) as caught:
        REFUSING[how](whole, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert "saver" in str(caught.value)
    assert any(advice in str(caught.value) for advice in ("install its module", "record a model that", "onnx:FILE"))
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.parametrize("what", ["an unknown class", "another form", "too few"])
def test_answers_that_are_not_as_recorded_fail_alone(what: str, whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    cascade = Cascade.load(whole.folder, allow_python=whole.allowed)
    backend: Any = cascade.models[0].backend
    odd = {"an unknown class": ("pink", 0.9), "another form": np.ones(3), "too few": None}[what]
    paths = sorted(str(path) for path in Path(whole.data.removeprefix("folder:")).rglob("*.png"))
    real, first = backend.function, np.asarray(Image.open(paths[0]))
    function = lambda image: odd if np.array_equal(np.asarray(image), first) else real(image)  # noqa: E731
    monkeypatch.setattr(backend, "function", function)
    errors = [one.error for one in cascade.predict(paths) if one.error]
    assert len(errors) == 1
    assert whole.allowed[0] in errors[0]
    assert len(errors[0].splitlines()) == 1


def test_vectors_in_one_array_are_as_many_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(NAMES)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{name}.py").write_text("def f(xs): return [{c: float(v) for c, v in zip('abc', x)} for x in xs]")
    x = np.random.default_rng(0).standard_normal((40, 3))
    np.savez(tmp_path / "data.npz", x=x, y=x.argmax(axis=1))
    for alias in ("one", "two"):
        record(f"arrays:{tmp_path / 'data.npz'}", f"python:{name}:f?takes=arrays", tmp_path / "run", alias=alias)
    tune(tmp_path / "run", ["one", "two"], max_drop="1%", holdout=0).save(tmp_path / "cascade")
    cascade = Cascade.load(tmp_path / "cascade", allow_python=[f"{name}:f"])
    assert [one.prediction for one in cascade.predict(x)] == x.argmax(axis=1).tolist()
    assert load_model(f"python:{name}:f").preprocessing.kind == "tensor"  # nothing says otherwise
