"""An ONNX file named ``../secret.bin`` as the place of a tensor's numbers, where nobody looked: in a sparse constant,
in the default of a function's attribute, in a branch, or at an address in memory. A pipe beside the file stood for a
tensor without end.

Taught: every message of the format that can hold a tensor is walked, and what is named is a plain file in the folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from support.graphs import OPSET, behind_a_layer, helper, node, numpy_helper, onnx, value, with_function

SAME = node("Identity", ["z"], ["y"])


def elsewhere(location: str = "../secret.bin", dims: tuple[int, ...] = (3,)) -> Any:
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=dims)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def sparse_value() -> Any:
    indices = numpy_helper.from_array(np.array([0, 1, 2]), "indices")
    held = onnx.SparseTensorProto(values=elsewhere(), indices=indices, dims=[9])
    return behind_a_layer(node("Constant", [], ["k"], sparse_value=held), SAME)


def default_of_a_function() -> Any:
    function = helper.make_function("f", "F", ["p"], ["q"], [node("Identity", ["p"], ["q"])], OPSET)
    function.attribute_proto.append(helper.make_attribute("d", elsewhere()))
    return with_function(function)


def branch_in_a_function() -> Any:
    inner = helper.make_graph([node("Constant", [], ["k"], value=elsewhere())], "inner", [], [value("k", [3])])
    steps = [node("Identity", ["p"], ["q"]), node("If", ["p"], ["k"], then_branch=inner, else_branch=inner)]
    return with_function(helper.make_function("f", "F", ["p"], ["q"], steps, OPSET))


def address_in_memory() -> Any:
    return behind_a_layer(node("Constant", [], ["k"], value=elsewhere("*/_ORT_MEM_ADDR_/*")), SAME)


def absolute() -> Any:
    return behind_a_layer(node("Constant", [], ["k"], value=elsewhere("/etc/passwd")), SAME)


@pytest.mark.parametrize(
    "make", [sparse_value, default_of_a_function, branch_in_a_function, address_in_memory, absolute]
)
def test_what_lies_outside_is_not_read(make: Callable[[], Any], made: Path, tmp_path: Path, refused: Any) -> None:
    np.zeros(9, np.float32).tofile(tmp_path / "secret.bin")
    (tmp_path / "models").mkdir()
    file = tmp_path / "models" / "net.onnx"
    file.write_bytes(make().SerializeToString())
    said = refused("record", "--data", made / "data.npz", "--model", f"onnx:{file}", "--run", tmp_path / "r")
    assert "outside its own folder; refused" in said


@pytest.mark.skipif(os.name != "posix", reason="pipes with a name are POSIX's")
@pytest.mark.parametrize("kind", ["pipe", "device", "link outside"])
def test_what_is_no_file_of_the_folder_is_not_read(kind: str, made: Path, tmp_path: Path, refused: Any) -> None:
    (tmp_path / "models").mkdir()
    beside = tmp_path / "models" / "w.bin"
    if kind == "pipe":
        os.mkfifo(beside)
    else:
        beside.symlink_to("/dev/zero" if kind == "device" else made / "data.npz")
    model = behind_a_layer(SAME)
    model.graph.initializer[0].CopyFrom(elsewhere("w.bin", (6, 4)))
    model.graph.initializer[0].name = "W"
    file = tmp_path / "models" / "net.onnx"
    file.write_bytes(model.SerializeToString())
    said = refused("record", "--data", made / "data.npz", "--model", f"onnx:{file}", "--run", tmp_path / "r")
    assert "w.bin" in said
