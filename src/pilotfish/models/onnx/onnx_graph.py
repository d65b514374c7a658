"""Walking ONNX graphs: their nodes and stored tensors, wherever the format allows one."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from math import prod
from typing import Any

from pilotfish.errors import ModelError

FIRST_IR = 4  # before it weights had to be listed as inputs, and inference insists on it
DEEPEST = 100  # functions that call functions
MOST_NODES = 500_000  # once the functions of a model are written out
SMALL = 1024
"""Tensors up to this many elements can be shapes (the target of a Reshape); larger ones are weights."""


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


def bodies(node: Any) -> Iterator[Any]:
    """The graphs that a node holds: bodies of If, Loop and Scan."""
    for held in node.attribute:
        yield from (held.g, *held.graphs)


def every_node(graph: Any) -> Iterator[Any]:
    """The nodes of a graph, those in the bodies of others included."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from every_node(body)


def has_wide_int8(graph: Any) -> bool:
    """Whether weights of 8 bits use more than 7 of them, so that sums of their products exceed 16 bits."""
    from onnx import TensorProto, numpy_helper

    stored = (
        numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.INT8 and len(tensor.dims) > 1 and prod(tensor.dims) > 0
        if tensor.data_location != TensorProto.EXTERNAL
    )
    return any(weights.max() > 64 or weights.min() < -64 for weights in stored)


def stored_nodes(graph: Any, roots: Collection[str] = ()) -> Iterator[Any]:
    """Nodes that follow from stored tensors alone, and from what operators called one of *roots* return."""
    known = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:  # in the order of computation
        if node.op_type in roots or all(name in known for name in node.input):
            known.update(node.output)
            yield node


def inlined(model: Any) -> Any:
    """*model* with the file's own functions written out."""
    if not model.functions:
        return model
    from onnx import inliner

    return inliner.inline_local_functions(model)


def without_weights(model: Any) -> Any:
    """The model's graph with its functions inlined and its large tensors empty: a small, private copy.

    ModelError for functions that call themselves, or each other so often that writing them out has no end.
    """
    import onnx

    _check_functions(model)
    source = inlined(model)
    light = onnx.ModelProto(ir_version=max(source.ir_version, FIRST_IR), opset_import=source.opset_import)
    graph, given = light.graph, source.graph
    graph.name = given.name
    graph.node.extend(given.node)
    graph.value_info.extend(given.value_info)
    graph.output.extend(given.output)
    stored = {tensor.name for tensor in given.initializer}
    graph.input.extend(i for i in given.input if i.name not in stored)
    for tensor in given.initializer:
        if prod(tensor.dims) <= SMALL:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return light


def _check_functions(model: Any) -> None:
    functions = {(f.domain, f.name): f.node for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Any, within: frozenset[tuple[str, str]]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in functions and key not in sizes:
                if key in within or len(within) > DEEPEST:
                    raise ModelError(f"its function {node.op_type[:60]!r} calls itself, or others to no end; refused")
                sizes[key] = size(functions[key], within | {key})
            total += sizes.get(key, 1) + sum(size(body.node, within) for body in bodies(node))
            if total > MOST_NODES:
                raise ModelError(
                    f"its functions come to more than {MOST_NODES:,} nodes once they are written out; refused"
                )
        return total

    if functions:
        size(model.graph.node, frozenset())


def tensors(message: Any) -> Iterator[Any]:
    """All stored tensors of an ``onnx.ModelProto``, wherever its format allows one: in graphs, in the attributes of
    nodes (plain, sparse, or bodies of If, Loop and Scan), in functions and the defaults of their attributes, for
    training."""
    for entry, value in message.ListFields():
        if entry.message_type is None or entry.message_type.full_name not in _carriers():
            continue
        for part in (value,) if hasattr(value, "ListFields") else value:
            if entry.message_type.name == "TensorProto":
                yield part
            else:
                yield from tensors(part)


@functools.cache
def _carriers() -> frozenset[str]:
    """The kinds of message that can hold tensors."""
    import onnx

    kinds = onnx.ModelProto.DESCRIPTOR.file.message_types_by_name.values()
    found = {onnx.TensorProto.DESCRIPTOR.full_name}
    while True:
        more = {k.full_name for k in kinds for f in k.fields if f.message_type and f.message_type.full_name in found}
        if more <= found:
            return frozenset(found)
        found |= more
