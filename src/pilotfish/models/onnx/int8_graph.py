"""An ONNX graph with some of its nodes in 8 bits, by ONNX Runtime's tools."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.models.onnx.int8_nodes import PRODUCTS, Int8Nodes


@dataclass(frozen=True)
class Int8Graph:
    """A graph made ready for int8.

    model    the ``onnx.ModelProto``, its constants folded and its nodes named
    nodes    what becomes int8
    ranges   of its tensors, as ONNX Runtime's tools keep them
    reduced  whether weights are kept to 7 bits
    """

    model: Any
    nodes: Int8Nodes
    ranges: Any
    reduced: bool

    def write(self, target: Path, kept: Collection[str] = (), seen: Collection[str] = ()) -> None:
        """Write the int8 graph to *target*: the nodes *kept* stay in float32, the tensors *seen* are outputs too."""
        import onnx

        made = _int8(self, frozenset(kept))
        made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in seen)
        onnx.save(made, str(target))


def _int8(graph: Int8Graph, kept: frozenset[str]) -> Any:
    """The ``onnx.ModelProto`` with pairs of QuantizeLinear and DequantizeLinear around what is computed in 8 bits."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = type(graph.model)()
    model.CopyFrom(graph.model)
    chosen = [name for name in graph.nodes.nodes if name not in kept]
    quantizer = QDQQuantizer(
        model,
        True,  # per channel
        graph.reduced,
        QuantType.QInt8,
        QuantType.QUInt8,
        graph.ranges,
        chosen,
        [],
        sorted({node.op_type for node in model.graph.node if node.name in set(chosen)}),
        # products may return float32 at no cost, so logits keep all their digits
        {"OpTypesToExcludeOutputQuantization": list(PRODUCTS)},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    made = quantizer.model.model
    _read_float32(made.graph, frozenset(chosen), graph.model.graph.initializer)
    return made


def _read_float32(graph: Any, chosen: frozenset[str], stored: Any) -> None:
    """Let nodes that are not *chosen* read tensors as they are; the tools hand them what 8 bits leave. *stored*: those
    of the float32 graph."""
    makers = {name: node for node in graph.node for name in node.output}
    tensors = {f"{tensor.name}_quantized": tensor for tensor in stored}
    whole, rounded_biases = {}, {}
    for node in graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        if node.input[0] in tensors:
            name = tensors[node.input[0]].name
            if node.output[0] == name:  # a bias
                rounded_biases[name] = node.output[0] = f"{name}_rounded"
            whole[node.output[0]] = name
        elif (rounded := makers.get(node.input[0])) is not None and rounded.op_type == "QuantizeLinear":
            maker = makers.get(rounded.input[0])
            if maker is None or maker.name not in chosen or maker.op_type in PRODUCTS:
                whole[node.output[0]] = rounded.input[0]
    read: set[str] = set()
    for node in graph.node:
        if node.name not in chosen and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            node.input[:] = [whole.get(name, name) for name in node.input]
            read.update(node.input)
        elif node.name in chosen:
            node.input[:] = [rounded_biases.get(name, name) for name in node.input]
    held = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for tensor in stored if tensor.name in read - held)
