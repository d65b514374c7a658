"""MAC counts of ONNX models: equal to torch's for exported modules, and right by hand."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

from pilotfish.errors import ModelError, UsageError  # noqa: E402
from pilotfish.models.costs.onnx_macs import count_onnx_macs  # noqa: E402


def model_of(nodes, inputs, weights=None, outputs=("y",), domains=("",)):
    """An ONNX model. Weights given as a shape are zeros; as a list, those integers."""
    stored = []
    for name, value in (weights or {}).items():
        array = np.array(value, np.int64) if isinstance(value, list) else np.zeros(value, np.float32)
        stored.append(onnx.numpy_helper.from_array(array, name))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        stored,
    )
    versions = {"": 23, "com.microsoft": 1}
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(d, versions.get(d, 1)) for d in domains])


def one(operator: str, shapes: dict[str, list], weights=None, **attributes):
    """A model of one operator on all of the inputs and weights, in order."""
    domain = attributes.pop("domain", "")
    node = helper.make_node(operator, [*shapes, *(weights or {})], ["y"], domain=domain, **attributes)
    return model_of([node], shapes, weights, domains=("", domain) if domain else ("",))


class TestByHand:
    def test_a_small_network(self) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w1"], ["a"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "w2"], ["c"], group=8, dilations=[2, 2]),
            helper.make_node("GlobalAveragePool", ["c"], ["d"]),
            helper.make_node("Flatten", ["d"], ["e"]),
            helper.make_node("Gemm", ["e", "w3", "bias"], ["y"], transB=1),
        ]
        weights = {"w1": (8, 3, 3, 3), "w2": (8, 1, 3, 3), "w3": (10, 8), "bias": (10,)}
        model = model_of(nodes, {"x": ["batch", 3, 17, 17]}, weights)
        count = count_onnx_macs(model)
        assert count.by_operator == {"Conv": 8 * 81 * 27 + 8 * 25 * 9, "Gemm": 80}
        assert count.total == 8 * 81 * 27 + 8 * 25 * 9 + 80
        assert count.uncounted == ()
        assert count_onnx_macs(model, batch=5) == count

    @pytest.mark.parametrize(
        ("model", "expected"),
        [
            (one("ConvTranspose", {"x": ["n", 6, 5, 5]}, {"w": (6, 2, 3, 3)}, group=2), 6 * 25 * 2 * 9),
            (one("Conv", {"x": ["n", 4, 11]}, {"w": (6, 4, 3)}, strides=[2]), 6 * 5 * 12),
            (one("MatMul", {"x": ["n", 7, 8]}, {"w": (8, 5)}), 7 * 40),
            (one("MatMul", {"a": ["n", 3, 4, 5], "b": ["n", 3, 5, 6]}), 3 * 4 * 5 * 6),
            (one("Gemm", {"x": [8, 3]}, {"w": (8, 5)}, transA=1), 3 * 40 / 8),
            (one("Einsum", {"q": ["n", 3, 4, 5], "k": ["n", 3, 6, 5]}, equation="bhid,bhjd->bhij"), 360),
            (one("Einsum", {"q": ["n", 3, 4], "k": ["n", 3, 4]}, equation="bij,bij->bij"), 0),
            (one("Einsum", {"q": ["n", 3, 4]}, equation="bij->bji"), 0),
            (one("Attention", {"q": ["n", 4, 6, 16], "k": ["n", 4, 9, 16], "v": ["n", 4, 9, 8]}), 4 * 54 * 24),
            (
                one(
                    "Attention",
                    {"q": ["n", 6, 64], "k": ["n", 9, 32], "v": ["n", 9, 16]},
                    q_num_heads=4,
                    kv_num_heads=2,
                ),
                4 * 54 * (16 + 8),
            ),
            (one("LSTM", {"x": [6, 1, 8]}, {"w": (2, 64, 8), "r": (2, 64, 16)}, hidden_size=16), 2 * 64 * 24),
            (
                one(
                    "MultiHeadAttention",
                    {"q": ["n", 6, 32], "k": ["n", 9, 32], "v": ["n", 9, 32]},
                    num_heads=4,
                    domain="com.microsoft",
                ),
                6 * 9 * 64,
            ),
            (
                one("Attention", {"x": ["n", 6, 32]}, {"w": (32, 96)}, num_heads=4, domain="com.microsoft"),
                6 * 32 * 96 + 36 * 64,
            ),
        ],
    )
    def test_operators(self, model, expected: float) -> None:
        count = count_onnx_macs(model)
        assert count.total == round(expected)
        assert count.uncounted == ()

    def test_a_fixed_batch_is_divided_out(self) -> None:
        assert count_onnx_macs(one("MatMul", {"x": [4, 7, 8]}, {"w": (8, 5)})).total == 7 * 40

    def test_weights_stay_where_they_are(self) -> None:
        model = one("MatMul", {"x": ["n", 64]}, {"w": (64, 64)})
        before = model.SerializeToString()
        assert count_onnx_macs(model).total == 64 * 64
        assert model.SerializeToString() == before
        model.graph.initializer[0].ClearField("raw_data")
        assert count_onnx_macs(model).total == 64 * 64

    def test_functions_of_the_model(self) -> None:
        opset = [helper.make_opsetid("", 23)]
        body = [helper.make_node("MatMul", ["a", "b"], ["c"]), helper.make_node("Relu", ["c"], ["d"])]
        function = helper.make_function("my", "Dense", ["a", "b"], ["d"], body, opset)
        model = one("Dense", {"x": ["n", 8]}, {"w": (8, 5)}, domain="my")
        model.functions.append(function)
        count = count_onnx_macs(model)
        assert (count.total, count.uncounted) == (40, ())


class TestShapes:
    def resized(self):
        """x → half of its own height by a computed Reshape, which plain shape inference does not follow."""
        nodes = [
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Slice", ["s", "zero", "one"], ["n"]),
            helper.make_node("Slice", ["s", "one", "two"], ["h"]),
            helper.make_node("Cast", ["h"], ["hf"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["two"], ["twof"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["hf", "twof"], ["half"]),
            helper.make_node("Floor", ["half"], ["floor"]),
            helper.make_node("Cast", ["floor"], ["rows"], to=TensorProto.INT64),
            helper.make_node("Concat", ["n", "rows", "minus"], ["target"], axis=0),
            helper.make_node("Reshape", ["x", "target"], ["r"]),
            helper.make_node("MatMul", ["r", "w"], ["y"]),
        ]
        weights = {"zero": [0], "one": [1], "two": [2], "minus": [-1], "w": (16, 5)}
        return model_of(nodes, {"x": ["n", "height", 8]}, weights)

    def test_computed_shapes_are_folded(self) -> None:
        assert count_onnx_macs(self.resized(), shapes={"x": (1, 6, 8)}).total == 3 * 16 * 5
        assert count_onnx_macs(self.resized(), shapes={"x": (4, 6, 8)}).total == 3 * 16 * 5

    def test_open_inputs_are_named(self) -> None:
        expected = (
            r"the shape of 'r' is unknown because the input 'x' is \(1, height, 8\); "
            r"give its sizes, for example shapes=\{'x': \(1, 224, 8\)\}"
        )
        with pytest.raises(ModelError, match=expected):
            count_onnx_macs(self.resized())

    def test_a_named_dimension_is_the_same_everywhere(self) -> None:
        model = one("MatMul", {"a": ["n", "rows", 8], "b": ["n", 8, "rows"]})
        assert count_onnx_macs(model, shapes={"a": (4, 3, 8)}).total == 3 * 8 * 3

    def test_lost_shapes_are_located(self) -> None:
        nodes = [
            helper.make_node("Mystery", ["x"], ["a"], domain="my", name="odd"),
            helper.make_node("MatMul", ["a", "w"], ["y"]),
        ]
        model = model_of(nodes, {"x": ["n", 8]}, {"w": (8, 5)}, domains=("", "my"))
        with pytest.raises(ModelError, match=r"shape inference stops at my::Mystery 'odd'; simplify"):
            count_onnx_macs(model)

    def test_shapes_that_do_not_fit(self) -> None:
        model = one("MatMul", {"x": ["n", 8]}, {"w": (8, 5)})
        with pytest.raises(UsageError, match="no input 'y'; "):
            count_onnx_macs(model, shapes={"y": (1, 8)})
        for shape in ((1, 2, 8), (0, 8)):
            with pytest.raises(UsageError, match=r"does not fit the input 'x', which is \(n, 8\); give"):
                count_onnx_macs(model, shapes={"x": shape})
        with pytest.raises(UsageError, match="the batch is 0"):
            count_onnx_macs(model, batch=0)

    def test_work_without_a_formula_is_named(self) -> None:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Mystery", ["x"], ["z"], domain="my"),
        ]
        model = model_of(nodes, {"x": ["n", 8]}, {"w": (8, 5)}, ("y", "z"), ("", "my"))
        count = count_onnx_macs(model)
        assert (count.total, count.uncounted) == (40, ("my::Mystery",))

    def test_bodies_of_control_flow_are_named(self) -> None:
        branch = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["b"])],
            "branch",
            [],
            [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
        )
        nodes = [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["yes"], to=TensorProto.BOOL),
            helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        ]
        count = count_onnx_macs(model_of(nodes, {"x": ["n", 8]}, {"w": (8, 5)}))
        assert (count.total, count.uncounted) == (0, ("If",))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):
    """name → (module, inputs, path by exporter) for a convolutional and a transformer network."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from torch import nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
            self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.Sigmoid())
            self.up, self.head = nn.ConvTranspose2d(8, 4, 2, 2), nn.Linear(4, 10)

        def forward(self, x):
            x = self.stem(x)
            return self.head(self.up(x + self.deep(x)).mean((2, 3)))

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, activation="gelu")
            self.embed, self.blocks = nn.Linear(12, 32), nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(32, 3)

        def forward(self, x):
            return self.head(self.blocks(self.embed(x)).mean(1))

    folder = tmp_path_factory.mktemp("onnx")
    made = {}
    for name, module, x in (
        ("conv", Residual().eval(), torch.randn(2, 3, 32, 32)),
        ("encoder", Encoder().eval(), torch.randn(2, 7, 12)),
    ):
        paths = {kind: folder / f"{name}-{kind}.onnx" for kind in ("dynamo", "script")}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dims = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(module, (x,), paths["dynamo"], dynamo=True, dynamic_shapes=dims, verbose=False)
            options = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
            torch.onnx.export(module, (x,), str(paths["script"]), dynamo=False, **options)
        made[name] = (module, (x,), paths)
    return made


class TestExported:
    @pytest.mark.parametrize("name", ["conv", "encoder"])
    @pytest.mark.parametrize("kind", ["dynamo", "script"])
    @pytest.mark.parametrize("level", ["as exported", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"])
    def test_counts_are_torch_s(self, exported, name: str, kind: str, level: str) -> None:
        from pilotfish.models.costs.macs import count_macs

        module, inputs, paths = exported[name]
        path = paths[kind] if level == "as exported" else optimised(paths[kind], level)
        count = count_onnx_macs(onnx.load(path))
        assert count.total == count_macs(module, inputs).total
        assert count.uncounted == ()

    @pytest.mark.parametrize("name", ["conv", "encoder"])
    def test_without_the_weights_file(self, exported, name: str) -> None:
        path = exported[name][2]["dynamo"]
        bare = onnx.load(path, load_external_data=False)
        assert count_onnx_macs(bare) == count_onnx_macs(onnx.load(path))

    @pytest.mark.parametrize("form", ["QOperator", "QDQ", "dynamic"])
    def test_quantised(self, exported, tmp_path: Path, form: str) -> None:
        quantization = pytest.importorskip("onnxruntime.quantization")
        from pilotfish.models.costs.macs import count_macs

        module, inputs, paths = exported["conv"]
        path = tmp_path / "quantised.onnx"
        if form == "dynamic":
            quantization.quantize_dynamic(paths["script"], path)
        else:
            batches = iter([{"x": inputs[0].numpy()}])

            class Reader(quantization.CalibrationDataReader):
                def get_next(self):
                    return next(batches, None)

            kind = quantization.QuantFormat[form]
            quantization.quantize_static(paths["script"], path, Reader(), quant_format=kind)
        count = count_onnx_macs(onnx.load(path))
        assert count.total == count_macs(module, inputs).total
        assert count.uncounted == ()
        marks = {"QOperator": "QLinearConv", "QDQ": "Conv", "dynamic": "ConvInteger"}
        assert marks[form] in count.by_operator


def optimised(path: Path, level: str) -> Path:
    """The model as onnxruntime rewrites it, with its own fused operators at the extended level."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    made = path.with_name(f"{path.stem}-{level}.onnx")  # beside its weights
    options.optimized_model_filepath = str(made)
    runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return made


@pytest.mark.parametrize("version", [3, 4, 8])
@pytest.mark.parametrize("listed", [True, False])
def test_weights_that_are_listed_as_inputs_are_weights(version: int, listed: bool) -> None:
    inputs = {"x": ["N", 8], **({"w": [8, 5]} if listed else {})}
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], inputs, {"w": (8, 5)})
    model.ir_version = version
    model.opset_import[0].version = 8
    assert count_onnx_macs(model, shapes={"x": (1, 8)}).total == 40


def graph_of(body: list, carried: str = "a") -> object:
    flags = [helper.make_tensor_value_info(k, t, []) for k, t in (("i", TensorProto.INT64), ("c", TensorProto.BOOL))]
    a, b = (helper.make_tensor_value_info(k, TensorProto.INT64, None) for k in (carried, "b"))
    going = helper.make_tensor_value_info("c2", TensorProto.BOOL, [])
    return helper.make_graph([helper.make_node("Identity", ["c"], ["c2"]), *body], "body", [*flags, a], [going, b])


ENDLESS = helper.make_node("Loop", ["", "", "n"], ["s"], body=graph_of([helper.make_node("Identity", ["a"], ["b"])]))


@pytest.mark.parametrize(
    "nodes",
    [
        [ENDLESS],
        [helper.make_node("Range", ["zero", "huge", "one"], ["s"])],
        [helper.make_node("Identity", ["huge1"], ["h"]), helper.make_node("Tile", ["n", "h"], ["s"])],
        [helper.make_node("Identity", ["huge1"], ["h"]), helper.make_node("ConstantOfShape", ["h"], ["s"])],
        [helper.make_node("Max", ["many", "many1", "many2"], ["s"])],
    ],
    ids=["a loop without end", "Range", "Tile", "ConstantOfShape", "broadcasting"],
)
def test_shapes_without_bound_are_not_computed_while_counting(nodes: list) -> None:
    """What follows from constants is folded to find shapes; these would take all memory, or for ever."""
    weights = {"n": [3], "huge1": [10**11], "many": [1] * 1000}
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_int=0),
        helper.make_node("Constant", [], ["one"], value_int=1),
        helper.make_node("Constant", [], ["huge"], value_int=10**11),
        helper.make_node("Constant", [], ["axes1"], value_ints=[1]),
        helper.make_node("Constant", [], ["axes2"], value_ints=[1, 2]),
        helper.make_node("Unsqueeze", ["many", "axes1"], ["many1"]),
        helper.make_node("Unsqueeze", ["many", "axes2"], ["many2"]),
        *nodes,
        helper.make_node("ReduceMin", ["s"], ["t"], keepdims=0),
        helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "f"], ["y"]),
    ]
    assert count_onnx_macs(model_of(nodes, {"x": ["N", 4]}, weights)).total == 0


@pytest.mark.parametrize("depth", [2, 30, 200])
def test_functions_that_multiply_are_refused(depth: int) -> None:
    """Each calls the one before twice: 2^30 nodes from a file of 4 kB."""
    opset = [helper.make_opsetid("", 23), helper.make_opsetid("f", 1)]
    made = []
    for i in range(depth):
        inner = [("Neg", "")] * 2 if i == 0 else [(f"f{i - 1}", "f")] * 2
        nodes = [helper.make_node(op, [a], [b], domain=d) for (op, d), a, b in zip(inner, "xm", "my", strict=True)]
        made.append(helper.make_function("f", f"f{i}", ["x"], ["y"], nodes, opset))
    model = model_of([helper.make_node(f"f{depth - 1}", ["x"], ["y"], domain="f")], {"x": ["N", 4]}, domains=("", "f"))
    model.functions.extend(made)
    if depth == 2:
        assert count_onnx_macs(model).total == 0
    else:
        with pytest.raises(ModelError, match="refused"):
            count_onnx_macs(model)
