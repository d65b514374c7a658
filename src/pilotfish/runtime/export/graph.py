"""The graph of a whole cascade: nested stages, each in the branch that is taken when it is needed.

For batch 1, a sample that does not exit takes the ``else`` branch of an ``If``, which holds the next stage. For batches
the survivors are gathered, the next stage runs on them if there are any, and its answers are scattered back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.cascade import OperatingPoint
from pilotfish.runtime.export.nodes import Nodes, inside, reduce_logits, score_value, shown
from pilotfish.runtime.export.parts import Part, embed
from pilotfish.scores import SCORES, ExitScore

OUTPUTS = (("prediction", "INT64"), ("confidence", "FLOAT"), ("stage", "INT64"), ("logits", "FLOAT"))
LAST = ExitScore(SCORES["max_prob"], "log_odds")  # what the last stage shows


@dataclass(frozen=True)
class Plan:
    """What the graph is made of.

    parts    the stages' models
    scores   one per stage but the last
    point    the thresholds or exit sets
    batched  whether a call may take more than one sample
    """

    parts: tuple[Part, ...]
    scores: tuple[ExitScore, ...]
    point: OperatingPoint
    batched: bool


def cascade_graph(plan: Plan, inputs: Sequence[tuple[str, tuple[int, ...]]]) -> Any:
    """An ``onnx.ModelProto``. inputs: name and shape of one sample, float32; outputs are *OUTPUTS*."""
    from onnx import TensorProto, helper

    n = Nodes("")
    found = _stage(n, plan, 0, {name: name for name, _ in inputs})
    for (name, _), tensor in zip(OUTPUTS, found, strict=True):
        n.nodes.append(helper.make_node("Identity", [tensor], [name]))
    batch = "batch" if plan.batched else 1
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape]) for name, shape in inputs]
    classes = plan.parts[0].n_classes or "classes"
    shapes = {"logits": [batch, classes]}
    results = [
        helper.make_tensor_value_info(name, getattr(TensorProto, kind), shapes.get(name, [batch]))
        for name, kind in OUTPUTS
    ]
    opsets: dict[str, int] = {}
    for part in plan.parts:
        opsets |= part.opsets
    return helper.make_model(
        n.graph(given, results),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in opsets.items()],
        ir_version=max(part.model.ir_version for part in plan.parts),
        producer_name="pilotfish",
    )


def _stage(n: Nodes, plan: Plan, k: int, inputs: dict[str, str]) -> list[str]:
    """Names of the four outputs from stage *k* on. inputs: the tensor of each graph input, for the samples here."""
    part, last = plan.parts[k], k + 1 == len(plan.parts)
    logits = embed(n, part, inputs[part.input], f"stage{k}/")
    said = reduce_logits(n, logits)
    score = LAST if last else plan.scores[k]
    value = score_value(n, said, score)
    confidence = shown(n, value, score.scale)
    number = n.op("ConstantOfShape", n.op("Shape", said.prediction), value=_one(k))
    own = [said.prediction, confidence, number, logits]
    if last:
        none = n.constant(-1, np.int64)
        no_score = n.constant(np.nan, np.float32)
        return [
            n.op("Where", said.finite, said.prediction, none),
            n.op("Where", said.finite, confidence, no_score),
            n.op("Where", said.finite, number, none),
            logits,
        ]
    exits = inside(n, value, said.finite, plan.point.compared[k])
    if not plan.batched:
        condition = n.op("Reshape", exits, n.constant([], np.int64))
        return _either(
            n, condition, k, lambda b: [b.op("Identity", t) for t in own], lambda b: _stage(b, plan, k + 1, inputs)
        )
    rows = n.op("Reshape", n.op("NonZero", n.op("Not", exits)), n.constant([-1], np.int64))
    condition = n.op("ReduceMin", n.cast(exits, "INT64"), n.constant([0], np.int64), keepdims=0)
    return _either(
        n,
        n.cast(condition, "BOOL"),
        k,
        lambda b: [b.op("Identity", t) for t in own],
        lambda b: _of_survivors(b, plan, k, inputs, rows, own),
    )


def _of_survivors(n: Nodes, plan: Plan, k: int, inputs: dict[str, str], rows: str, own: Sequence[str]) -> list[str]:
    """The outputs *own* of stage *k*, with those of its survivors *rows* replaced by the later stages' answers."""
    wanted = {part.input for part in plan.parts[k + 1 :]}
    gathered = {name: n.op("Gather", inputs[name], rows, axis=0) for name in wanted}
    theirs = _stage(n, plan, k + 1, gathered)
    scattered = [n.op("ScatterElements", a, rows, b, axis=0) for a, b in zip(own[:3], theirs[:3], strict=True)]
    places = n.op("Unsqueeze", rows, n.constant([1], np.int64))
    return [*scattered, n.op("ScatterND", own[3], places, theirs[3])]


def _either(n: Nodes, condition: str, k: int, then: Any, otherwise: Any) -> list[str]:
    """The outputs of one branch or the other."""
    from onnx import TensorProto, helper

    branches = {}
    for name, write in (("then_branch", then), ("else_branch", otherwise)):
        branch = Nodes(f"{n.prefix}{name[:4]}{k}/")
        tensors = write(branch)
        results = [
            helper.make_tensor_value_info(tensor, getattr(TensorProto, kind), None)
            for tensor, (_, kind) in zip(tensors, OUTPUTS, strict=True)
        ]
        branches[name] = branch.graph([], results)
    return n.ops("If", [condition], len(OUTPUTS), **branches)


def _one(k: int) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array([k], np.int64))
