"""int8 of any ONNX graph: detection, text, several inputs; what stays float32, what it agrees on, what it refuses."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from pilotfish.errors import ModelError  # noqa: E402
from pilotfish.machine import Processor  # noqa: E402
from pilotfish.models.backends import openvino_backend  # noqa: E402
from pilotfish.models.backends.onnx_backend import OnnxBackend, open_session  # noqa: E402
from pilotfish.models.backends.openvino_backend import OpenVinoBackend  # noqa: E402
from pilotfish.models.onnx.quantise_onnx import CALIBRATIONS, PROBES, quantise_onnx  # noqa: E402
from support.graphs import OPSET, node, value  # noqa: E402

Feed = dict[str, np.ndarray]
RNG = np.random.default_rng


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], **stored: Any) -> Path:
    kept = [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, kept)
    onnx.save(helper.make_model(graph, opset_imports=OPSET, ir_version=9), path)
    return path


def weights(seed: int, *shape: int) -> np.ndarray:
    scale = np.sqrt(2 / np.prod(shape[1:] if len(shape) == 4 else shape[:1]))
    return (RNG(seed).standard_normal(shape) * scale).astype(np.float32)


def trunk() -> tuple[list[Any], dict[str, Any]]:
    """image (1, 3, 32, 32) -> f (1, 16, 16, 16), and a residual block on the way; and weights."""
    nodes = [
        node("Conv", ["image", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Relu", ["c0"], ["r0"]),
        node("Conv", ["r0", "w1", "b0"], ["c1"], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2", "b0"], ["c2"], pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r0"], ["f"]),
    ]
    stored = {f"w{k}": weights(k, 16, 3 if k == 0 else 16, 3, 3) for k in range(3)}
    return nodes, {**stored, "b0": RNG(9).standard_normal(16).astype(np.float32) * 0.1}


def boxes_of(deltas: str) -> list[Any]:
    """*deltas* (1, 4, 16, 16) around the cells' centres -> boxes (256, 4) in pixels of 32, clipped."""
    return [
        node("Transpose", [deltas], ["moved"], perm=[0, 2, 3, 1]),
        node("Reshape", ["moved", "rows_of_4"], ["flat"]),
        node("Split", ["flat", "twos"], ["shift", "size"], axis=1),
        node("Mul", ["shift", "two"], ["shift2"]),
        node("Add", ["shift2", "centres"], ["centre"]),
        node("Exp", ["size"], ["grown"]),
        node("Mul", ["grown", "two"], ["half"]),
        node("Sub", ["centre", "half"], ["least"]),
        node("Add", ["centre", "half"], ["most"]),
        node("Concat", ["least", "most"], ["wild"], axis=1),
        node("Clip", ["wild", "zero", "side"], ["all_boxes"]),
    ]


CENTRES = np.stack(np.meshgrid(np.arange(16), np.arange(16)), -1).reshape(-1, 2).astype(np.float32) * 2 + 1
BOXES: dict[str, Any] = {
    "rows_of_4": np.array([-1, 4]),
    "twos": np.array([2, 2]),
    "two": np.float32(2),
    "centres": CENTRES,
    "zero": np.float32(0),
    "side": np.float32(32),
}


def one_stage(path: Path) -> Path:
    """As SSD: boxes and scores from convolutions, and their suppression."""
    nodes, stored = trunk()
    nodes += [
        node("Conv", ["f", "box_w"], ["deltas"]),
        node("Conv", ["f", "class_w"], ["z"]),
        *boxes_of("deltas"),
        node("Transpose", ["z"], ["zt"], perm=[0, 2, 3, 1]),
        node("Reshape", ["zt", "rows_of_3"], ["zr"]),
        node("Softmax", ["zr"], ["p"], axis=-1),
        node("Transpose", ["p"], ["pt"], perm=[1, 0]),
        node("Unsqueeze", ["pt", "front"], ["scores"]),
        node("Unsqueeze", ["all_boxes", "front"], ["boxes_1"]),
        node("NonMaxSuppression", ["boxes_1", "scores", "few", "overlap", "sure"], ["kept"]),
        node("Gather", ["kept", "last"], ["which"], axis=1),
        node("Gather", ["all_boxes", "which"], ["boxes"]),
    ]
    stored |= BOXES | {
        "box_w": weights(5, 4, 16, 1, 1) * 0.3,
        "class_w": weights(6, 3, 16, 1, 1),
        "rows_of_3": np.array([-1, 3]),
        "front": np.array([0]),
        "few": np.array([8]),
        "overlap": np.array([0.5], np.float32),
        "sure": np.array([0.5], np.float32),
        "last": np.array(2),
    }
    outputs = [value("boxes", ["K", 4]), value("kept", ["K", 3], TensorProto.INT64)]
    return save(path, nodes, [value("image", [1, 3, 32, 32])], outputs, **stored)


def two_stages(path: Path) -> Path:
    """As Faster R-CNN: proposals from convolutions, the best of them cut out of the features and classified."""
    nodes, stored = trunk()
    nodes += [
        node("Conv", ["f", "box_w"], ["deltas"]),
        node("Conv", ["f", "object_w"], ["o"]),
        *boxes_of("deltas"),
        node("Reshape", ["o", "all_in_one"], ["objectness"]),
        node("TopK", ["objectness", "few"], ["_", "best"]),
        node("Gather", ["all_boxes", "best"], ["boxes"]),
        node("RoiAlign", ["f", "boxes", "images"], ["cut"], output_height=4, output_width=4, spatial_scale=0.5),
        node("Flatten", ["cut"], ["row"]),
        node("Gemm", ["row", "w4"], ["h"]),
        node("Relu", ["h"], ["hr"]),
        node("Gemm", ["hr", "w5"], ["z"]),
        node("Softmax", ["z"], ["scores"], axis=-1),
    ]
    stored |= BOXES | {
        "box_w": weights(5, 4, 16, 1, 1) * 0.3,
        "object_w": weights(6, 1, 16, 1, 1),
        "all_in_one": np.array([-1]),
        "few": np.array([12]),
        "images": np.zeros(12, np.int64),
        "w4": weights(7, 256, 32),
        "w5": weights(8, 32, 3),
    }
    outputs = [value("boxes", ["K", 4]), value("scores", ["K", 3])]
    return save(path, nodes, [value("image", [1, 3, 32, 32])], outputs, **stored)


def key_points(path: Path) -> Path:
    """Heat maps from a convolution, and where each is highest."""
    nodes, stored = trunk()
    nodes += [
        node("ConvTranspose", ["f", "up_w"], ["maps"], strides=[2, 2]),
        node("Reshape", ["maps", "a_row_each"], ["rows"]),
        node("ArgMax", ["rows"], ["at"], axis=1, keepdims=0),
        node("Cast", ["at"], ["atf"], to=TensorProto.FLOAT),
        node("Div", ["atf", "side"], ["y"]),
        node("Floor", ["y"], ["yf"]),
        node("Mul", ["yf", "side"], ["before"]),
        node("Sub", ["atf", "before"], ["x"]),
        node("Unsqueeze", ["x", "one"], ["x1"]),
        node("Unsqueeze", ["yf", "one"], ["y1"]),
        node("Concat", ["x1", "y1", "x1", "y1"], ["boxes"], axis=1),
    ]
    stored |= {"up_w": weights(5, 16, 5, 2, 2), "a_row_each": np.array([5, 1024]), "side": np.float32(32)}
    stored["one"] = np.array([1])
    return save(path, nodes, [value("image", [1, 3, 32, 32])], [value("boxes", [5, 4])], **stored)


def images(n: int, seed: int) -> Iterator[Feed]:
    rng = RNG(seed)
    for _ in range(n):
        coarse = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
        yield {"image": coarse.repeat(4, 2).repeat(4, 3)}


def run(path: Path, feeds: Iterator[Feed]) -> list[list[np.ndarray]]:
    session = open_session(path, 1)
    return [session.run(None, feed) for feed in feeds]


def eight_bits(path: Path) -> tuple[set[str], set[str]]:
    """(kinds of nodes that read 8-bit numbers, kinds of nodes whose results become 8-bit numbers)."""
    graph = onnx.load(path).graph
    of = {name: n.op_type for n in graph.node for name in n.output}
    reads = {n.op_type for n in graph.node if of.get(n.input[0] if n.input else "") == "DequantizeLinear"}
    return reads, {of[n.input[0]] for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in of}


def stored_in_8_bits(path: Path) -> int:
    return sum(t.data_type == TensorProto.INT8 and len(t.dims) > 1 for t in onnx.load(path).graph.initializer)


@pytest.mark.parametrize(("made", "heavy"), [(one_stage, 5), (two_stages, 7), (key_points, 4)])
def test_detection_in_8_bits_finds_what_it_found_in_float32(made: Any, heavy: int, tmp_path: Path) -> None:
    source, target = made(tmp_path / "f.onnx"), tmp_path / "q.onnx"
    assert quantise_onnx(source, target, images(24, 0)) == ()
    assert stored_in_8_bits(target) == heavy
    assert eight_bits(target)[1] <= {"Conv", "ConvTranspose", "Relu", "Add", "RoiAlign", "Flatten"}
    shares = []
    for one, other in zip(run(source, images(20, 1)), run(target, images(20, 1)), strict=True):
        gaps = np.abs(one[0][:, None] - other[0][None]).max(axis=2).min(axis=1)
        shares.append((gaps <= 1.0).mean())  # a pixel
    assert np.mean(shares) > 0.85, shares


@pytest.mark.parametrize("kind", ["Bert", "DistilBert"])
def test_text_in_8_bits_says_what_it_said_in_float32(kind: str, tmp_path: Path) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    sizes = {
        "Bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
        "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(vocab_size=200, num_labels=4, initializer_range=0.3, **sizes[kind])
    network = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()

    class Logits(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.network(input_ids=input_ids, attention_mask=attention_mask).logits

    source, target = tmp_path / "f.onnx", tmp_path / "q.onnx"
    ids, names = torch.randint(0, 200, (2, 9)), ["input_ids", "attention_mask"]
    from pilotfish.models.onnx.onnx_export import quiet

    with quiet():
        torch.onnx.export(
            Logits(),
            (ids, torch.ones_like(ids)),
            str(source),
            dynamo=False,
            opset_version=17,
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
        )

    def texts(n: int, seed: int) -> Iterator[Feed]:
        rng = RNG(seed)
        for k in range(n):
            length = int(rng.integers(4, 20))
            mask = np.ones((1, length), np.int64)
            mask[:, length - k % 3 :] = 0
            yield {"input_ids": rng.integers(0, 200, (1, length)), "attention_mask": mask}

    quantise_onnx(source, target, texts(32, 0))
    assert stored_in_8_bits(target) >= 13  # six products a layer, and the classifier
    assert eight_bits(target)[0] == {"MatMul", "Gemm"}
    one, other = (np.concatenate([a[0] for a in run(path, texts(100, 1))]) for path in (source, target))
    assert (one.argmax(1) == other.argmax(1)).mean() > 0.93


def layers(path: Path, at: int | None = None, depth: int = 6) -> Path:
    """x (N, 8) -> *depth* layers -> y (N, 4). Layer *at* reads one channel that is a thousand times the others."""
    nodes, stored, last = [], {}, "x"
    for k in range(depth):
        columns = 8 if k < depth - 1 else 4
        w = weights(k, 8, columns)
        if k == at:
            w[0] /= 1000
            nodes.append(node("Mul", [last, "outlier"], [f"m{k}"]))
            last = f"m{k}"
        nodes.append(node("MatMul", [last, f"w{k}"], [f"z{k}"], name=f"layer{k}"))
        nodes.append(node("Tanh", [f"z{k}"], [f"t{k}"]))
        stored[f"w{k}"], last = w, f"t{k}"
    stored["outlier"] = np.array([1000, *[1] * 7], np.float32)
    nodes[-1] = node("Identity", [f"z{depth - 1}"], ["y"])
    return save(path, nodes, [value("x", ["N", 8])], [value("y", ["N", 4])], **stored)


def vectors(n: int, seed: int) -> Iterator[Feed]:
    return ({"x": x[None]} for x in RNG(seed).standard_normal((n, 8)).astype(np.float32))


@pytest.mark.parametrize("at", [1, 3, 5])
def test_what_harms_most_stays_in_float32(at: int, tmp_path: Path) -> None:
    source, target = layers(tmp_path / "f.onnx", at), tmp_path / "q.onnx"

    def answers(path: Path) -> np.ndarray:
        return np.concatenate([a[0] for a in run(path, vectors(300, 1))]).argmax(axis=1)

    expected = answers(source)

    def judge(path: Path) -> float:
        return float((answers(path) == expected).mean())

    assert quantise_onnx(source, target, vectors(32, 0), judge=judge) == ()
    assert judge(target) < 0.9
    kept = quantise_onnx(source, target, vectors(32, 0), judge=judge, least=0.95)
    assert f"layer{at}" in kept
    assert len(kept) <= 2
    assert judge(target) >= 0.95
    assert stored_in_8_bits(target) == 6 - len(kept)


def saturating(path: Path) -> Path:
    """x (N, 64) of 0 and 1 -> y (N, 4), the sum of x times 127, 127, -127 and 64: pairs of products exceed 16 bits."""
    stored = {
        "w": np.repeat(np.array([[127, 127, -127, 64]], np.int8), 64, axis=0),
        "scales": np.ones(4, np.float32),
        "zeros": np.zeros(4, np.int8),
        "scale": np.float32(1 / 255),
        "zero": np.uint8(0),
    }
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("DequantizeLinear", ["w", "scales", "zeros"], ["v"], axis=1),
        node("MatMul", ["d", "v"], ["y"]),
    ]
    return save(path, nodes, [value("x", ["N", 64])], [value("y", ["N", 4])], **stored)


ONES = RNG(0).integers(0, 2, (50, 64)).astype(np.float32)


def test_weights_of_8_bits_are_multiplied_as_they_are_on_every_processor(tmp_path: Path) -> None:
    found = OnnxBackend(saturating(tmp_path / "net.onnx")).step(ONES)[0]
    np.testing.assert_allclose(found, ONES.sum(axis=1)[:, None] * [127, 127, -127, 64], rtol=1e-5)


@pytest.mark.parametrize(("flags", "doubted"), [("avx2", True), ("avx2 avx512_vnni", False), ("", False)])
def test_openvino_is_doubted_where_products_saturate(
    flags: str, doubted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(openvino_backend, "processor", lambda: Processor("a processor", 2, frozenset(flags.split())))
    wide = OpenVinoBackend(OnnxBackend(saturating(tmp_path / "net.onnx")))
    assert wide.session is not None
    assert (wide.doubt is not None) == doubted
    quantise_onnx(layers(tmp_path / "f.onnx"), tmp_path / "q.onnx", vectors(16, 0), reduced=True)
    narrow = OpenVinoBackend(OnnxBackend(tmp_path / "q.onnx"))
    assert narrow.session is not None
    assert narrow.doubt is None


def test_products_return_all_digits(tmp_path: Path) -> None:
    source, target = layers(tmp_path / "f.onnx", depth=3), tmp_path / "q.onnx"
    quantise_onnx(source, target, vectors(32, 0))
    found = np.concatenate([a[0] for a in run(target, vectors(2000, 1))])
    assert all(len(np.unique(column)) > 1000 for column in found.T)  # 8 bits have 256


def test_inputs_of_several_kinds(tmp_path: Path) -> None:
    """Bytes of an image, a vector and a class, put together."""
    nodes = [
        node("Cast", ["pixels"], ["p"], to=TensorProto.FLOAT),
        node("Conv", ["p", "cw"], ["c"]),
        node("GlobalAveragePool", ["c"], ["g"]),
        node("Flatten", ["g"], ["gf"]),
        node("Gather", ["table", "kind"], ["k"]),
        node("Concat", ["gf", "x", "k"], ["all"], axis=1),
        node("MatMul", ["all", "w"], ["y"]),
    ]
    inputs = [
        value("pixels", ["N", 3, "H", "W"], TensorProto.UINT8),
        value("x", ["N", 4]),
        value("kind", ["N"], TensorProto.INT64),
    ]
    stored = {"cw": weights(0, 8, 3, 3, 3) / 128, "table": weights(1, 9, 4), "w": weights(2, 16, 5)}
    source = save(tmp_path / "f.onnx", nodes, inputs, [value("y", ["N", 5])], **stored)

    def feeds(n: int, seed: int) -> Iterator[Feed]:
        rng = RNG(seed)
        for k in range(n):
            yield {
                "pixels": rng.integers(0, 256, (1, 3, 6 + k % 5, 8), dtype=np.uint8),
                "x": rng.standard_normal((1, 4)).astype(np.float32),
                "kind": rng.integers(0, 9, 1),
            }

    quantise_onnx(source, tmp_path / "q.onnx", feeds(24, 0))
    assert "Gather" not in eight_bits(tmp_path / "q.onnx")[0]
    one, other = (np.concatenate([a[0] for a in run(p, feeds(50, 1))]) for p in (source, tmp_path / "q.onnx"))
    assert (one.argmax(1) == other.argmax(1)).mean() > 0.9


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_samples_are_not_kept(calibration: str, tmp_path: Path) -> None:
    seen: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def feeds() -> Iterator[Feed]:
        for feed in vectors(64, 0):
            alive.append(sum(one() is not None for one in seen))
            seen.append(weakref.ref(feed["x"]))
            yield feed

    quantise_onnx(layers(tmp_path / "f.onnx"), tmp_path / "q.onnx", feeds(), calibration=calibration)
    assert len(seen) == 64
    assert max(alive) <= PROBES + 2


@pytest.mark.parametrize("calibration", ["entropy", "percentile"])
def test_a_part_of_the_numbers_is_enough_for_histograms(
    calibration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, answers = layers(tmp_path / "f.onnx"), {}
    feeds = [{"x": RNG(seed).standard_normal((200, 8)).astype(np.float32)} for seed in range(4)]
    for counted in (2**14, 400):
        monkeypatch.setattr("pilotfish.models.onnx.quantise_onnx.COUNTED", counted)
        quantise_onnx(source, tmp_path / "q.onnx", feeds[:3], calibration=calibration)
        session = ort.InferenceSession(str(tmp_path / "q.onnx"), providers=["CPUExecutionProvider"])
        answers[counted] = session.run(None, feeds[3])[0]
    spread = np.ptp(answers[2**14])
    assert np.abs(answers[400] - answers[2**14]).mean() < 0.05 * spread


def _nothing_to_quantise(folder: Path) -> Path:
    return save(folder / "f.onnx", [node("Tanh", ["x"], ["y"])], [value("x", ["N", 8])], [value("y", ["N", 8])])


def _too_large(folder: Path) -> Path:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[8, 2**26 + 4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    (folder / "w.bin").touch()
    with (folder / "w.bin").open("r+b") as file:
        file.truncate(4 * 8 * (2**26 + 4))
    graph = helper.make_graph(
        [node("MatMul", ["x", "w"], ["y"])], "graph", [value("x", ["N", 8])], [value("y", ["N", "M"])], [tensor]
    )
    onnx.save(helper.make_model(graph, opset_imports=OPSET, ir_version=9), folder / "f.onnx")
    return folder / "f.onnx"


def _broken(folder: Path) -> Path:
    nodes = [node("MatMul", ["x", "w"], ["z"]), node("Elephant", ["z"], ["y"])]
    return save(folder / "f.onnx", nodes, [value("x", ["N", 8])], [value("y", ["N", 4])], w=weights(0, 8, 4))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (_nothing_to_quantise, "it has no convolution and no matrix product with stored weights"),
        (_too_large, r"it takes 2\.0 GB; a file of less than 2 GB can be quantised"),
        (_broken, "Elephant"),
    ],
)
def test_what_cannot_be_quantised(made: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said) as found:
        quantise_onnx(made(tmp_path), tmp_path / "q.onnx", vectors(16, 0), called="the model")
    assert str(found.value).startswith("the model cannot be quantised")
    assert "\n" not in str(found.value)


def test_an_agreement_that_no_int8_form_reaches(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no int8 form agrees with it on 95\.0% of the samples, 20\.0% at best"):
        quantise_onnx(layers(tmp_path / "f.onnx"), tmp_path / "q.onnx", vectors(16, 0), judge=lambda _: 0.2, least=0.95)
