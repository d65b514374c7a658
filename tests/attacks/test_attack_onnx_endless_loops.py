"""An ONNX file of some hundred bytes held a loop whose condition never changes, or that counts to 2^62: recording and
predicting never came back, and Ctrl-C did not reach them.

Taught: loops as such are fine; a call of a graph with loops has a time, which grows with its samples.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from support.graphs import OPSET, behind_a_layer, helper, loop_body, node, onnx, value, with_function

TWICE = loop_body(node("Add", ["a", "a"], ["b"]))


def by_its_condition() -> Any:
    return behind_a_layer(node("Loop", ["", "yes", "z"], ["y"], body=TWICE), yes=True)


def by_its_count() -> Any:
    return behind_a_layer(node("Loop", ["many", "", "z"], ["y"], body=TWICE), many=np.int64(2**62))


def in_a_branch() -> Any:
    then = helper.make_graph([node("Loop", ["", "yes", "z"], ["t"], body=TWICE)], "then", [], [value("t", ["N", 4])])
    other = helper.make_graph([node("Identity", ["z"], ["o"])], "else", [], [value("o", ["N", 4])])
    return behind_a_layer(node("If", ["yes"], ["y"], then_branch=then, else_branch=other), yes=True)


def in_a_function() -> Any:
    steps = [
        node("Constant", [], ["go"], value=helper.make_tensor("v", onnx.TensorProto.BOOL, [], [True])),
        node("Loop", ["", "go", "p"], ["q"], body=TWICE),
    ]
    return with_function(helper.make_function("f", "F", ["p"], ["q"], steps, OPSET))


@pytest.mark.parametrize("make", [by_its_condition, by_its_count, in_a_branch, in_a_function])
def test_it_ends_in_one_line(
    make: Callable[[], Any], made: Path, tmp_path: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTFISH_CALL_SECONDS", "0.2")
    onnx.save(make(), tmp_path / "net.onnx")
    said = refused(
        "record", "--data", made / "data.npz", "--model", f"onnx:{tmp_path}/net.onnx", "--run", tmp_path / "r"
    )
    assert "did not end within" in said
    assert "net.onnx" in said
    assert not list((tmp_path / "r").glob("*.parquet"))
