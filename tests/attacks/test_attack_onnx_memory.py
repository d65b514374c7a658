"""An ONNX file of some hundred bytes asked for terabytes: by a stored shape, by broadcasting, by a shape that is
computed from the data, by a loop that keeps what it made. The process was killed, and with it whatever else ran.

Taught: what a graph says of its sizes is added up before it is run; what only the data tell is held to an arena.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from support.graphs import behind_a_layer, loop_body, node, onnx, value

ADDED = [node("ReduceMax", ["big"], ["top"], keepdims=0), node("Add", ["z", "top"], ["y"])]


def stored_shape() -> Any:
    return behind_a_layer(node("ConstantOfShape", ["s"], ["big"]), *ADDED, s=np.array([10**12]))


def expanded() -> Any:
    return behind_a_layer(node("Expand", ["z", "s"], ["big"]), *ADDED, s=np.array([10**9, 1, 1]))


def broadcast() -> Any:
    sides = {"p": np.zeros((60000, 1), np.float32), "q": np.zeros((1, 60000), np.float32)}
    return behind_a_layer(node("Add", ["p", "q"], ["big"]), *ADDED, **sides)


def asked_of_the_data() -> Any:
    steps = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Abs", ["m"], ["n"]),
        node("Mul", ["n", "many"], ["s"]),
        node("Cast", ["s"], ["whole"], to=onnx.TensorProto.INT64),
        node("Unsqueeze", ["whole", "axes"], ["shape"]),
        node("Expand", ["m", "shape"], ["big"]),
    ]
    return behind_a_layer(*steps, *ADDED, many=np.float32(1e12), axes=np.array([0]))


def kept_by_a_loop() -> Any:
    large = [node("Identity", ["a"], ["b"]), node("Expand", ["a", "shape"], ["kept"])]
    loop = node("Loop", ["n", "", "z"], ["y", "all"], body=loop_body(*large, more=(value("kept", None),)))
    return behind_a_layer(loop, n=np.int64(5), shape=np.array([10**11, 1, 1]))


@pytest.mark.parametrize("make", [stored_shape, expanded, broadcast, asked_of_the_data, kept_by_a_loop])
def test_it_is_refused_before_the_memory_is_taken(
    make: Callable[[], Any], made: Path, tmp_path: Path, refused: Any
) -> None:
    onnx.save(make(), tmp_path / "net.onnx")
    said = refused(
        "record", "--data", made / "data.npz", "--model", f"onnx:{tmp_path}/net.onnx", "--run", tmp_path / "r"
    )
    assert "PILOTFISH_CALL_GB" in said
    assert "net.onnx" in said
    assert not list((tmp_path / "r").glob("*.parquet"))
