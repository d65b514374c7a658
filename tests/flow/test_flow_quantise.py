"""``quantise``: the agreement that is asked for, samples that are never compared and calibrated on, and its notes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import helper, numpy_helper  # noqa: E402

import pilotfish.flow.quantise as flow  # noqa: E402
from pilotfish.data import open_data  # noqa: E402
from pilotfish.data.subset import Subset  # noqa: E402
from pilotfish.errors import ModelError, UsageError  # noqa: E402
from pilotfish.flow.quantise import quantise  # noqa: E402
from pilotfish.models.costs.timing import Timing  # noqa: E402
from pilotfish.text import quantity  # noqa: E402
from support.graphs import OPSET, node, value  # noqa: E402
from support.process import command  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.standard_normal((400, 8)).astype(np.float32)
W = [RNG.standard_normal((8, 8 if k < 3 else 4)).astype(np.float32) for k in range(4)]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Times are not measured; a call says what float32 and int8 take."""
    took = {"float32": 2.0, "int8": 1.0}

    def times(backend: Any, *_: Any, **__: Any) -> Timing:
        ms = took["float32" if backend.path.name == "f.onnx" else "int8"]
        return Timing({1: ms}, ms)

    monkeypatch.setattr(flow, "time_batches", times)
    return lambda float32, int8: took.update(float32=float32, int8=int8)


def network(folder: Path, outlier: float = 1.0, *last: Any) -> str:
    """x (N, 8) -> four layers -> y (N, 4); the third reads one channel that is *outlier* times the others."""
    nodes, name = [], "x"
    for k in range(4):
        if k == 2:
            nodes.append(node("Mul", [name, "outlier"], ["wide"]))
            name = "wide"
        nodes += [node("MatMul", [name, f"w{k}"], [f"z{k}"], name=f"layer{k}"), node("Tanh", [f"z{k}"], [f"t{k}"])]
        name = f"t{k}"
    nodes[-1:] = [node("Identity", ["z3"], ["y0" if last else "y"]), *last]
    stored = {f"w{k}": w.copy() for k, w in enumerate(W)}
    stored["w2"][0] /= outlier
    stored |= {"outlier": np.array([outlier, *[1] * 7], np.float32), "six": np.float32(6)}
    kept = [numpy_helper.from_array(array, key) for key, array in stored.items()]
    graph = helper.make_graph(nodes, "graph", [value("x", ["N", 8])], [value("y", ["N", 4])], kept)
    onnx.save(helper.make_model(graph, opset_imports=OPSET, ir_version=9), folder / "f.onnx")
    return f"onnx:{folder}/f.onnx"


def samples(folder: Path, x: np.ndarray = X) -> Any:
    np.savez(folder / "x.npz", x=x)
    return open_data(f"arrays:{folder}/x.npz")


@pytest.mark.parametrize(("least", "compared"), [(0.9, 30), (0.95, 60), (0.98, 150)])
def test_nodes_stay_in_float32_until_as_many_agree(least: float, compared: int, tmp_path: Path) -> None:
    source, data = network(tmp_path, 1000.0), samples(tmp_path)
    assert quantise(source, data, tmp_path / "plain.onnx", samples=64).agreement < 0.9
    found = quantise(source, data, tmp_path / "q.onnx", samples=64, min_agreement=least)
    assert found.agreement >= least
    assert "layer2" in found.kept_float32
    assert len(found.kept_float32) <= 2
    assert (found.samples, found.compared) == (64, compared)
    stays = f"{quantity(len(found.kept_float32), 'node stays', 'nodes stay')} in float32"
    assert any(note.startswith(f"{stays}, for an") for note in found.notes)


def test_no_sample_is_calibrated_on_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: dict[str, list[np.ndarray]] = {"calibrated": [], "compared": []}
    write, run = flow.quantise_onnx, flow._probabilities

    def noting(source: Any, target: Any, feeds: Any, **more: Any) -> Any:
        held = [dict(feed) for feed in feeds]
        fed["calibrated"] += [row for feed in held for row in feed["x"]]
        return write(source, target, iter(held), **more)

    def probabilities(backend: Any, inputs: Any) -> Any:
        fed["compared"] += list(inputs)
        return run(backend, inputs)

    monkeypatch.setattr(flow, "quantise_onnx", noting)
    monkeypatch.setattr(flow, "_probabilities", probabilities)
    rows = np.arange(0, 400, 2)
    quantise(network(tmp_path), Subset(samples(tmp_path), rows), tmp_path / "q.onnx", samples=90, min_agreement=0.9)
    calibrated, compared = ({row.tobytes() for row in fed[name]} for name in ("calibrated", "compared"))
    assert (len(calibrated), len(compared)) == (90, 30)
    assert not calibrated & compared
    assert calibrated | compared <= {X[i].tobytes() for i in rows}


def _alike(folder: Path) -> tuple[str, Any]:
    return network(folder), samples(folder, np.repeat(X[:1], 60, axis=0))


def _blank(folder: Path) -> tuple[str, Any]:
    return network(folder), samples(folder, np.repeat(RNG.standard_normal((60, 1)), 8, axis=1).astype(np.float32))


def _no_number(folder: Path) -> tuple[str, Any]:
    """NaN where an answer is far below zero."""
    return network(folder, 1.0, node("Add", ["y0", "six"], ["y1"]), node("Sqrt", ["y1"], ["y"])), samples(folder)


def _useless(folder: Path) -> tuple[str, Any]:
    return network(folder, 1e6), samples(folder)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            _alike,
            "samples calibrated on are all alike or blank, so the ranges found hold for nothing else; give --data",
        ),
        (_blank, "samples calibrated on are all alike or blank"),
        (_no_number, "the source returns NaN or infinities on"),
        (_useless, "it is of no use as it is; give --min-agreement 98%"),
    ],
)
def test_what_is_odd_is_said(made: Any, said: str, tmp_path: Path) -> None:
    source, data = made(tmp_path)
    found = quantise(source, data, tmp_path / "q.onnx", samples=40)
    assert [said in note for note in found.notes].count(True) == 1, found.notes
    assert all("\n" not in note for note in found.notes)


@pytest.mark.parametrize(("float32", "int8", "gains"), [(2.0, 1.0, True), (2.0, 2.0, False), (1.0, 3.0, False)])
def test_no_gain_is_said(float32: float, int8: float, gains: bool, tmp_path: Path, at_once: Any) -> None:
    at_once(float32, int8)
    found = quantise(network(tmp_path), samples(tmp_path), tmp_path / "q.onnx", samples=40)
    assert (found.float_ms, found.ms) == (float32, int8)
    assert any(note.startswith("int8 gains nothing on this processor (") for note in found.notes) is not gains


def test_too_few_samples_for_an_agreement_are_said(tmp_path: Path) -> None:
    source, data = network(tmp_path), samples(tmp_path, X[:60])
    found = quantise(source, data, tmp_path / "q.onnx", samples=40, min_agreement=0.95)
    assert not any("do not tell" in note for note in found.notes)
    found = quantise(source, data, tmp_path / "q.onnx", samples=40, min_agreement=0.97)
    assert any("samples do not tell 97.0% from 100%: none may differ" in note for note in found.notes)


def test_the_command_names_what_stayed(tmp_path: Path) -> None:
    network(tmp_path, 1000.0)
    samples(tmp_path)
    typed = ["quantise", "onnx:f.onnx", "--data", "arrays:x.npz", "--out", "q.onnx", "--samples", "64", "--json"]
    done = command(tmp_path, *typed, "--min-agreement", "95%")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["min_agreement"] == 0.95
    assert document["agreement"] >= 0.95
    assert "layer2" in document["kept_float32"]
    stays = f"{quantity(len(document['kept_float32']), 'node stays', 'nodes stay')} in float32"
    assert any(stays in note for note in document["notes"])
    assert stays in done.stderr


@pytest.mark.parametrize("least", [0.0, -0.1, 1.5])
def test_an_agreement_is_a_share(least: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a share above 0 and up to 1, such as 0\.98; found"):
        quantise(network(tmp_path), samples(tmp_path), tmp_path / "q.onnx", min_agreement=least)


def test_an_agreement_that_is_not_reached_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_agreement", lambda *_: 0.5)
    with pytest.raises(ModelError, match=r"cannot be quantised: no int8 form agrees with it on 98\.0%"):
        quantise(network(tmp_path), samples(tmp_path), tmp_path / "q.onnx", samples=40, min_agreement=0.98)
    assert not (tmp_path / "q.onnx").exists()
