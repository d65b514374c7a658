"""The models of a cascade as ONNX graphs that fit into one: same operator sets, names that do not collide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.errors import ModelError
from pilotfish.models import Model
from pilotfish.models.backends.onnx_backend import OnnxBackend
from pilotfish.runtime.export.nodes import Nodes

LEAST_OPSET = 18  # the nodes that decide are written in it
LARGEST_FILE = 2**31 - 2**20  # what a protocol buffer can hold


@dataclass(frozen=True)
class Part:
    """A stage's model, an ``onnx.ModelProto``, and the graph input (by name) that it reads."""

    name: str
    model: Any
    input: str
    n_classes: int | None

    @property
    def opsets(self) -> Mapping[str, int]:
        """Version by domain."""
        return {entry.domain: entry.version for entry in self.model.opset_import}


def refuse_code(name: str, runner: Any) -> None:
    """ModelError for a stage that is a callable."""
    if runner.name == "python":
        raise ModelError(
            f"{name} is Python code, which no ONNX graph can hold; write its network as an ONNX file and record that "
            "(onnx:FILE), or run the cascade where its module is installed"
        )


def read_parts(names: Sequence[str], models: Sequence[Model], inputs: Sequence[str]) -> tuple[Part, ...]:
    """The models' graphs, all in the newest operator set that one of them has.

    ModelError for a model without an ONNX file, or if one file cannot hold them all.
    """
    backends = []
    for name, model in zip(names, models, strict=True):
        if not isinstance(model.backend, OnnxBackend):
            why = model.details.get("backend", f"it is run by {model.backend.name}")
            raise ModelError(f"{name} cannot be part of an ONNX graph: {why}")
        backends.append(model.backend)
    if (size := sum(backend.path.stat().st_size for backend in backends)) > LARGEST_FILE:
        raise ModelError(f"the models take {size / 1e9:.1f} GB together; one ONNX file holds 2 GB at most")
    read = [_inlined(backend.graph()) for backend in backends]
    newest = max(LEAST_OPSET, *(_version(graph) for graph in read))
    return tuple(
        Part(name, _converted(graph, newest, backend.path), source, model.n_classes)
        for name, graph, backend, source, model in zip(names, read, backends, inputs, models, strict=True)
    )


def embed(n: Nodes, part: Part, source: str, prefix: str) -> str:
    """Write *part* into the graph *n*, fed by the float32 tensor *source*; returns its logits, float32."""
    from onnx import TensorProto, compose

    graph = compose.add_prefix(part.model, f"{n.prefix}{prefix}").graph
    stored = {tensor.name for tensor in graph.initializer}
    [given] = [entry for entry in graph.input if entry.name not in stored]
    kind = given.type.tensor_type.elem_type
    if kind == TensorProto.UINT8:  # a bare cast cuts off what rounding left below a whole number
        source = n.op("Clip", n.op("Round", source), n.constant(0, np.float32), n.constant(255, np.float32))
    feed = source if kind == TensorProto.FLOAT else n.op("Cast", source, to=kind)
    n.nodes.append(n.onnx.helper.make_node("Identity", [feed], [given.name]))
    n.nodes.extend(graph.node)
    n.initializers.extend(graph.initializer)
    logits = graph.output[0]
    if logits.type.tensor_type.elem_type == TensorProto.FLOAT:
        return str(logits.name)
    return n.cast(logits.name, "FLOAT")


def _version(graph: Any) -> int:
    return int(next((entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")), LEAST_OPSET))


def _inlined(graph: Any) -> Any:
    """The model with its own functions inlined: two files may have different ones of one name."""
    if not graph.functions:
        return graph
    from onnx import inliner

    return inliner.inline_local_functions(graph)


def _converted(graph: Any, version: int, path: Path) -> Any:
    if _version(graph) == version:
        return graph
    from onnx import version_converter

    try:
        return version_converter.convert_version(graph, version)
    except Exception as error:  # the converter raises errors of several libraries
        raise ModelError(
            f"{path} is of operator set {_version(graph)} and cannot be converted to {version} "
            f"({str(error).splitlines()[0][:120]}); export it again in that version"
        ) from error
