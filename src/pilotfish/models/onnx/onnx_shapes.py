"""Every tensor's shape in an ONNX model whose batch, or whose inputs, are set to numbers.

onnx's shape inference stops where a shape is computed by operators it does not follow (a Slice of a Shape,
a division). With all inputs fixed those computations are constants, so they are folded and inference goes
on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError, UsageError, nearest
from pilotfish.models.onnx.onnx_graph import SMALL, attribute, every_node, operator_name, without_weights

if TYPE_CHECKING:
    import numpy as np
    import onnx

Shape = tuple[int, ...]
# Operators on shapes whose outputs are at most as large as their inputs together, or their product. Others, such as
# Range and Expand, are run only where inference has told that their outputs are small.
BOUNDED = (
    "Abs Add And ArgMax ArgMin Cast Ceil Clip Concat Constant Div Equal Flatten Floor Gather GatherElements GatherND "
    "Greater GreaterOrEqual Identity Less LessOrEqual Max Min Mod Mul Neg NonZero Not Or Pow ReduceMax ReduceMin "
    "ReduceProd ReduceSum Reshape Round ScatterElements ScatterND Shape Sign Size Slice Split Sqrt Squeeze Sub "
    "Transpose Unsqueeze Where Xor"
)
# Operators of onnxruntime whose shapes onnx does not infer: an ONNX operator with the same output shape,
# and which of the inputs it takes.
STAND_INS: dict[str, tuple[str, tuple[int, ...]]] = {
    "com.microsoft::FusedConv": ("Conv", (0, 1)),
    "com.microsoft::FusedGemm": ("Gemm", (0, 1)),
    "com.microsoft::QGemm": ("Gemm", (0, 3)),
    "com.microsoft::MatMulIntegerToFloat": ("MatMul", (0, 1)),
    "com.microsoft::DynamicQuantizeMatMul": ("MatMul", (0, 1)),
    "com.microsoft::MultiHeadAttention": ("Identity", (0,)),
    "com.microsoft::Attention": ("Identity", (0,)),
    "com.microsoft::QLinearAdd": ("Add", (0, 3)),
    "com.microsoft::QLinearMul": ("Mul", (0, 3)),
    "com.microsoft::QLinearSigmoid": ("Sigmoid", (0,)),
    "com.microsoft::QLinearLeakyRelu": ("Relu", (0,)),
    "com.microsoft::QLinearSoftmax": ("Softmax", (0,)),
    "com.microsoft::QLinearAveragePool": ("AveragePool", (0,)),
    "com.microsoft::QLinearGlobalAveragePool": ("GlobalAveragePool", (0,)),
    "com.microsoft::QuantizeLinear": ("Identity", (0,)),
    "com.microsoft::DequantizeLinear": ("Identity", (0,)),
    "com.microsoft::Gelu": ("Relu", (0,)),
    "com.microsoft::FastGelu": ("Relu", (0,)),
    "com.microsoft::QuickGelu": ("Relu", (0,)),
    "com.microsoft::BiasGelu": ("Relu", (0,)),
    "com.microsoft::BiasSoftmax": ("Softmax", (0,)),
    "com.microsoft::SkipLayerNormalization": ("Identity", (0,)),
    "com.microsoft::SkipSimplifiedLayerNormalization": ("Identity", (0,)),
    "com.microsoft::EmbedLayerNormalization": ("Gather", (2, 0)),
}


def fixed_graph(model: onnx.ModelProto, batch: int, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """A copy of *model* without its weights and with fixed inputs: *shapes*, and *batch* where it is open.

    Raises UsageError for a shape of an unknown input or of the wrong rank.
    """
    light = without_weights(model)
    _fix_inputs(light.graph, batch, shapes)
    return light


def infer_shapes(light: onnx.ModelProto) -> dict[str, Shape]:
    """The shapes that can be told, by tensor name. Raises ModelError when onnx refuses the model."""
    import onnx

    probe = onnx.ModelProto()
    probe.CopyFrom(light)
    _set_nodes(probe.graph, [like for node in light.graph.node for like in stand_ins(node)])
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in light.graph.initializer if _has_data(t)}
    while True:
        known = _infer_once(probe)
        names = (name for node in probe.graph.node for name in node.output if name)
        if all(name in known for name in names) or not _fold(probe, known, constants):
            return known


def stand_ins(node: Any) -> list[Any]:
    """Nodes of ONNX with the output shapes of *node*; *node* itself where onnx knows it."""
    import onnx

    name = operator_name(node)
    if name == "com.microsoft::FusedMatMul":
        left, right = ("ba" if attribute(node, side, 0) else "ab" for side in ("transA", "transB"))
        equation = (
            f"...{left.replace('a', 'i').replace('b', 'j')},...{right.replace('a', 'j').replace('b', 'k')}->...ik"
        )
        return [onnx.helper.make_node("Einsum", node.input, node.output, equation=equation)]
    if name not in STAND_INS:
        return [node]
    operator, used = STAND_INS[name]
    made = []
    for output in filter(None, node.output):
        made.append(onnx.helper.make_node(operator, [node.input[i] for i in used], [output]))
        made[-1].attribute.extend(node.attribute)
    return made


def explain_unknown(name: str, light: onnx.ModelProto, known: Mapping[str, Shape]) -> str:
    """Why the shape of tensor *name* is unknown and what to do: an open input, or a lost shape."""
    open_input = next((i for i in light.graph.input if i.name not in known), None)
    if open_input is not None:
        example = tuple(_size(dim) or 224 for dim in open_input.type.tensor_type.shape.dim)
        return (
            f"the shape of {name!r} is unknown because the input {open_input.name!r} is "
            f"{_written(open_input)}; give its sizes, for example shapes={{{open_input.name!r}: {example}}}"
        )
    lost = next((n for n in light.graph.node if n.output and n.output[0] not in known), None)
    where = f" at {operator_name(lost)} {lost.name!r}" if lost is not None else ""
    return (
        f"the shape of {name!r} is unknown: shape inference stops{where}; "
        "simplify the model (onnxsim, or onnxruntime's basic optimisation) and count it again"
    )


def _fix_inputs(graph: Any, batch: int, shapes: Mapping[str, Sequence[int]]) -> None:
    """Write *shapes*, then *batch*, into the inputs, and drop what was inferred for other ones."""
    names = [given.name for given in graph.input]
    for name in shapes:
        if name not in names:
            raise UsageError(f"the ONNX model has no input {name!r}; {nearest(name, names)}")
    symbols: dict[str, int] = {}
    for given in graph.input:
        if given.name in shapes:
            _write_shape(given, shapes[given.name], symbols)
    for given in graph.input:
        dims = given.type.tensor_type.shape.dim
        if dims and _size(dims[0]) is None:
            size = symbols.setdefault(dims[0].dim_param, batch) if dims[0].dim_param else batch
            dims[0].dim_value = size
    for given in graph.input:
        for dim in given.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
    kept = [] if shapes else [value for value in graph.value_info if _shape(value) is not None]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")


def _write_shape(given: Any, sizes: Sequence[int], symbols: dict[str, int]) -> None:
    """Set an input's shape, and note in *symbols* what its named dimensions have become."""
    shape = given.type.tensor_type.shape
    if min(sizes, default=1) < 1 or (shape.dim and len(shape.dim) != len(sizes)):
        raise UsageError(
            f"the shape {tuple(sizes)} does not fit the input {given.name!r}, which is {_written(given)}; "
            "give one size of 1 or more per dimension"
        )
    for dim, size in zip(shape.dim or [shape.dim.add() for _ in sizes], sizes, strict=True):
        if dim.dim_param:
            symbols[dim.dim_param] = size
        dim.dim_value = size


def _infer_once(probe: onnx.ModelProto) -> dict[str, Shape]:
    import onnx

    # onnx writes a Range out to propagate its data, however long it is; what is small is folded here all the same
    propagated = not any(node.op_type == "Range" for node in every_node(probe.graph))
    try:
        graph = onnx.shape_inference.infer_shapes(probe, data_prop=propagated).graph
    except Exception as error:
        raise ModelError(
            f"onnx cannot infer the shapes of this model: {' '.join(str(error).split())}; "
            "check it with onnx.checker.check_model"
        ) from error
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shape = _shape(value)
        if shape is not None:
            known[value.name] = shape
    return known


def _fold(probe: onnx.ModelProto, known: Mapping[str, Shape], constants: dict[str, np.ndarray]) -> bool:
    """Turn nodes whose values are known into initialisers; whether there were any."""
    import onnx

    opsets = {entry.domain: entry.version for entry in probe.opset_import}
    left, outputs = [], {output.name for output in probe.graph.output}
    for node in probe.graph.node:
        values = None if outputs & set(node.output) else _evaluate(node, known, constants, opsets)
        if values is None:
            left.append(node)
            continue
        for name, value in zip(node.output, values, strict=True):
            constants[name] = value
            probe.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    folded = len(left) < len(probe.graph.node)
    _set_nodes(probe.graph, left)
    return folded


def _evaluate(
    node: Any, known: Mapping[str, Shape], constants: Mapping[str, np.ndarray], opsets: dict[str, int]
) -> list[np.ndarray] | None:
    """The small outputs of *node* when they follow from constants and known shapes."""
    import numpy as np
    from onnx.reference import ReferenceEvaluator

    if node.domain not in ("", "ai.onnx") or node.op_type.startswith(("Random", "Bernoulli", "Multinomial")):
        return None
    feeds = {name: constants[name] for name in node.input if name in constants}
    if node.op_type in ("Shape", "Size") and node.input[0] in known:
        # Only the shape of the operand matters; its data take no memory.
        feeds = {node.input[0]: np.broadcast_to(np.float32(0), known[node.input[0]])}
    if any(name and name not in feeds for name in node.input):
        return None
    if any(prod(known.get(name, ())) > SMALL for name in node.output):
        return None
    told = all(name in known for name in node.output if name)
    if any(a.HasField("g") or a.graphs for a in node.attribute) or not (told or _is_bounded(node, feeds)):
        return None  # a loop may have no end, and a Range no bound
    try:
        values = ReferenceEvaluator(node, opsets=opsets).run(None, feeds)
    except Exception:  # an operator that the reference lacks; inference may still pass it
        return None
    arrays = [np.asarray(value) for value in values]
    return arrays if all(array.size <= SMALL for array in arrays) else None


def _is_bounded(node: Any, feeds: Mapping[str, np.ndarray]) -> bool:
    if node.op_type in ("Shape", "Size", "Concat"):
        return True
    return node.op_type in BOUNDED.split() and prod(max(1, a.size) for a in feeds.values()) <= SMALL**2


def _set_nodes(graph: Any, nodes: Sequence[Any]) -> None:
    kept = list(nodes)  # before the deletion: they may be the graph's own
    del graph.node[:]
    graph.node.extend(kept)


def _has_data(tensor: Any) -> bool:
    """Whether a tensor is here with its values: not emptied, not in a file beside the model."""
    return bool(prod(tensor.dims) <= SMALL and tensor.data_location == 0)


def _size(dim: Any) -> int | None:
    return int(dim.dim_value) if dim.dim_value > 0 else None  # exporters also write 0 and -1 for "open"


def _shape(value: Any) -> Shape | None:
    """The shape of a value when all its dimensions are numbers."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
        return None
    return tuple(int(dim.dim_value) for dim in dims)


def _written(value: Any) -> str:
    dims = [str(_size(d) or d.dim_param or "?") for d in value.type.tensor_type.shape.dim]
    return f"({', '.join(dims)})"
