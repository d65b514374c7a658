"""ONNX graphs to attack with: one linear layer, and whatever is put behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

node = helper.make_node
OPSET = [helper.make_opsetid("", 17)]
WEIGHTS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)


def value(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def behind_a_layer(*nodes: Any, **stored: Any) -> Any:
    """x (N, 6) -> z = x W -> *nodes* -> y (N, 4)."""
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in {"W": WEIGHTS, **stored}.items()]
    nodes = (node("MatMul", ["x", "W"], ["z"]), *nodes)
    graph = helper.make_graph(nodes, "graph", [value("x", ["N", 6])], [value("y", ["N", 4])], kept)
    return helper.make_model(graph, opset_imports=OPSET, ir_version=9)


def loop_body(*nodes: Any, more: tuple[Any, ...] = ()) -> Any:
    """The body of a Loop that carries a (N, 4) to b and never changes its condition."""
    inputs = [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("a", ["N", 4])]
    outputs = [value("c2", [], TensorProto.BOOL), value("b", ["N", 4]), *more]
    return helper.make_graph([node("Identity", ["c"], ["c2"]), *nodes], "body", inputs, outputs)


def with_function(function: Any) -> Any:
    """A model that calls *function*, F of the domain f."""
    model = behind_a_layer(node("F", ["z"], ["y"], domain="f"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("f", 1))
    return model
