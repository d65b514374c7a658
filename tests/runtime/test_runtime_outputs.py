"""Cascades of models that end in probabilities decide as those of their logits do: recorded, run, alone, exported."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import pilotfish  # noqa: E402
from pilotfish.data import Dataset, open_data  # noqa: E402
from pilotfish.flow.quantise import quantise  # noqa: E402
from pilotfish.models import Preprocessing  # noqa: E402
from pilotfish.models.backends.torch_backend import torch_model  # noqa: E402
from pilotfish.models.costs.timing import time_batches  # noqa: E402
from pilotfish.models.names import python_model  # noqa: E402
from pilotfish.recording import RecordOptions, record  # noqa: E402
from pilotfish.records import Run  # noqa: E402
from pilotfish.runtime.export import export, export_stages  # noqa: E402

N, D, C = 300, 8, 5
RNG = np.random.default_rng(3)
X = RNG.standard_normal((N, D)).astype(np.float32)
BASE = RNG.standard_normal((D, C)).astype(np.float32) * 20
SAVER = BASE + RNG.standard_normal((D, C)).astype(np.float32) * 8
LABEL = (X @ BASE).argmax(axis=1)
TENSOR = Preprocessing(kind="tensor", size=None, resize=None, mean=(), std=())
COUNT = itertools.count()


@dataclass(frozen=True)
class Made:
    """A tuned pair of a saver and a base, and the saver's records."""

    folder: Path
    cascade: Path
    run: Run
    code: tuple[str, ...]

    def load(self) -> pilotfish.Cascade:
        """The cascade, its user's own code allowed."""
        return pilotfish.Cascade.load(self.cascade, allow_python=self.code)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("outputs") / "data.npz"
    np.savez(path, x=X, label=LABEL)
    return open_data(f"arrays:{path}")


def linear(path: Path, w: np.ndarray, last: str) -> str:
    """An ONNX file that ends in *last* (Identity, Softmax, Sigmoid or LogSoftmax), its logits being another output."""
    attributes: dict[str, Any] = {"axis": 1} if "Softmax" in last else {}
    nodes = [
        helper.make_node("Tanh", ["x"], ["embedding"]),
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node(last, ["z"], ["scores"], **attributes),
    ]
    shapes = {"embedding": D, "scores": C}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", d]) for name, d in shapes.items()]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", D])]
    graph = helper.make_graph(nodes, "g", given, outputs, [numpy_helper.from_array(w, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return f"onnx:{path}"


class Linear(torch.nn.Module):
    def __init__(self, w: np.ndarray, last: str) -> None:
        super().__init__()
        self.layer, self.last = torch.nn.Linear(D, C, bias=False), last
        self.layer.weight.data = torch.from_numpy(w.T.copy())

    def extra_repr(self) -> str:
        return self.last

    def forward(self, x: Any) -> Any:
        z = self.layer(x)
        return {"Softmax": lambda: z.softmax(-1), "Sigmoid": z.sigmoid, "Identity": lambda: z}[self.last]()


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Any:
    def register(make: Callable[[str], Any]) -> str:
        module = types.ModuleType(f"runtime_outputs_{next(COUNT)}")
        name = f"python:{module.__name__}:build"
        module.build = lambda: make(name)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return name

    monkeypatch.setattr(python_model, "_code_hash", lambda spec, found: spec.name)
    return register


def named(form: str, last: str, w: np.ndarray, path: Path, registered: Any) -> str:
    if form == "onnx":
        return linear(path, w, last)
    if form == "torch":
        return str(registered(lambda _: Linear(w, last)))
    if form == "torch-onnx":
        return str(registered(lambda name: torch_model(name, Linear(w, last), TENSOR, (D,), "cpu")))

    def function(batch: np.ndarray) -> np.ndarray:
        z = (batch @ w).astype(np.float64)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return {"Softmax": e / e.sum(axis=1, keepdims=True), "Sigmoid": 1 / (1 + np.exp(-z)), "Identity": z}[last]

    return str(registered(lambda _: function))


def made(folder: Path, data: Dataset, saver: str, base: str, max_drop: float = 0.0) -> Made:
    run = Run(folder / "run")
    options = RecordOptions(timing=False, batch_size=50)
    for name, alias, cost in ((saver, "saver", 1.0), (base, "base", 10.0)):
        record(data, name, run, alias=alias, options=dataclasses.replace(options, costs={"usd": cost}))
    tuning = pilotfish.tune(run.path, ["saver", "base"], max_drop=max_drop, holdout=0, cost="usd")
    code = tuple(name.removeprefix("python:") for name in (saver, base) if name.startswith("python:"))
    return Made(folder, tuning.save(folder / "cascade"), run, code)


@pytest.mark.parametrize("form", ["onnx", "torch", "torch-onnx", "python"])
@pytest.mark.parametrize("last", ["Softmax", "Sigmoid"])
def test_a_cascade_decides_as_its_records_do(
    form: str, last: str, tmp_path: Path, data: Dataset, registered: Any
) -> None:
    names = [named(form, last, w, tmp_path / f"{i}.onnx", registered) for i, w in enumerate((SAVER, BASE))]
    pair = made(tmp_path, data, *names)
    cascade = pair.load()
    outputs = pair.run.read("saver", "val").outputs
    assert outputs.log_odds is not None
    exits = outputs.log_odds >= cascade.artefact.operating_point.thresholds[0]
    assert 0.05 < exits.mean() < 1
    found = cascade.run(X.__getitem__, N)
    assert np.array_equal(found.stage == 0, exits)
    assert np.array_equal(found.prediction[exits], outputs.prediction[exits])
    base = pair.run.read("base", "val").outputs.prediction
    assert np.array_equal(found.prediction[~exits], base[~exits])
    assert form == "python" or np.array_equal(base, LABEL)  # p = 1.0 twice has no order
    for i in range(5):  # one at a time, in the caller's thread
        one = cascade.run(lambda _, i=i: X[i], 1)
        assert (one.stage[0], one.prediction[0]) == (found.stage[i], found.prediction[i])


@pytest.mark.parametrize("form", ["onnx", "torch", "torch-onnx"])
def test_a_saturated_softmax_exits_as_many_as_its_logits(
    form: str, tmp_path: Path, data: Dataset, registered: Any
) -> None:
    ratios = []
    for last in ("Softmax", "Identity"):
        folder = tmp_path / last
        folder.mkdir()
        names = [named(form, last, w, folder / f"{i}.onnx", registered) for i, w in enumerate((SAVER, BASE))]
        pair = made(folder, data, *names)
        outputs = pair.run.read("saver", "val").outputs
        assert outputs.log_odds is not None
        assert (outputs.log_odds > 40).any()  # a probability of 1.0, as float32 has it
        ratios.append(pair.load().artefact.calibration.exit_ratio)
    assert ratios[0] == ratios[1]


@pytest.mark.parametrize("form", ["onnx", "torch-onnx"])
@pytest.mark.parametrize("last", ["Softmax", "Sigmoid"])
def test_exports_answer_as_the_engine_does(
    form: str, last: str, tmp_path: Path, data: Dataset, registered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pilotfish.runtime.export import compare

    monkeypatch.setattr(compare, "TURNS", 1)  # times are not looked at
    names = [named(form, last, w, tmp_path / f"{i}.onnx", registered) for i, w in enumerate((SAVER, BASE))]
    pair = made(tmp_path, data, *names)
    answers = pair.load().run(X.__getitem__, N)
    found = export(pair.cascade, tmp_path / "one.onnx", batched=True, data=data, samples=N, allow_python=pair.code)
    assert (found.samples, found.flips) == (N, 0)
    import onnxruntime as ort

    session = ort.InferenceSession(str(found.path), providers=["CPUExecutionProvider"])
    prediction, _, stage, _ = session.run(None, {session.get_inputs()[0].name: X})
    assert np.array_equal(prediction, answers.prediction)
    assert np.array_equal(stage, answers.stage)
    stages = export_stages(pair.cascade, tmp_path / "stages", data=data, samples=N, allow_python=pair.code)
    assert [[name for name, _ in stage.outputs] for stage in stages.stages] == [["logits"], ["logits"]]


def test_embedded_weights_are_read_alike(tmp_path: Path, data: Dataset) -> None:
    from pilotfish.cascade import load_artefact
    from pilotfish.runtime.embed import save_with_weights

    names = [linear(tmp_path / f"{i}.onnx", w, "Softmax") for i, w in enumerate((SAVER, BASE))]
    pair = made(tmp_path, data, *names)
    folder = save_with_weights(load_artefact(pair.cascade), tmp_path / "embedded")
    for name in names:
        Path(name.removeprefix("onnx:")).unlink()
    expected = Run(pair.run.path).read("saver", "val").outputs
    found = pilotfish.Cascade.load(folder).run(X.__getitem__, N)
    assert expected.log_odds is not None
    assert np.array_equal(found.stage == 0, expected.log_odds >= load_artefact(folder).operating_point.thresholds[0])


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid", "LogSoftmax"])
def test_an_int8_model_returns_the_logits(
    last: str, tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pilotfish.flow.quantise.time_batches",
        lambda model, shape, seconds: time_batches(model, shape, (1,), 0.01),
    )
    source = linear(tmp_path / "net.onnx", BASE / 10, last)
    made = quantise(source, data, tmp_path / "int8.onnx", samples=64)
    assert made.agreement > 0.8
    graph = onnx.load(str(made.path)).graph
    assert [entry.name for entry in graph.output] == ["logits"]
