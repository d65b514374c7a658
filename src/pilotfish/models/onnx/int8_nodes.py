"""Which nodes of an ONNX graph gain from 8 bits, and which must keep their numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.models.onnx.onnx_graph import stored_nodes
from pilotfish.models.onnx.onnx_logits import OWN

CONVOLUTIONS = ("Conv", "ConvTranspose")
PRODUCTS = ("Gemm", "MatMul")
CLIPPED = ("Relu", "Clip")
"""Part of the convolution before them in 8 bits: without them its range is that of what they cut off."""
BETWEEN = (
    *CLIPPED,
    *("Add", "Mul", "LeakyRelu", "Sigmoid", "Concat", "Split", "Slice", "Pad", "Resize"),
    *("MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"),
)
"""Steps that 8 bits can pass through from a convolution to the next. No others: softmax, normalisation, look-ups of
embeddings, arithmetic of boxes and their suppression need more."""


@dataclass(frozen=True)
class Int8Nodes:
    """What is computed in 8 bits, by name, in the order of computation.

    nodes  convolutions and matrix products with stored weights, and what lies between them
    heavy  the former alone: where the time goes
    ends   the tensors of those that no other follows by any way: what the answers are made of
    """

    nodes: tuple[str, ...]
    heavy: frozenset[str]
    ends: tuple[str, ...]

    def groups(self, most: int) -> list[tuple[str, ...]]:
        """The nodes in up to *most* groups of neighbours, each with as many heavy ones."""
        count = np.cumsum([name in self.heavy for name in self.nodes]) - 1
        at = np.maximum(count, 0) * min(most, len(self.heavy)) // max(1, len(self.heavy))
        return [tuple(np.array(self.nodes)[at == k].tolist()) for k in range(int(at.max(initial=-1)) + 1)]


def name_nodes(graph: Any) -> None:
    """Give every node of *graph* a name of its own: nodes are left out by their names."""
    taken: set[str] = set()
    for i, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{i}"
            while node.name in taken:
                node.name += "_"
        taken.add(node.name)


def int8_nodes(graph: Any) -> Int8Nodes:
    """What of *graph*, whose nodes have names, is computed in 8 bits."""
    left_out = {node.name for node in stored_nodes(graph, ("Shape", "Size"))}  # 8 bits would falsify a height
    nodes = [node for node in graph.node if node.name not in left_out and not node.name.startswith(OWN)]
    stored = {tensor.name for tensor in graph.initializer}
    heavy = [node for node in nodes if _is_heavy(node, stored)]
    between = [node for node in nodes if node.op_type in BETWEEN]
    after = _reached(_outputs(node for node in heavy if node.op_type in CONVOLUTIONS), between)
    before = _reached({name for node in heavy for name in node.input}, between, backwards=True)
    names = frozenset(node.name for node in heavy)
    passed = {n.name for n in between if after & set(n.input) and (n.op_type in CLIPPED or before & set(n.output))}
    followed = _reached({name for node in heavy for name in node.input}, list(graph.node), backwards=True)
    ends = tuple(node.output[0] for node in heavy if node.output[0] not in followed)
    return Int8Nodes(tuple(n.name for n in nodes if n.name in names | passed), names, ends)


def _is_heavy(node: Any, stored: set[str]) -> bool:
    """Attention's products of two computed tensors are not: they are few, and probabilities need more than 8 bits."""
    return node.op_type in (*CONVOLUTIONS, *PRODUCTS) and len(node.input) > 1 and node.input[1] in stored


def _outputs(nodes: Iterable[Any]) -> set[str]:
    return {name for node in nodes for name in node.output}


def _reached(start: set[str], nodes: list[Any], backwards: bool = False) -> set[str]:
    """The tensors *start* and those that *nodes*, in the order of computation, lead to from them."""
    found = set(start)
    for node in reversed(nodes) if backwards else nodes:
        source, target = (node.output, node.input) if backwards else (node.input, node.output)
        if found & set(source):
            found.update(target)
    return found
