"""Nodes of an ONNX graph, and scores and exit rules as nodes: in float64, by the formulas of :mod:`pilotfish.scores`.

Tensors are per sample, (N,), unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pilotfish.scores import ExitScore, Scale
from pilotfish.scores.outputs import LARGEST, TOP_K


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


@dataclass(frozen=True)
class OutputNames:
    """Names of a model's reduced outputs: logits float64 (N, C), prediction int64, log_odds and log_sum_exp float64,
    finite bool (no NaN, and a largest logit that is finite)."""

    logits: str
    prediction: str
    log_odds: str
    log_sum_exp: str
    finite: str


def reduce_logits(n: Nodes, logits: str) -> OutputNames:
    """As ``records.from_logits``: relative to the runner-up, so that sums do not underflow."""
    z = n.cast(logits, "DOUBLE")
    last = n.constant([1], np.int64)
    prediction = n.op("ArgMax", z, axis=1, keepdims=0)
    column = n.op("Unsqueeze", prediction, last)
    top = n.op("GatherElements", z, column, axis=1)
    minus_infinity = n.op("Sub", top, n.constant(np.inf, np.float64))
    others = n.op("ScatterElements", z, column, minus_infinity, axis=1)
    second = n.op("ReduceMax", others, last, keepdims=1)
    anchor = n.op("Where", n.op("IsInf", second), n.constant(0.0, np.float64), second)
    rest = n.op("ReduceSum", n.op("Exp", n.op("Sub", others, anchor)), last, keepdims=1)
    lead = n.op("Sub", n.op("Sub", top, anchor), n.op("Log", rest))
    lead = n.op("Min", lead, n.constant(LARGEST, np.float64))
    total = n.op("Add", top, _log1p(n, n.op("Exp", n.op("Neg", lead))))
    nan = n.op("ReduceMax", n.cast(n.op("IsNaN", z), "FLOAT"), last, keepdims=0)
    flat = n.constant([-1], np.int64)
    infinite = n.op("IsInf", n.op("Reshape", top, flat))
    finite = n.op("Not", n.op("Or", n.cast(nan, "BOOL"), infinite))
    return OutputNames(z, prediction, n.op("Reshape", lead, flat), n.op("Reshape", total, flat), finite)


def _max_prob(n: Nodes, said: OutputNames, score: ExitScore) -> str:
    return said.log_odds


def _energy(n: Nodes, said: OutputNames, score: ExitScore) -> str:
    return said.log_sum_exp


def _margin(n: Nodes, said: OutputNames, score: ExitScore) -> str:
    """-log((1 - p1) + p2)."""
    both = n.op("Concat", _column(n, _log_others(n, said)), _slice(n, _log_probs(n, said, 2), 1, 2), axis=1)
    return n.op("Neg", _log_sum_exp(n, both))


def _entropy(n: Nodes, said: OutputNames, score: ExitScore) -> str:
    """-log H over the best classes and the rest as one class; the first term is exact where its logarithm would be
    0."""
    terms = _with_rest(n, said, score)
    first, others = _slice(n, terms, 0, 1), _slice(n, terms, 1, 2**31 - 1)
    lead = _column(n, said.log_odds)
    far = n.op("Greater", lead, n.constant(30.0, np.float64))
    first = n.op("Add", first, n.op("Where", far, n.op("Neg", lead), n.op("Log", n.op("Neg", first))))
    nothing = n.op("IsInf", others)
    some = n.op("Where", nothing, n.constant(-1.0, np.float64), others)
    others = n.op("Where", nothing, others, n.op("Add", some, n.op("Log", n.op("Neg", some))))
    return n.op("Neg", _log_sum_exp(n, n.op("Concat", first, others, axis=1)))


def _temperature(n: Nodes, said: OutputNames, score: ExitScore) -> str:
    """Log-odds of the largest probability of the logits ÷ T."""
    terms = n.op("Div", _with_rest(n, said, score), n.constant(float(score.parameters["temperature"][0]), np.float64))
    first = n.op("Reshape", _slice(n, terms, 0, 1), n.constant([-1], np.int64))
    return n.op("Sub", first, _log_sum_exp(n, _slice(n, terms, 1, 2**31 - 1)))


NODES: dict[str, Callable[[Nodes, OutputNames, ExitScore], str]] = {
    "max_prob": _max_prob,
    "margin": _margin,
    "entropy": _entropy,
    "energy": _energy,
    "temperature": _temperature,
}


def score_value(n: Nodes, said: OutputNames, score: ExitScore) -> str:
    """The score in its own unit, float64."""
    return n.op("Min", NODES[score.name](n, said, score), n.constant(LARGEST, np.float64))


def inside(n: Nodes, value: str, finite: str, bounds: Sequence[float]) -> str:
    """bool: in [b0, b1) or [b2, b3) or …, as ``cascade.exits.inside``."""
    if len(bounds) == 1:
        return n.op("And", n.op("GreaterOrEqual", value, n.constant(bounds[0], np.float64)), finite)
    passed = n.op("GreaterOrEqual", _column(n, value), n.constant([list(bounds)], np.float64))
    count = n.op("ReduceSum", n.cast(passed, "INT64"), n.constant([1], np.int64), keepdims=0)
    odd = n.cast(n.op("Mod", count, n.constant(2, np.int64)), "BOOL")
    return n.op("And", odd, finite)


def shown(n: Nodes, value: str, scale: Scale) -> str:
    """The score in display units, float32."""
    one = n.constant(1.0, np.float64)
    if scale == "log_odds":
        value = n.op("Div", one, n.op("Add", one, n.op("Exp", n.op("Neg", value))))
    elif scale == "margin":
        value = n.op("Sub", one, n.op("Exp", n.op("Neg", value)))
    elif scale == "entropy":
        value = n.op("Neg", n.op("Exp", n.op("Neg", value)))
    return n.cast(value, "FLOAT")


def _log1p(n: Nodes, x: str) -> str:
    """log(1 + x) to the last digits, also where 1 + x is rounded (Kahan): log(u) x / (u - 1) with u = 1 + x. x >= 0."""
    one = n.constant(1.0, np.float64)
    u = n.op("Add", one, x)
    exact = n.op("Div", n.op("Mul", n.op("Log", u), x), n.op("Sub", u, one))
    return n.op("Where", n.op("Equal", u, one), x, exact)


def _log_others(n: Nodes, said: OutputNames) -> str:
    """log(1 - p1) = -log(1 + e^lead), where e^lead may be infinite."""
    size = n.op("Abs", said.log_odds)
    positive = n.op("Max", said.log_odds, n.constant(0.0, np.float64))
    return n.op("Neg", n.op("Add", positive, _log1p(n, n.op("Exp", n.op("Neg", size)))))


def _log_probs(n: Nodes, said: OutputNames, k: int) -> str:
    """(N, min(k, C)): log p of the best classes, best first; the first from the log-odds, which do not saturate."""
    classes = n.op("Slice", n.op("Shape", said.logits), n.constant([1], np.int64), n.constant([2], np.int64))
    wanted = n.op("Min", classes, n.constant([k], np.int64))
    best = n.ops("TopK", (said.logits, wanted), 2, axis=1)[0]
    logp = n.op("Sub", best, _column(n, said.log_sum_exp))
    first = n.op("Neg", _log1p(n, n.op("Exp", n.op("Neg", said.log_odds))))
    joined = n.op("Concat", _column(n, first), _slice(n, logp, 1, 2**31 - 1), axis=1)
    return n.op("Min", joined, n.constant(0.0, np.float64))


def _with_rest(n: Nodes, said: OutputNames, score: ExitScore) -> str:
    """(N, k + 1): log p of the best classes that the score reads, and of all others together."""
    logp = _log_probs(n, said, min(score.top_k, TOP_K))
    outside = _log_others(n, said)
    ratio = n.op("Exp", n.op("Sub", _slice(n, logp, 1, 2**31 - 1), _column(n, outside)))
    known = n.op("ReduceSum", ratio, n.constant([1], np.int64), keepdims=0)
    one = n.constant(1.0, np.float64)
    some = n.op("Less", known, n.constant(1 - 1e-6, np.float64))
    left = n.op("Log", n.op("Sub", one, n.op("Where", some, known, n.constant(0.0, np.float64))))
    rest = n.op("Where", some, n.op("Add", outside, left), n.constant(-np.inf, np.float64))
    return n.op("Concat", logp, _column(n, rest), axis=1)


def _log_sum_exp(n: Nodes, columns: str) -> str:
    """Over axis 1."""
    flat, axis = n.constant([-1], np.int64), n.constant([1], np.int64)
    most = n.op("ReduceMax", columns, axis, keepdims=1)
    most = n.op("Where", n.op("IsInf", most), n.constant(0.0, np.float64), most)
    total = n.op("ReduceSum", n.op("Exp", n.op("Sub", columns, most)), axis, keepdims=1)
    return n.op("Reshape", n.op("Add", most, n.op("Log", total)), flat)


def _column(n: Nodes, name: str) -> str:
    return n.op("Unsqueeze", name, n.constant([1], np.int64))


def _slice(n: Nodes, name: str, start: int, end: int) -> str:
    return n.op("Slice", name, *(n.constant([v], np.int64) for v in (start, end, 1)))
