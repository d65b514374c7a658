"""Callables as models: samples handed over in the form that they take, answers read in the form that they give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pilotfish.errors import ModelError
from pilotfish.models.model import F32, Carry, model_errors
from pilotfish.models.outputs.activation import BEST, logits_of
from pilotfish.models.outputs.raw_answers import RawAnswers
from pilotfish.models.outputs.said import Places, as_best, as_matrix, said_by
from pilotfish.models.outputs.which_output import Output, as_array, named, output_of, pick
from pilotfish.text import quantity

BATCH = "batch"
MANY, ONE = ("images", "arrays", "paths"), ("image", "array", "path")
TAKES = {
    BATCH: "a batch, one array (N, …)",
    "images": "a list of PIL images",
    "arrays": "a list of arrays",
    "paths": "a list of paths",
    "image": "one PIL image at a time",
    "array": "one array at a time",
    "path": "one path at a time",
}
"""What a callable may take, in the order in which it is tried."""


class PythonBackend:
    """A callable that says what N samples are.

    function    the callable
    spec        its name, for messages
    takes       one of ``TAKES``; None: not known, a batch until something else is found
    output      which of several outputs; None: the only one
    activation  what the answers have been through, of ``activation.ACTIVATIONS``, or ``BEST``; None: logits as they are
    places      where the classes stand that answers in words name
    reads       how what it returns is read, of a callable that answers another task than classes
    """

    name = "python"

    def __init__(
        self,
        function: Callable[[Any], Any],
        spec: str = "the callable",
        takes: str | None = None,
        *,
        output: str | None = None,
        activation: str | None = None,
        places: Places | None = None,
        reads: RawAnswers | None = None,
    ) -> None:
        self.function, self.spec, self.takes = function, spec, takes
        self.output, self.activation = output, activation
        self.places = places or Places(None, None, spec)
        self.reads = reads

    def changed(self, **fields: Any) -> PythonBackend:
        """The same callable, taken or read in another way."""
        kept = {key: getattr(self, key) for key in ("takes", "output", "activation", "places", "reads")}
        return PythonBackend(self.function, self.spec, **{**kept, **fields})

    @property
    def takes_batch(self) -> bool:
        """Whether it takes arrays (N, …), so that numbers of the same shape can stand for samples."""
        return self.takes in (None, BATCH)

    def answers(self, inputs: Any) -> Any:
        """What the callable returns for samples (n, …), as it returns it; of one at a time, its answers joined.

        ModelError for whatever it raises.
        """
        with model_errors(self.spec, inputs, expects="nchw", given=self._given(len(inputs))):
            if self.takes in ONE:
                found = [self.function(one) for one in inputs]
                return found if self.reads is not None else _joined(found)
            found = self.function(inputs if self.takes_batch else list(inputs))
            return list(found) if hasattr(found, "__next__") else found  # what it yields

    def _given(self, n: int) -> str | None:
        """What it is given, in words; None for a batch."""
        if self.takes is None or self.takes == BATCH:
            return None
        return f"one {self.takes}" if self.takes in ONE else f"{n} {self.takes if n > 1 else self.takes[:-1]}"

    def step(self, inputs: F32 | None, carry: Carry | None = None) -> tuple[Any, None]:
        """Logits float32 (n, C), ``Outputs`` where answers are the predicted class and a confidence, or the raw answers
        of another task; no features."""
        assert inputs is not None, "a whole model takes inputs"
        found, rows = self.answers(inputs), len(inputs)
        with model_errors(self.spec, inputs):
            if self.reads is not None:
                return self.reads(found, inputs, self.spec), None
            if self.output is None and self.activation is None:
                return np.array(as_array(found)), None  # a copy: callables may fill the same buffer again
            said = said_by(found, rows) if self.output is None else None
            if self.activation == BEST:
                if said is None:
                    raise ModelError(f"{self.spec}: {_other(found, rows)}")
                return as_best(said, self.places), None
            if said is not None and not said.pair:
                return logits_of(as_matrix(said, self.places), self.activation), None
            values = as_array(pick(found, self.output, rows, self.spec))
            return logits_of(values.reshape(len(values), -1), self.activation), None

    def outputs(self, batch: Any) -> list[Output]:
        """All that the callable returns."""
        return outputs_in(self.answers(batch), len(batch), self.spec, batch)


def outputs_in(found: Any, rows: int, spec: str, batch: Any) -> list[Output]:
    """The arrays among what a callable returned for *rows* samples, copied: it may fill the same buffer again."""
    with model_errors(spec, batch, expects="nchw"):
        outputs = [output_of(name, value) for name, value in named(found, rows)]
        return [dataclasses.replace(one, values=one.values.copy()) for one in outputs]


def _other(found: Any, rows: int) -> str:
    """What was returned instead of answers in words."""
    shape = quantity(len(found), "answer") if isinstance(found, list | tuple) else type(found).__name__
    return (
        f"expected for each of {rows} samples the predicted class with a confidence, as when it was recorded; found "
        f"{shape}"
    )


def _joined(values: Sequence[Any]) -> Any:
    """Answers to one sample each as those to all: arrays are stacked, also where a dictionary or a tuple holds them."""
    if said_by(values, len(values)) is not None:
        return values
    first = values[0] if values else None
    if isinstance(first, Mapping):
        return {key: _stacked([value[key] for value in values]) for key in first}
    if isinstance(first, tuple) and any(getattr(part, "shape", ()) for part in first):
        return tuple(_stacked([value[i] for value in values]) for i in range(len(first)))
    return _stacked(values)


def _stacked(values: Sequence[Any]) -> Any:
    """Arrays (C,), (1, C) or of no dimensions as one (n, C) or (n,)."""
    arrays = [as_array(value) for value in values]
    return np.stack([one[0] if one.ndim > 1 and len(one) == 1 else one for one in arrays])
