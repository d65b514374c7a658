"""A table: ATen operator → its multiply-adds, from shapes alone.

A handler takes the operator's positional arguments and its result and returns the multiply-adds of that
one call, or None when the shapes do not tell (packed sequences of unknown lengths).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

Handler = Callable[[Sequence[Any], Any], int | None]
Shape = Sequence[int]


def convolved(elements: Shape, weight: Shape) -> int:
    """Each output element of a convolution takes one filter, (C_in / groups) × kernel; each input element of a
    transposed one is spread by (C_out / groups) × kernel."""
    return prod(elements) * prod(weight[1:])


def attended(query: Shape, key: Shape, value: Shape, past: int = 0) -> int:
    """Q Kᵀ and its product with V, for q (…, L, E), k (…, S, E), v (…, S, E_v), and *past* keys more. Masks save
    nothing."""
    return prod(query[:-1]) * (key[-2] + past) * (query[-1] + value[-1])


def _per_output(weight: int) -> Handler:
    return lambda args, out: convolved(out.shape, args[weight].shape)


def _per_input(weight: int) -> Handler:
    return lambda args, out: convolved(args[0].shape, args[weight].shape)


def _convolution(args: Sequence[Any], out: Any) -> int | None:
    # (input, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
    return (_per_input(1) if args[6] else _per_output(1))(args, out)


def _conv_tbc(args: Sequence[Any], out: Any) -> int:
    return int(out.numel() * prod(args[1].shape[:2]))  # weight: (kernel, C_in, C_out)


def _inner(left: int) -> Handler:
    """A product of matrices: each output element takes the last dimension of its left factor."""
    return lambda args, out: out.numel() * args[left].shape[-1]


def _addbmm(args: Sequence[Any], out: Any) -> int:
    return int(args[1].numel() * args[2].shape[-1])  # the products are summed over the batch


def _bilinear(args: Sequence[Any], out: Any) -> int:
    """x₁ᵀ W x₂ for x₁ (…, I), W (O, I, J), x₂ (…, J): all of W per sample, then a dot product per output."""
    x1, weight, x2 = args[:3]
    return int(prod(x1.shape[:-1]) * (weight.numel() + out.shape[-1] * x2.shape[-1]))


def _attention(args: Sequence[Any], out: Any) -> int:
    return attended(*(part.shape for part in args[:3]))


def _attention_heads_inside(args: Sequence[Any], out: Any) -> int | None:
    """The same for q (N, L, H, E), k and v (N, S, H, E): the layout of the raw kernels."""
    query, key, value = args[:3]
    if query.dim() != 4 or any(getattr(a, "ndim", 0) == 1 for a in args[3:5]):
        return None  # packed: the lengths are data, not shapes
    return int(prod(query.shape[:-1]) * key.shape[1] * (query.shape[-1] + value.shape[-1]))


def _recurrent(weights: Callable[[Sequence[Any]], Sequence[Any]]) -> Handler:
    """Each time step of each sequence takes every weight matrix once, in all layers and directions."""

    def macs(args: Sequence[Any], out: Any) -> int:
        steps = prod(args[0].shape[:-1])
        return int(steps * sum(w.numel() for w in weights(args) if w.dim() == 2))

    return macs


FORMULAS: dict[str, Handler] = {
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::convolution_overrideable": _convolution,
    "aten::cudnn_convolution": _per_output(1),
    "aten::cudnn_convolution_relu": _per_output(1),
    "aten::cudnn_convolution_add_relu": _per_output(1),
    "aten::cudnn_convolution_transpose": _per_input(1),
    "aten::mkldnn_convolution": _per_output(1),
    "aten::miopen_convolution": _per_output(1),
    "aten::miopen_convolution_transpose": _per_input(1),
    "aten::miopen_depthwise_convolution": _per_output(1),
    "aten::conv_tbc": _conv_tbc,
    "torchvision::deform_conv2d": _per_output(1),
    "aten::mm": _inner(0),
    "aten::bmm": _inner(0),
    "aten::mv": _inner(0),
    "aten::dot": _inner(0),
    "aten::vdot": _inner(0),
    "aten::addmm": _inner(1),
    "aten::_addmm_activation": _inner(1),
    "aten::addmv": _inner(1),
    "aten::baddbmm": _inner(1),
    "aten::addbmm": _addbmm,
    "aten::_trilinear": _bilinear,
    "aten::linear": _inner(0),
    "aten::mkldnn_linear": _inner(0),
    "aten::_int_mm": _inner(0),
    "aten::_scaled_mm": _inner(0),
    "aten::_grouped_mm": _inner(0),
    "aten::_scaled_grouped_mm": _inner(0),
    "aten::_weight_int8pack_mm": _inner(0),
    "aten::_weight_int4pack_mm": _inner(0),
    "aten::_weight_int4pack_mm_for_cpu": _inner(0),
    "aten::scaled_dot_product_attention": _attention,
    "aten::_scaled_dot_product_attention_math": _attention,
    "aten::_scaled_dot_product_attention_math_for_mps": _attention,
    "aten::_scaled_dot_product_flash_attention": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_efficient_attention": _attention,
    "aten::_scaled_dot_product_cudnn_attention": _attention,
    "aten::_scaled_dot_product_fused_attention_overrideable": _attention,
    "flex_attention": _attention,
    "aten::_flash_attention_forward": _attention_heads_inside,
    "aten::_efficient_attention_forward": _attention_heads_inside,
    "aten::mkldnn_rnn_layer": _recurrent(lambda args: args[1:3]),
    "aten::_cudnn_rnn": _recurrent(lambda args: args[1]),
    "aten::miopen_rnn": _recurrent(lambda args: args[1]),
}

_MATRIX_WORDS = re.compile(
    r"(^|_)(conv(\dd)?|convolution|\w*mm|\w*mv|matmul|\w*linear|attention|transformer|\w*rnn|lstm|gru|dot|cdist"
    r"|fft)(_|$)"
)
_NOT_MATRIX = re.compile(r"upsample|fftfreq")
_JUDGED_BY_NAME = frozenset({"aten", "prim", "prims", "rngprims", "profiler", "torchvision"})


def looks_like_matrix_work(operator: str) -> bool:
    """Whether *operator* ("namespace::name"), which has no formula, may hide multiply-adds.

    Every custom or quantised kernel may; the operators of torch and torchvision are judged by name.
    """
    namespace, _, name = operator.partition("::")
    if namespace not in _JUDGED_BY_NAME:
        return True
    return bool(_MATRIX_WORDS.search(name)) and not _NOT_MATRIX.search(name)
