"""Nodes of an ONNX graph, written one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


class Nodes:
    """The nodes and constants of one graph, or of one branch; names of branches begin with their own *prefix*.

    A branch sees the tensors of the graph around it.
    """

    def __init__(self, prefix: str) -> None:
        import onnx

        self.onnx, self.prefix = onnx, prefix
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.count = 0

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The single output of a new node."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """The outputs of a new node."""
        self.count += 1
        names = [f"{self.prefix}{kind.lower()}{self.count}.{i}" for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), names, names[0], **attributes))
        return names

    def constant(self, value: ArrayLike, dtype: type) -> str:
        """A constant tensor."""
        self.count += 1
        name = f"{self.prefix}constant{self.count}"
        self.initializers.append(self.onnx.numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def cast(self, name: str, kind: str) -> str:
        """*name* as FLOAT, DOUBLE, INT64 or BOOL."""
        return self.op("Cast", name, to=getattr(self.onnx.TensorProto, kind))

    def graph(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """An ``onnx.GraphProto`` of what was written."""
        make = self.onnx.helper.make_graph
        return make(self.nodes, f"{self.prefix}graph", list(inputs), list(outputs), self.initializers)
