"""Count the multiply-adds of an ONNX model from its shapes. Nothing is run.

The convention is that of `macs.py`: one multiply-add is 1; convolutions, products of matrices, attention
and recurrent layers count; element-wise operators, norms, softmax, pooling and look-ups do not.

Operators of ONNX itself go by their name, others by "domain::name". A handler takes the node and a
function that gives a tensor's shape by name, and returns the multiply-adds, or None when it cannot tell.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError, UsageError
from pilotfish.models.costs.mac_formulas import attended, convolved
from pilotfish.models.costs.macs import MacCount, per_sample
from pilotfish.models.onnx.onnx_graph import attribute, bodies, every_node, operator_name
from pilotfish.models.onnx.onnx_shapes import STAND_INS, Shape, explain_unknown, fixed_graph, infer_shapes

if TYPE_CHECKING:
    import onnx

ShapeOf = Callable[[str], Shape]
Handler = Callable[[Any, ShapeOf], int | None]


def _conv(weight: int) -> Handler:
    return lambda node, shape: convolved(shape(node.output[0]), shape(node.input[weight]))


def _conv_transpose(node: Any, shape: ShapeOf) -> int:
    return convolved(shape(node.input[0]), shape(node.input[1]))


def _matmul(node: Any, shape: ShapeOf) -> int:
    left = shape(node.input[0])
    inner = left[-2] if attribute(node, "transA", 0) else left[-1]
    return prod(shape(node.output[0])) * inner


def _einsum(node: Any, shape: ShapeOf) -> int | None:
    """One pair of operands: each combination of the indices is a multiply-add, if any index is summed."""
    terms, arrow, result = attribute(node, "equation", b"").decode().replace(" ", "").partition("->")
    operands = terms.split(",")
    if len(operands) != 2 or "." in terms or not arrow:
        return 0 if len(operands) == 1 else None
    sizes: dict[str, int] = {}
    for term, name in zip(operands, node.input, strict=True):
        for index, size in zip(term, shape(name), strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    return prod(sizes.values()) if set(sizes) - set(result) else 0


def _attention(node: Any, shape: ShapeOf) -> int:
    """Q (N, H, L, E), or (N, L, H · E) with the heads as attributes; K, V alike; past keys are longer."""
    query, key, value = (shape(name) for name in node.input[:3])
    past = shape(node.input[4])[2] if len(node.input) > 4 and node.input[4] else 0
    if len(query) == 4:
        return attended(query, key, value, past)
    heads, groups = attribute(node, "q_num_heads", 1), attribute(node, "kv_num_heads", 1)
    return prod(query[:2]) * (key[1] + past) * int(query[2] + heads * value[2] // groups)


def _multi_head_attention(node: Any, shape: ShapeOf) -> int | None:
    """onnxruntime's: query (N, L, D), key (N, S, D), value (N, S, D_v). Packed forms are not known."""
    if len(node.input) < 3 or not (node.input[1] and node.input[2]) or any(node.input[6:]):
        return None
    query, key, value = (shape(name) for name in node.input[:3])
    if not len(query) == len(key) == len(value) == 3:
        return None
    return attended(query, key, value)


def _attention_with_weights(node: Any, shape: ShapeOf) -> int | None:
    """onnxruntime's: input (N, L, D_in) through one weight (D_in, D_q + D_k + D_v), then attention."""
    if any(node.input[4:5]):
        return None  # past keys
    (n, length, d_in), (_, columns) = shape(node.input[0]), shape(node.input[1])
    d_q, _, d_v = attribute(node, "qkv_hidden_sizes", [columns // 3] * 3)
    return int(n * length * d_in * columns + n * length * length * (d_q + d_v))


def _recurrent(node: Any, shape: ShapeOf) -> int:
    """Each step of each sequence takes W and R, of all directions, once."""
    steps = prod(shape(node.input[0])[:-1])
    return steps * (prod(shape(node.input[1])) + prod(shape(node.input[2])))


FORMULAS: dict[str, Handler] = {
    "Conv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "DeformConv": _conv(1),
    "ConvTranspose": _conv_transpose,
    "Gemm": _matmul,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Einsum": _einsum,
    "Attention": _attention,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "com.microsoft::FusedConv": _conv(1),
    "com.microsoft::FusedGemm": _matmul,
    "com.microsoft::FusedMatMul": _matmul,
    "com.microsoft::QGemm": _matmul,
    "com.microsoft::MatMulIntegerToFloat": _matmul,
    "com.microsoft::DynamicQuantizeMatMul": _matmul,
    "com.microsoft::MultiHeadAttention": _multi_head_attention,
    "com.microsoft::Attention": _attention_with_weights,
}
_MATRIX_WORDS = re.compile(r"Conv|MatMul|Gemm|Einsum|Attention|LSTM|GRU|RNN|DFT")


def count_onnx_macs(
    model: onnx.ModelProto, batch: int = 1, *, shapes: Mapping[str, Sequence[int]] | None = None
) -> MacCount:
    """The multiply-adds per sample of an ONNX model, which is left as it is.

    The first dimension of every input is the batch. Where the model leaves it open it becomes *batch*; a
    model exported with a fixed batch keeps it. *shapes* gives the full shape of inputs, by name, that are
    open elsewhere (height and width, sequence length), or replaces them. Weights are neither needed nor
    copied. Bodies of If, Loop and Scan are not counted; those with matrix work are in `uncounted`.

    Raises ModelError when shapes stay unknown, UsageError for a batch below 1 or shapes that do not fit.
    """
    if batch < 1:
        raise UsageError(f"the batch is {batch}; MACs are counted on 1 or more samples")
    light = fixed_graph(model, batch, shapes or {})
    known = infer_shapes(light)

    def shape_of(name: str) -> Shape:
        if name not in known:
            raise ModelError(explain_unknown(name, light, known))
        return known[name]

    counts: Counter[str] = Counter()
    uncounted: set[str] = set()
    for node in light.graph.node:
        name = operator_name(node)
        macs = FORMULAS[name](node, shape_of) if name in FORMULAS else None
        if macs is not None:
            counts[name] += macs
        elif name in FORMULAS or _looks_like_matrix_work(node) or any(map(_is_work, _inside(node))):
            uncounted.add(name)
    first: Shape = next((known[i.name] for i in light.graph.input if known.get(i.name)), ())
    return per_sample(counts, uncounted, first[0] if first else 1)


def _inside(node: Any) -> Iterator[Any]:
    """The nodes in the bodies of If, Loop and Scan, at every depth."""
    return (inner for body in bodies(node) for inner in every_node(body))


def _is_work(node: Any) -> bool:
    return operator_name(node) in FORMULAS or _looks_like_matrix_work(node)


def _looks_like_matrix_work(node: Any) -> bool:
    """Whether a node without a formula may hide multiply-adds: by name, or as an unknown domain's own."""
    if operator_name(node) in STAND_INS or node.domain == "ai.onnx.ml":
        return False
    return node.domain not in ("", "ai.onnx") or bool(_MATRIX_WORDS.search(node.op_type))
