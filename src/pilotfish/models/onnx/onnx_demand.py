"""What one sample asks of memory and time, told from an ONNX graph before it is run.

A file of a few hundred bytes can ask for terabytes, or loop for ever. Where all shapes follow from the input's, the
memory that is alive at once is known beforehand; where they do not, or there are loops, calls are held to limits while
they run (see ``onnx_limits``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from pilotfish.errors import PilotfishError
from pilotfish.models.costs.onnx_formulas import Shape
from pilotfish.models.onnx.onnx_shapes import every_node, fixed_graph, infer_shapes

LOOPS = ("Loop", "Scan", "SequenceMap")
BYTES = 8  # of an element: the largest number there is


@dataclass(frozen=True)
class Demand:
    """What one sample takes.

    peak       bytes of all tensors that are alive at once, at most; None where shapes depend on the data
    constants  bytes of what can be computed without any input
    loops      whether something may run any number of times
    """

    peak: int | None
    constants: int = 0
    loops: bool = False


def demand_of(light: Any, pixels: tuple[int, int] | None) -> Demand:
    """The demand of a graph without its weights (``without_weights``); *pixels*: the height and
    width of images, where it leaves them open."""
    nodes = list(every_node(light.graph))
    loops = any(node.op_type in LOOPS for node in nodes)
    if len(nodes) > len(light.graph.node):  # branches and bodies: which runs, and how often, depends on the data
        return Demand(None, loops=loops)
    try:
        known = infer_shapes(fixed_graph(light, 1, _sizes(light.graph.input, pixels or ())))
    except PilotfishError:
        return Demand(None)
    constants = BYTES * sum(_elements(node, known) or 0 for node in _constant(light.graph))
    return Demand(_peak(light.graph, known), constants)


def _sizes(inputs: Any, pixels: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of inputs whose dimensions beside the batch are all known, a batch of one where it is open."""
    found = {}
    for value in inputs:
        dims = [int(d.dim_value) for d in value.type.tensor_type.shape.dim]
        left = iter(pixels)
        shape = tuple(d if d > 0 else next(left, 0) if i else 1 for i, d in enumerate(dims))
        if shape and min(shape) > 0:
            found[value.name] = shape
    return found


def _constant(graph: Any) -> Iterator[Any]:
    """Nodes that follow from stored tensors alone."""
    known = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:
        if all(name in known for name in node.input):
            known.update(node.output)
            if node.op_type != "Constant":
                yield node


def _elements(node: Any, known: Mapping[str, Shape]) -> int | None:
    """How many numbers *node* returns; None where it is not known."""
    outputs = [name for name in node.output if name]
    return sum(prod(known[name]) for name in outputs) if all(name in known for name in outputs) else None


def _peak(graph: Any, known: Mapping[str, Shape]) -> int | None:
    last = {name: i for i, node in enumerate(graph.node) for name in node.input}
    last |= dict.fromkeys((value.name for value in graph.output), len(graph.node))
    held = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}  # by others
    alive = peak = sum(prod(known.get(value.name, ())) for value in graph.input)
    for i, node in enumerate(graph.node):
        made = _elements(node, known)
        if made is None:
            return None
        alive += made
        peak = max(peak, alive)
        over = {name for name in (*node.input, *node.output) if name and last.get(name, i) == i}
        alive -= sum(prod(known.get(name, ())) for name in over - held)
    return BYTES * peak
