"""Count the multiply-adds of an ONNX model from its shapes. Nothing is run.

The convention is that of `macs.py`: one multiply-add is 1; convolutions, products of matrices, attention
and recurrent layers count; element-wise operators, norms, softmax, pooling and look-ups do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pilotfish.errors import ModelError, UsageError
from pilotfish.models.costs.mac_count import MacCount, per_sample
from pilotfish.models.costs.onnx_formulas import FORMULAS, Shape, looks_like_matrix_work, operator_name
from pilotfish.models.onnx.onnx_shapes import explain_unknown, fixed_graph, infer_shapes

if TYPE_CHECKING:
    import onnx


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
        elif name in FORMULAS or looks_like_matrix_work(node) or any(map(_is_work, _inner_nodes(node))):
            uncounted.add(name)
    first: Shape = next((known[i.name] for i in light.graph.input if known.get(i.name)), ())
    return per_sample(counts, uncounted, first[0] if first else 1)


def _inner_nodes(node: Any) -> Iterator[Any]:
    """The nodes in the bodies of If, Loop and Scan, at every depth."""
    for held in node.attribute:
        for body in (held.g, *held.graphs):
            for inner in body.node:
                yield inner
                yield from _inner_nodes(inner)


def _is_work(node: Any) -> bool:
    return operator_name(node) in FORMULAS or looks_like_matrix_work(node)
