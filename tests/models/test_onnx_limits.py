"""ONNX files that ask for all memory or all time; and that what is run is what was checked and hashed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pilotfish.errors import ModelError, ModelMemoryError, UsageError  # noqa: E402
from pilotfish.models import Model, load_model  # noqa: E402
from pilotfish.models.onnx.onnx_graph import without_weights  # noqa: E402
from pilotfish.models.onnx.onnx_limits import demand_of  # noqa: E402

node = helper.make_node
WEIGHTS = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
BATCH = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
LOGITS = BATCH @ WEIGHTS
FIRST = node("MatMul", ["x", "W"], ["z"])


def value(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(*nodes: Any, batch: Any = "N", **stored: Any) -> Any:
    """x (N, 8) -> z = x W -> *nodes* -> y (N, 5)."""
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in {"W": WEIGHTS, **stored}.items()]
    graph = helper.make_graph([FIRST, *nodes], "graph", [value("x", [batch, 8])], [value("y", [batch, 5])], kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def loaded(path: Path, model: Any) -> Model:
    onnx.save(model, path)
    return load_model(f"onnx:{path}")


def body(*nodes: Any, carried: Any = ("N", 5), more: tuple[Any, ...] = ()) -> Any:
    inputs = [value("i", [], TensorProto.INT64), value("c", [], TensorProto.BOOL), value("a", carried)]
    outputs = [value("c2", [], TensorProto.BOOL), value("b", carried), *more]
    return helper.make_graph([node("Identity", ["c"], ["c2"]), *nodes], "body", inputs, outputs)


TWICE = body(node("Add", ["a", "a"], ["b"]))
ADDED = [node("ReduceMax", ["big"], ["top"], keepdims=0), node("Add", ["z", "top"], ["y"])]


def in_a_branch() -> Any:
    then = helper.make_graph([node("Loop", ["", "yes", "z"], ["t"], body=TWICE)], "then", [], [value("t", ["N", 5])])
    other = helper.make_graph([node("Identity", ["z"], ["o"])], "else", [], [value("o", ["N", 5])])
    return model_of(node("If", ["yes"], ["y"], then_branch=then, else_branch=other), yes=True)


def in_a_function() -> Any:
    model = model_of(node("Endless", ["z", "yes"], ["y"], domain="f"), yes=True)
    opset = [helper.make_opsetid("", 17)]
    loop = node("Loop", ["", "go", "p"], ["q"], body=TWICE)
    model.functions.append(helper.make_function("f", "Endless", ["p", "go"], ["q"], [loop], opset))
    model.opset_import.append(helper.make_opsetid("f", 1))
    return model


ENDLESS: list[Callable[[], Any]] = [
    lambda: model_of(node("Loop", ["", "yes", "z"], ["y"], body=TWICE), yes=True),
    lambda: model_of(node("Loop", ["many", "", "z"], ["y"], body=TWICE), many=np.int64(2**62)),
    lambda: model_of(node("Loop", ["", "yes", "z"], ["y"], body=TWICE), yes=True, batch=2),  # of a fixed batch
    in_a_branch,
    in_a_function,
]


@pytest.mark.parametrize("made", ENDLESS, ids=["condition", "count", "fixed batch", "in a branch", "in a function"])
def test_a_loop_without_end_ends_in_one_line(
    made: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTFISH_CALL_SECONDS", "0.2")
    model = loaded(tmp_path / "net.onnx", made())
    for _ in range(2):  # at once the second time: the samples of a batch are not tried one by one
        with pytest.raises(ModelError, match=r"net\.onnx: a call on [12] samples? did not end within 0 s, its loops m"):
            model.run(BATCH)
        monkeypatch.setenv("PILOTFISH_CALL_SECONDS", "1000")


@pytest.mark.parametrize("times", [1, 4, 1000])
def test_loops_that_end_are_run(times: int, tmp_path: Path) -> None:
    half = body(node("Mul", ["a", "half"], ["b"]))
    made = model_of(node("Loop", ["n", "", "z"], ["y"], body=half), n=np.int64(times), half=np.float32(0.5))
    np.testing.assert_allclose(loaded(tmp_path / "net.onnx", made).run(BATCH), LOGITS * 0.5**times, atol=1e-6)


def asked_of_the_data() -> Any:
    """As many numbers as the data say."""
    steps = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Abs", ["m"], ["n"]),
        node("Mul", ["n", "many"], ["s"]),
        node("Cast", ["s"], ["whole"], to=TensorProto.INT64),
        node("Unsqueeze", ["whole", "axes"], ["shape"]),
        node("Expand", ["m", "shape"], ["big"]),
    ]
    return model_of(*steps, *ADDED, many=np.float32(1e12), axes=np.array([0]))


def kept_by_a_loop() -> Any:
    large = body(node("Identity", ["a"], ["b"]), node("Expand", ["a", "shape"], ["kept"]), more=(value("kept", None),))
    looped = node("Loop", ["n", "", "z"], ["y", "all"], body=large)
    return model_of(looped, n=np.int64(5), shape=np.array([10**11, 1, 1]))


@pytest.mark.parametrize("made", [asked_of_the_data, kept_by_a_loop])
def test_memory_that_only_the_data_tell_is_held_to_an_arena(made: Callable[[], Any], tmp_path: Path) -> None:
    model = loaded(tmp_path / "net.onnx", made())
    with pytest.raises(ModelMemoryError, match=r"takes more memory than the \d\.\d\d GB that are allowed"):
        model.run(BATCH)
    for kind in (ModelMemoryError, ModelMemoryError, ModelError, ModelError):  # given up after three single samples
        with pytest.raises(ModelError) as caught:
            model.run(BATCH[:1])
        assert type(caught.value) is kind


STATIC: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "ConstantOfShape": ([node("ConstantOfShape", ["s"], ["big"])], {"s": np.array([10**12])}),
    "Expand": ([node("Expand", ["z", "s"], ["big"])], {"s": np.array([10**9, 1, 1])}),
    "Tile": ([node("Tile", ["z", "s"], ["big"])], {"s": np.array([1, 10**9])}),
    "Range": ([node("Range", ["a", "b", "c"], ["big"])], {"a": np.int64(0), "b": np.int64(10**12), "c": np.int64(1)}),
    "broadcasting": (
        [node("Add", ["p", "q"], ["big"])],
        {"p": np.zeros((60000, 1), np.float32), "q": np.zeros((1, 60000), np.float32)},
    ),
    "many": (
        [*(node("Expand", ["z", "s"], [f"p{i}"]) for i in range(9)), node("Sum", [f"p{i}" for i in range(9)], ["big"])],
        {"s": np.array([10**7, 1, 1])},
    ),
}


@pytest.mark.parametrize("name", STATIC)
def test_memory_that_the_graph_tells_is_refused_before_it_is_run(name: str, tmp_path: Path) -> None:
    nodes, stored = STATIC[name]
    made = model_of(*nodes, *ADDED, **stored)
    if name == "Range":
        made.graph.node[2].CopyFrom(node("Cast", ["big"], ["floats"], to=TensorProto.FLOAT))
        del made.graph.node[3:]
        made.graph.node.extend([node("ReduceMax", ["floats"], ["top"], keepdims=0), ADDED[1]])
    with pytest.raises(ModelError, match=r"net\.onnx: one sample takes up to [\d,.]+ GB of memory, \d\.\d\d are allow"):
        loaded(tmp_path / "net.onnx", made)


def test_batches_are_cut_to_what_the_memory_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = [node("Expand", ["e", "s"], ["large"]), node("ReduceMin", ["large"], ["top"], axes=[1], keepdims=1)]
    made = model_of(
        node("ReduceMax", ["x"], ["e"], axes=[1], keepdims=1), *wide, node("Add", ["z", "top"], ["y"]), s=[1, 10**5]
    )
    whole = loaded(tmp_path / "net.onnx", made).run(np.tile(BATCH, (20, 1)))
    monkeypatch.setenv("PILOTFISH_CALL_GB", str(2**-10))  # a megabyte
    cut = load_model(f"onnx:{tmp_path}/net.onnx").backend
    assert cut.file.limits.rows(60) == 2
    np.testing.assert_array_equal(cut.step(np.tile(BATCH, (20, 1)))[0], whole)


def test_the_demand_of_a_graph_is_what_is_alive_at_once() -> None:
    chain = model_of(node("Relu", ["z"], ["u"]), node("Exp", ["u"], ["v"]), node("Add", ["u", "v"], ["y"]))
    assert demand_of(without_weights(chain), None).peak == 8 * (8 + 5 + 5 + 5)  # x is kept by its caller
    assert demand_of(without_weights(model_of(node("NonZero", ["z"], ["y"]))), None).peak is None


@pytest.mark.parametrize("variable", ["PILOTFISH_CALL_SECONDS", "PILOTFISH_CALL_GB"])
@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "much"])
def test_limits_are_numbers(variable: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, text)
    made = ENDLESS[0]() if variable == "PILOTFISH_CALL_SECONDS" else model_of(node("Relu", ["z"], ["y"]))
    with pytest.raises(UsageError, match=f"{variable} is a number above 0"):
        loaded(tmp_path / "net.onnx", made).run(BATCH)


def outside(name: str = "w", shape: Any = (3,)) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    return tensor


def sparse() -> onnx.SparseTensorProto:
    indices = numpy_helper.from_array(np.array([0, 1, 2]), "indices")
    return onnx.SparseTensorProto(values=outside(), indices=indices, dims=[9])


def function_with(**changes: Any) -> Any:
    opset = [helper.make_opsetid("", 17)]
    function = helper.make_function("f", "F", ["p"], ["q"], [node("Identity", ["p"], ["q"])], opset)
    for key, held in changes.items():
        getattr(function, key).append(held)
    model = model_of(node("F", ["z"], ["y"], domain="f"))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("f", 1))
    return model


def trained() -> Any:
    model = model_of(node("Identity", ["z"], ["y"]))
    model.training_info.add().algorithm.initializer.append(outside())
    return model


def with_sparse_weights() -> Any:
    model = model_of(node("Identity", ["z"], ["y"]))
    model.graph.sparse_initializer.append(sparse())
    return model


ADDRESSED = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(3,), data_location=TensorProto.EXTERNAL)
ADDRESSED.external_data.add(key="location", value="*/_ORT_MEM_ADDR_/*")
IN_A_GRAPH = helper.make_graph([node("Constant", [], ["k"], value=outside())], "inner", [], [value("k", [3])])
HIDING: dict[str, Callable[[], Any]] = {
    "value": lambda: model_of(node("Constant", [], ["k"], value=outside()), node("Identity", ["z"], ["y"])),
    "sparse_value": lambda: model_of(
        node("Constant", [], ["k"], sparse_value=sparse()), node("Identity", ["z"], ["y"])
    ),
    "sparse_tensors": lambda: model_of(node("Identity", ["z"], ["y"], held=[sparse()])),
    "sparse_initializer": with_sparse_weights,
    "a function's default": lambda: function_with(attribute_proto=helper.make_attribute("d", outside())),
    "a function's node": lambda: function_with(node=node("Constant", [], ["k"], value=outside())),
    "a graph in a function": lambda: function_with(node=node("If", ["p"], ["k"], then_branch=IN_A_GRAPH)),
    "a graph in a function's default": lambda: function_with(attribute_proto=helper.make_attribute("g", IN_A_GRAPH)),
    "training_info": trained,
    "an address": lambda: model_of(node("Constant", [], ["k"], value=ADDRESSED), node("Identity", ["z"], ["y"])),
}


@pytest.mark.parametrize("where", HIDING)
def test_tensors_outside_the_folder_are_found_wherever_they_hide(where: str, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    np.zeros(9, np.float32).tofile(tmp_path / "secret.bin")
    (folder / "net.onnx").write_bytes(HIDING[where]().SerializeToString())
    with pytest.raises(ModelError, match="outside its own folder; refused"):
        load_model(f"onnx:{folder}/net.onnx")


def with_its_weights_beside(path: Path) -> Model:
    tensor = onnx.TensorProto(name="W", data_type=TensorProto.FLOAT, dims=WEIGHTS.shape)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    WEIGHTS.tofile(path.with_name("w.bin"))
    model = model_of(node("Identity", ["z"], ["y"]))
    model.graph.initializer[0].CopyFrom(tensor)
    return loaded(path, model)


@pytest.mark.parametrize("beside", [False, True], ids=["in the file", "beside it"])
def test_a_file_that_changes_after_it_was_hashed_is_not_run(beside: bool, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    model = with_its_weights_beside(path) if beside else loaded(path, model_of(node("Identity", ["z"], ["y"])))
    np.testing.assert_allclose(model.run(BATCH), LOGITS, atol=1e-5)
    other = model.backend.with_threads(model.backend.threads + 1)  # is opened later, when it is needed
    changed = path.with_name("w.bin") if beside else path
    content = bytearray(changed.read_bytes())
    content[-1 if beside else content.find(WEIGHTS.tobytes()) + 3] ^= 1
    before = os.stat(changed)
    changed.write_bytes(content)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ModelError, match=r"net\.onnx: was changed while it was read; load it again"):
        other.step(BATCH)
    np.testing.assert_allclose(model.run(BATCH), LOGITS, atol=1e-5)  # what was loaded is what was hashed
    with pytest.raises(ModelError, match="was changed" if not beside else "cannot be embedded"):
        model.weights(tmp_path / "copy.onnx")
