"""A table: ONNX operator → its multiply-adds, from shapes and attributes alone.

Operators of ONNX itself go by their name, others by "domain::name". A handler takes the node and a
function that gives a tensor's shape by name, and returns the multiply-adds, or None when it cannot tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import Any

Shape = tuple[int, ...]
ShapeOf = Callable[[str], Shape]
Handler = Callable[[Any, ShapeOf], int | None]


def operator_name(node: Any) -> str:
    """The name under which a node is counted."""
    return str(node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}")


def attribute(node: Any, name: str, default: Any) -> Any:
    """The value of a node's attribute (a number, bytes or a list), or *default*."""
    import onnx

    for held in node.attribute:
        if held.name == name:
            return onnx.helper.get_attribute_value(held)
    return default


def _conv(weight: int) -> Handler:
    """Each output element takes one filter: (C_in / groups) × kernel."""
    return lambda node, shape: prod(shape(node.output[0])) * prod(shape(node.input[weight])[1:])


def _conv_transpose(node: Any, shape: ShapeOf) -> int:
    return prod(shape(node.input[0])) * prod(shape(node.input[1])[1:])


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
        return prod(query[:3]) * (key[2] + past) * (query[3] + value[3])
    heads, groups = attribute(node, "q_num_heads", 1), attribute(node, "kv_num_heads", 1)
    return prod(query[:2]) * (key[1] + past) * int(query[2] + heads * value[2] // groups)


def _multi_head_attention(node: Any, shape: ShapeOf) -> int | None:
    """onnxruntime's: query (N, L, D), key (N, S, D), value (N, S, D_v). Packed forms are not known."""
    if len(node.input) < 3 or not (node.input[1] and node.input[2]) or any(node.input[6:]):
        return None
    query, key, value = (shape(name) for name in node.input[:3])
    if not len(query) == len(key) == len(value) == 3:
        return None
    return prod(query[:2]) * key[1] * (query[2] + value[2])


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

_MATRIX_WORDS = re.compile(r"Conv|MatMul|Gemm|Einsum|Attention|LSTM|GRU|RNN|DFT")


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


def looks_like_matrix_work(node: Any) -> bool:
    """Whether a node without a formula may hide multiply-adds: by name, or as an unknown domain's own."""
    if operator_name(node) in STAND_INS or node.domain == "ai.onnx.ml":
        return False
    return node.domain not in ("", "ai.onnx") or bool(_MATRIX_WORDS.search(node.op_type))
