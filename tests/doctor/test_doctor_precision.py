"""The networks that precisions are measured on, and what can run them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pilotfish.doctor.precision import INPUTS, Precision, graph, measure, precisions, runners

ALL = ["onnx", "onnxruntime", "openvino", "torch"]


@pytest.mark.parametrize(
    ("there", "bf16", "names"),
    [
        (ALL, True, ["float32 onnxruntime", "int8 onnxruntime", "bfloat16 openvino"]),
        (ALL, False, ["float32 onnxruntime", "int8 onnxruntime"]),
        (["onnx", "onnxruntime", "torch"], True, ["float32 onnxruntime", "int8 onnxruntime", "bfloat16 torch"]),
        (["onnxruntime", "torch"], True, ["float32 torch", "bfloat16 torch"]),
        (["torch"], False, []),
        (["onnx", "openvino"], True, []),
        ([], True, []),
    ],
)
def test_what_can_be_measured_with_what_is_there(there: list[str], bf16: bool, names: list[str]) -> None:
    assert runners(there, bf16) == names


def test_gains_are_beside_float32() -> None:
    assert precisions({"float32 onnxruntime": 9.0, "int8 onnxruntime": 3.0, "bfloat16 torch": 18.0}) == [
        Precision("float32", 9.0, 1.0, "onnxruntime"),
        Precision("int8", 3.0, 3.0, "onnxruntime"),
        Precision("bfloat16", 18.0, 0.5, "torch"),
    ]
    assert precisions({"int8 onnxruntime": 3.0}) == precisions({}) == []


@pytest.mark.parametrize("which", [0, 1])
def test_the_network_in_int8_is_the_network(which: int) -> None:
    pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    batch = np.random.default_rng(3).standard_normal(INPUTS[which], dtype=np.float32)

    def run(int8: bool) -> Any:
        session = ort.InferenceSession(graph(which, int8), providers=["CPUExecutionProvider"])
        return session.run(None, {"x": batch})[0]

    full, narrow = run(False), run(True)
    assert np.isfinite(full).all()
    assert np.corrcoef(full.ravel(), narrow.ravel())[0, 1] > 0.98
    assert len(graph(which, True)) < len(graph(which, False)) / 3


def test_measuring_reports_each_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr("pilotfish.doctor.precision.SECONDS", 0.0)
    reported: list[tuple[Any, ...]] = []
    names = ["float32 onnxruntime", "int8 onnxruntime"]
    measure(names, lambda *said: reported.append(said))
    assert [said[0] for said in reported] == [*names, *names]
    assert [len(said) for said in reported] == [1, 1, 2, 2]
    assert all(said[1] > 0 for said in reported[2:])
