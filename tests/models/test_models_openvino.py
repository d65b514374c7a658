"""OpenVINO says what ONNX Runtime says, from any thread and in any batch; what it cannot run is refused."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pilotfish.errors import ModelError, UsageError  # noqa: E402
from pilotfish.models import load_model  # noqa: E402
from pilotfish.models.backends.backends import offered, with_backend  # noqa: E402
from pilotfish.models.backends.onnx_backend import OnnxBackend  # noqa: E402
from pilotfish.models.backends.openvino_backend import OpenVinoBackend  # noqa: E402
from pilotfish.models.dtypes import SHORT, dtype_named  # noqa: E402
from pilotfish.models.model import BAND  # noqa: E402
from pilotfish.models.onnx.onnx_file import own_file, read_onnx  # noqa: E402

RNG = np.random.default_rng(0)
KERNELS = RNG.standard_normal((16, 3, 3, 3)).astype(np.float32)
WEIGHTS = RNG.standard_normal((16, 10)).astype(np.float32)
BATCH = RNG.standard_normal((45, 3, 8, 8), dtype=np.float32)


def small(path: Path, batch: Any = "n", dtype: int = TensorProto.FLOAT, sides: Any = (8, 8), **elsewhere: Any) -> str:
    """A convolution, the mean over the picture, and a linear classifier; its name."""
    make = helper.make_node
    nodes = [
        make("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        make("Conv", ["floats", "K"], ["c"], pads=[1, 1, 1, 1]),
        make("Relu", ["c"], ["r"]),
        make("GlobalAveragePool", ["r"], ["p"]),
        make("Flatten", ["p"], ["f"]),
        make("MatMul", ["f", "W"], ["y"]),
    ]
    stored = [numpy_helper.from_array(KERNELS, "K"), numpy_helper.from_array(WEIGHTS, "W")]
    inputs = [helper.make_tensor_value_info("x", dtype, [batch, 3, *sides])]
    graph = helper.make_graph(
        nodes, "graph", inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])], stored
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path, **elsewhere)
    return f"onnx:{path}"


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z.astype(np.float64) - z.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small(tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="module")
def expected(net: str) -> np.ndarray:
    return load_model(net).run(BATCH)


@pytest.mark.parametrize("n", [1, 2, 7, 32, 45])
def test_it_says_what_onnx_runtime_says_in_batches_of_any_size(n: int, net: str, expected: np.ndarray) -> None:
    model = load_model(net, backend="openvino")
    assert (model.backend.name, model.preprocessing) == ("openvino", load_model(net).preprocessing)
    found = model.run(BATCH[:n])
    assert (found.dtype, found.shape) == (np.dtype(np.float32), (n, 10))
    assert np.abs(softmax(found) - softmax(expected[:n])).max() <= BAND / 100


def test_a_call_has_one_of_a_few_sizes(net: str) -> None:
    backend: Any = load_model(net, backend="openvino").backend
    sizes = set()
    for n in range(1, 130):
        calls = backend._calls(n)
        assert [row for at, rows, _ in calls for row in range(at, at + rows)] == list(range(n))
        assert all(rows == size for _, rows, size in calls)
        sizes |= {size for _, _, size in calls}
    assert sizes == {1, 2, 4, 8, 16, 32}


def test_an_answer_stays_as_it_was_when_the_next_call_is_made(net: str) -> None:
    model = load_model(net, backend="openvino")
    first = model.run(BATCH[:4])
    kept = first.copy()
    model.run(BATCH[4:8])
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("threads", [1, 2])
def test_calls_side_by_side_answer_as_calls_one_by_one(threads: int, net: str) -> None:
    backend: Any = load_model(net, backend="openvino").backend.with_threads(threads)  # type: ignore[attr-defined]
    assert backend.threads == threads
    batches = [np.ascontiguousarray(BATCH[i : i + 1 + i % 5]) for i in range(24)]
    alone = [backend.step(batch)[0] for batch in batches]
    wrong = []

    def run(first: int) -> None:
        for _ in range(10):
            wrong.extend(i for i in range(first, 24, 4) if not np.array_equal(backend.step(batches[i])[0], alone[i]))

    lanes = [threading.Thread(target=run, args=(first,)) for first in range(4)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    assert wrong == []


@pytest.mark.parametrize("size", [1, 4, 8])
def test_a_fixed_batch_size_is_fed_in_pieces_and_padding_never_leaks(
    size: int, tmp_path: Path, expected: np.ndarray
) -> None:
    model = load_model(small(tmp_path / "net.onnx", batch=size), backend="openvino")
    for n in (1, 5, 8):
        np.testing.assert_allclose(model.run(BATCH[:n]), expected[:n], atol=1e-4)


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_inputs_of_other_types(dtype: int, tmp_path: Path) -> None:
    name = small(tmp_path / "net.onnx", dtype=dtype)
    given = BATCH * 100
    found, expected = load_model(name, backend="openvino").run(given), load_model(name).run(given)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_file_that_leaves_the_sides_open_and_one_whose_tensors_lie_beside_it(
    tmp_path: Path, expected: np.ndarray
) -> None:
    there = {"save_as_external_data": True, "location": "tensors", "size_threshold": 0}
    open_sides = small(tmp_path / "open.onnx", sides=("h", "w"))
    for name in (f"{open_sides}@8", small(tmp_path / "parts.onnx", **there)):
        np.testing.assert_allclose(load_model(name, backend="openvino").run(BATCH), expected, atol=1e-4)
    (tmp_path / "tensors").write_bytes((tmp_path / "tensors").read_bytes()[:-4])
    with pytest.raises(ModelError, match=r"lies outside of 'tensors'|cannot load"):
        load_model(f"onnx:{tmp_path}/parts.onnx", backend="openvino")


def test_a_file_that_changes_after_it_was_checked_is_not_run(tmp_path: Path) -> None:
    name = small(tmp_path / "net.onnx")
    model = load_model(name)
    small(tmp_path / "net.onnx", batch=3)
    with pytest.raises(ModelError, match="was changed while it was read"):
        with_backend(model, "cpu", "openvino")


def test_what_is_said_on_the_way_to_logits_is_rewritten_for_it_too(net: str, expected: np.ndarray) -> None:
    name = f"{net}?activation=softmax"
    found, by_onnx = load_model(name, backend="openvino").run(BATCH), load_model(name).run(BATCH)
    assert np.isnan(found).tolist() == np.isnan(by_onnx).tolist()  # these outputs are no probabilities
    assert found.shape == expected.shape


def graph_of(nodes: list[Any], path: Path, inputs: str = "x") -> Path:
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in inputs],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )
    onnx.save(model, path)
    return path


def unknown(path: Path) -> Path:
    return graph_of([helper.make_node("Rfft", ["x"], ["y"], domain="com.microsoft")], path)


def two_inputs(path: Path) -> Path:
    return graph_of([helper.make_node("Add", ["x", "z"], ["y"])], path, "xz")


def loop(path: Path) -> Path:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    make = helper.make_node
    often = make("Constant", [], ["m"], value=numpy_helper.from_array(np.array(3, np.int64)))
    return graph_of([often, make("Loop", ["m", "", "x"], ["y"], body=body)], path)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda path: own_file(unknown(path)), "cannot load it .*no conversion rule .*Rfft"),
        (lambda path: read_onnx(unknown(path)), "depends on the data"),
        (lambda path: read_onnx(loop(path)), "depends on the data"),
        (lambda path: own_file(two_inputs(path)), "its inputs are f32, f32; expected a single one"),
    ],
    ids=["an operator it does not know", "one of a shape that is not known", "a loop", "two inputs"],
)
def test_what_it_cannot_run_is_refused_in_one_line(made: Any, said: str, tmp_path: Path) -> None:
    backend = OpenVinoBackend(OnnxBackend(made(tmp_path / "net.onnx")))
    with pytest.raises(ModelError, match=f"(?i){said}") as caught:
        backend.session  # noqa: B018
    assert "\n" not in str(caught.value)
    assert "src/" not in str(caught.value)


def test_openvino_runs_a_file_that_onnx_runtime_cannot_and_a_note_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = helper.make_node
    nodes = [
        make("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16),
        make("Cast", ["K"], ["k"], to=TensorProto.BFLOAT16),
        make("Conv", ["b", "k"], ["c"]),  # which ONNX Runtime has not in bfloat16
        make("GlobalAveragePool", ["c"], ["p"]),
        make("Cast", ["p"], ["w"], to=TensorProto.FLOAT),
        make("Flatten", ["w"], ["y"]),
    ]
    entries = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 3, 8, 8]), ("y", ["n", 16]))
    ]
    graph = helper.make_graph(nodes, "graph", entries[:1], entries[1:], [numpy_helper.from_array(KERNELS, "K")])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10), tmp_path / "net.onnx"
    )
    model = load_model(f"onnx:{tmp_path}/net.onnx")
    assert (model.backend.name, model.input_shape, model.n_classes) == ("openvino", (3, 8, 8), 16)
    [note] = [note for note in model.notes if "it is run by OpenVINO" in note]
    assert "ONNX Runtime cannot load it" in note
    windows = np.lib.stride_tricks.sliding_window_view(BATCH, (3, 3), axis=(2, 3)).mean(axis=(2, 3))
    expected = np.einsum("ncij,kcij->nk", windows, KERNELS)
    np.testing.assert_allclose(model.run(BATCH), expected, atol=0.05)
    assert model.count().costs["macs"] == 16 * 27 * 36
    assert offered(model, "cpu") == ("openvino",)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it"):
        load_model(f"onnx:{tmp_path}/net.onnx")


def test_a_batch_that_does_not_fit_is_one_line(net: str) -> None:
    model = load_model(net, backend="openvino")
    with pytest.raises(ModelError, match="failed on a batch of shape") as caught:
        model.run(BATCH[:, :2])
    assert "\n" not in str(caught.value)
    assert "src/" not in str(caught.value)
    assert model.run(BATCH).shape == (45, 10)  # and the next is answered


def test_what_is_offered(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(net)
    assert offered(model, "cpu") == ("onnxruntime", "openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert offered(model, "cpu") == ("onnxruntime",)
    with pytest.raises(UsageError, match="nearest names: openvino"):
        load_model(net, backend="openvin")


@pytest.mark.parametrize(("word", "name"), [*((short, name) for name, short in SHORT.items()), ("BF16 ", "bfloat16")])
def test_dtypes_have_short_names(word: str, name: str) -> None:
    assert dtype_named(word) == dtype_named(name) == name


@pytest.mark.parametrize("word", ["", "bf61", "double"])
def test_what_is_no_dtype_is_refused_with_those_that_are(word: str) -> None:
    with pytest.raises(UsageError, match=r"unknown dtype '.*'; (nearest|valid) names: .*(bf|fp)"):
        dtype_named(word)
