"""Whether a model repeats itself: the same samples twice alike, then in another order and batches of another size.

Dropout that is left on, batch norm in training mode, a batch's mean in the code: records of such a model are of one
throw of the dice, and the cascade that runs later throws others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.data import Dataset
from pilotfish.errors import ModelError
from pilotfish.models import Model
from pilotfish.models.model import F32, model_errors
from pilotfish.models.preprocessing import draw_rows, sample_inputs, stacked
from pilotfish.scores.outputs import join_outputs
from pilotfish.tasks import CLASSES, Task
from pilotfish.text import quantity

SAMPLES = 16
SAMPLES_OF_CALLABLES = 8  # a call may cost money
TOLERANCE = 1e-2  # of 1 + |log-odds|
REDUCED = 10.0  # times that where the model computes in fewer bits
EVALUATE = "is dropout or batch norm in training mode? put the model in evaluation mode and record again"


@dataclass(frozen=True)
class Differences:
    """Between two runs on the same samples: clear predictions that changed, samples of which *what* moved by more than
    the tolerance, and the largest move."""

    n: int
    changed: int
    moved: int
    most: float
    what: str = "log-odds"

    def __bool__(self) -> bool:
        return self.changed > 0 or self.moved > 0

    def __str__(self) -> str:
        if self.changed:
            return f"{self.changed} of {self.n} predictions change, {self.what} by up to {self.most:.2g}"
        return f"the {self.what} of {self.moved} of {self.n} samples change, by up to {self.most:.2g}"


def repeat_notes(data: Dataset, model: Model, task: Task = CLASSES) -> tuple[str, ...]:
    """A note where answers differ between two equal runs, or with the batch they are in; none where they do not."""
    if not getattr(model.backend, "takes_batch", True):  # was asked twice when it was found out what it takes
        return ()
    most = SAMPLES_OF_CALLABLES if model.backend.name == "python" else SAMPLES
    inputs = [one for _, one in sample_inputs(data, model.preprocessing, draw_rows(len(data), most).tolist())]
    if not inputs or len(batch := stacked(inputs)) < 2:
        return ()
    try:
        first = _outputs(model, task, batch, len(batch))
        again = _compare(model, task, first, _outputs(model, task, batch, len(batch)))
        order = np.random.default_rng(1).permutation(len(batch))
        other = _outputs(model, task, batch[order], max(1, len(batch) // 2 - 1))
        shuffled = _compare(model, task, first.take(order), other)
        if not (again or shuffled):
            return _alone(model, task, first, batch)
    except ModelError:  # of a sample, or a batch too large: the recording finds out which, and says so
        return ()
    if again:
        return (f"it does not repeat itself: run twice on the same {quantity(again.n, 'sample')}, {again}; {EVALUATE}",)
    if shuffled and _dynamic_int8(model):
        return (f"dynamic int8 takes its scales from the whole batch, so that answers depend on it: {shuffled}",)
    if shuffled:
        return (f"its answers depend on the rest of the batch: in another order and size {shuffled}; {EVALUATE}",)
    return ()


def _alone(model: Model, task: Task, first: Any, batch: F32) -> tuple[str, ...]:
    """A note where a sample is answered otherwise, or not at all, when it comes alone, as it does in a cascade."""
    try:
        alone = _compare(model, task, first.take(slice(0, 1)), _outputs(model, task, batch[:1], 1))
    except ModelError as error:
        return (f"a sample that comes alone fails, beside others it does not: {error}",)
    return (f"its answers depend on the batch's size: of a sample that comes alone {alone}",) if alone else ()


def _outputs(model: Model, task: Task, inputs: F32, size: int) -> Any:
    found = []
    for start in range(0, len(inputs), size):
        part = np.ascontiguousarray(inputs[start : start + size])
        with model_errors(model.spec, part):
            found.append(task.reduce(model.run(part.copy()), len(part), model.spec, 2))
    return join_outputs(found)


def _compare(model: Model, task: Task, one: Any, other: Any) -> Differences:
    allowed = TOLERANCE * (1 if model.preprocessing.dtype == "float32" else REDUCED)
    if not task.classes or one.log_odds is None:
        return _outputs_moved(one, other, allowed)
    before, after, logits = one.log_odds, other.log_odds, one.top_logits
    finite = np.isfinite(before) & np.isfinite(after) & np.isfinite(logits).all(axis=1)  # others are counted elsewhere
    now, then, lead = after[finite], before[finite], logits[finite, 0].astype(np.float64) - logits[finite, 1]
    allowed = allowed * (1 + np.abs(then))
    differs = one.prediction[finite] != other.prediction[finite]
    changed, move = differs & (lead > allowed), np.abs(now - then)
    moved = changed | (~differs & (move > allowed))
    return Differences(len(before), int(changed.sum()), int(moved.sum()), float(move[moved].max(initial=0.0)))


def _outputs_moved(one: Any, other: Any, allowed: float) -> Differences:
    """How far any number of the outputs of a sample moved, against its size."""
    arrays = [(name, a) for name, a in vars(one).items() if isinstance(a, np.ndarray) and a.size]
    pairs = ((a, vars(other)[name]) for name, a in arrays if a.dtype.kind in "iuf")
    moves = []
    for a, b in pairs:
        if a.shape != b.shape:
            return Differences(len(one), 0, len(one), np.inf, "outputs")
        with np.errstate(invalid="ignore"):
            far = np.abs(b.astype(np.float64) - a) / (1 + np.abs(a))
        moves.append(np.nan_to_num(far).reshape(len(a), -1).max(axis=1))
    move = np.max(moves, axis=0) if moves else np.zeros(len(one))
    return Differences(len(one), 0, int((move > allowed).sum()), float(move.max(initial=0.0)), "outputs")


def _dynamic_int8(model: Model) -> bool:
    """Whether an ONNX file quantises activations by the range that each batch has."""
    path = getattr(model.backend, "path", None)
    if path is None:
        return False
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return any(node.op_type in ("DynamicQuantizeLinear", "DynamicQuantizeMatMul") for node in graph.node)
