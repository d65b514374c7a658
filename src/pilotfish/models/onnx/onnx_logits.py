"""An ONNX graph cut and rewritten in memory so that its one output is logits, float32 (N, C), C >= 2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pilotfish.errors import ModelError
from pilotfish.models.onnx.onnx_graph import bodies, inlined
from pilotfish.models.outputs.activation import HALF_STEP, OUTSIDE, SATURATED, SMALL, TINY

KINDS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
MOVES = ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Dropout")
DROPPED = ("QuantizeLinear", "DequantizeLinear", "ZipMap")  # scales of probabilities do not fit logits
LEAST_OPSET = 8
OWN = "pilotfish_"  # names of what is added begin with it


def _modern(model: Any) -> Any:
    """*model* in an operator set that compares numbers of 64 bits."""
    if any(entry.domain in ("", "ai.onnx") and entry.version < LEAST_OPSET for entry in model.opset_import):
        from onnx import version_converter

        return version_converter.convert_version(model, LEAST_OPSET)
    return model


def ending(model: Any, output: str) -> str | None:
    """The activation that *output* comes from; None: not to be seen."""
    return _chain(inlined(model).graph, output)[0]


def zipped(model: Any) -> dict[str, Any]:
    """The ZipMap nodes by output: what turns a tensor (N, C) into a list of dictionaries."""
    return {node.output[0]: node for node in model.graph.node if node.op_type == "ZipMap"}


def zipped_names(node: Any | None) -> tuple[str, ...] | None:
    """The class names of a ZipMap: its strings, or its numbers where they are not 0 to C - 1."""
    for attribute in () if node is None else node.attribute:
        if attribute.name == "classlabels_strings" and attribute.strings:
            return tuple(value.decode(errors="replace") for value in attribute.strings)
        if attribute.name == "classlabels_int64s" and list(attribute.ints) != list(range(len(attribute.ints))):
            return tuple(str(value) for value in attribute.ints)
    return None


def columns_of(model: Any, output: str) -> int | None:
    """How many numbers *output* holds for one sample; None where the file does not declare it."""
    if (node := zipped(model).get(output)) is not None:
        return max((len(a.strings) or len(a.ints) for a in node.attribute), default=0) or None
    [entry] = [entry for entry in model.graph.output if entry.name == output]
    if not entry.type.tensor_type.HasField("shape") or not entry.type.tensor_type.shape.dim:
        return None
    sizes = [dim.dim_value for dim in entry.type.tensor_type.shape.dim[1:]]
    return int(np.prod(sizes)) if all(size > 0 for size in sizes) else None


def as_logits(model: Any, output: str, activation: str | None, columns: int) -> Any:
    """*model*, changed in place, with logits of *output* for its only output.

    activation  of ``activation.ACTIVATIONS``; None and ``none``: logits as they are
    columns     of the output for one sample: 1 becomes two classes
    """
    model = _modern(inlined(model))
    graph = model.graph
    kind, before, moves = _chain(graph, output)
    made = _Made(graph)
    if activation in ("softmax", "sigmoid") and kind == activation and before is not None:
        z = before
        for node in reversed(moves):
            z = made.again(node, z)
        p = None
    else:
        z = zipped(model)[output].input[0] if output in zipped(model) else output
        p = z if activation in ("softmax", "sigmoid") else None
    if p is not None:
        wide = made.cast(p, "DOUBLE")
        z = made.log(wide, TINY)
        if columns == 1:
            z = made.op("Sub", z, made.log(made.op("Sub", made.number(1.0), wide), HALF_STEP))
    elif activation == "sigmoid" and columns > 1:
        z = made.log_sigmoid(made.cast(z, "DOUBLE"))
    z = made.op("Reshape", made.cast(z, "FLOAT"), made.constant(np.array([-1, columns], np.int64)))
    if columns == 1:
        z = made.op("Concat", made.op("Sub", z, z), z, axis=1)
    made.finish(z, output, max(columns, 2))
    return model


class _Made:
    """Nodes added to a graph."""

    def __init__(self, graph: Any) -> None:
        import onnx

        self.onnx, self.graph, self.count = onnx, graph, 0

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self.count += 1
        name = f"{OWN}{kind.lower()}_{self.count}"
        self.graph.node.append(self.onnx.helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def again(self, node: Any, source: str) -> str:
        """The same step on another tensor."""
        self.count += 1
        copied = self.graph.node.add()
        copied.CopyFrom(node)
        copied.input[0] = source
        copied.name = f"{OWN}{node.op_type.lower()}_{self.count}"
        del copied.output[1:]
        copied.output[0] = copied.name
        return str(copied.name)

    def constant(self, value: Any) -> str:
        self.count += 1
        name = f"{OWN}constant_{self.count}"
        self.graph.initializer.append(self.onnx.numpy_helper.from_array(value, name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float64))

    def cast(self, name: str, kind: str) -> str:
        return self.op("Cast", name, to=getattr(self.onnx.TensorProto, kind))

    def log(self, p: str, least: float) -> str:
        """log p, no less than log *least*; NaN where p is no probability."""
        room = self.op(
            "Mul",
            self.op("Add", p, self.number(OUTSIDE)),
            self.op("Sub", self.number(1 + OUTSIDE), p),
        )
        nothing = self.op("Mul", self.op("Sqrt", room), self.number(0.0))
        return self.op("Add", self.op("Log", self.op("Max", p, self.number(least))), nothing)

    def log_sigmoid(self, z: str) -> str:
        """min(z, 0) - log(1 + e), e = exp(-|z|); see ``torch_logits``."""
        size = self.op("Abs", z)
        e = self.op("Exp", self.op("Neg", size))
        few = self.op("Sub", e, self.op("Mul", self.op("Mul", e, e), self.number(0.5)))
        many = self.op("Log", self.op("Add", self.number(1.0), e))
        small = self.cast(self.op("Less", e, self.number(SMALL)), "DOUBLE")  # Where is not in the oldest operator sets
        lost = self.op("Add", many, self.op("Mul", small, self.op("Sub", few, many)))
        least = self.op("Div", self.number(SATURATED), self.op("Max", size, self.number(1.0)))
        return self.op("Sub", self.op("Min", z, self.number(0.0)), self.op("Max", lost, least))

    def finish(self, logits: str, output: str, classes: int) -> None:
        """*logits* as the only output, and nothing left in the graph that it does not need."""
        used = {name for node in self.graph.node for name in (*node.input, *node.output)}
        used |= {tensor.name for tensor in (*self.graph.initializer, *self.graph.input)}
        name = "logits" if "logits" not in used else f"{OWN}logits"
        self.graph.node.append(self.onnx.helper.make_node("Identity", [logits], [name], name))
        batch = _batch(self.graph, output)
        make = self.onnx.helper.make_tensor_value_info
        del self.graph.output[:]
        self.graph.output.append(make(name, self.onnx.TensorProto.FLOAT, [batch, classes]))
        _prune(self.graph)


def _batch(graph: Any, output: str) -> int | str:
    """The batch dimension: the input's, which the file declares most surely."""
    stored = {tensor.name for tensor in graph.initializer}
    for entry in graph.input:
        if entry.name not in stored and entry.type.tensor_type.shape.dim:
            first = entry.type.tensor_type.shape.dim[0]
            return int(first.dim_value) if first.dim_value > 0 else str(first.dim_param or "batch")
    return "batch"


def _chain(graph: Any, output: str) -> tuple[str | None, str | None, list[Any]]:
    """(activation, the tensor before it, the steps from it to *output*, last first)."""
    makers = {name: node for node in graph.node for name in node.output}
    moves: list[Any] = []
    node = makers.get(output)
    while node is not None and node.op_type in (*MOVES, *DROPPED):
        if node.op_type in MOVES:
            moves.append(node)
        node = makers.get(node.input[0])
    if node is None:
        return None, None, moves
    if node.op_type in KINDS and node.domain in ("", "ai.onnx"):
        return (KINDS[node.op_type], node.input[0], moves) if _of_classes(node) else (None, None, moves)
    inner = makers.get(node.input[0]) if node.op_type in ("Log", "Exp") else None
    turned = {("Log", "Softmax"): "log_softmax", ("Exp", "LogSoftmax"): "softmax"}
    if inner is not None and (kind := turned.get((node.op_type, inner.op_type))) and _of_classes(inner):
        return kind, inner.input[0], moves
    return None, None, moves


def _of_classes(node: Any) -> bool:
    """Whether the softmax runs over classes and not over the batch."""
    return all(attribute.name != "axis" or attribute.i != 0 for attribute in node.attribute)


def _prune(graph: Any) -> None:
    needed = {entry.name for entry in graph.output}
    kept = []
    for node in reversed(list(graph.node)):  # in the order of computation, what was appended included
        if needed & set(node.output):
            kept.append(node)
            needed.update(_inputs(node))
    copies = [type(node).FromString(node.SerializeToString()) for node in reversed(kept)]
    del graph.node[:]
    graph.node.extend(copies)
    for held in (graph.initializer, graph.value_info):
        for i in reversed(range(len(held))):
            if held[i].name not in needed:
                del held[i]


def _inputs(node: Any) -> Iterator[str]:
    """Names that a node reads, those that its branches read from outside included."""
    yield from node.input
    for inner in bodies(node):
        for part in inner.node:
            yield from _inputs(part)
        yield from (entry.name for entry in inner.output)


def packed(model: Any, path: Any) -> bytes:
    """The bytes of *model*; ModelError when a protocol buffer cannot hold them."""
    try:
        return bytes(model.SerializeToString())
    except Exception as error:  # protobuf's EncodeError, or ValueError
        raise ModelError(
            f"{path}: too large to be rewritten in memory (2 GB at most); export it with logits as its only output"
        ) from error
