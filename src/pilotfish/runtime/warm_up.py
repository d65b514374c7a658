"""Runs every stage of a cascade once at each batch size, so that no request waits for one-time work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from pilotfish.errors import ModelError, PilotfishError, reason
from pilotfish.models import Model
from pilotfish.models.model import Carry
from pilotfish.models.preprocessing import WHOLE
from pilotfish.runtime.cascade import Cascade
from pilotfish.runtime.stage import EngineStage, join, run_stage, take

SIDE = 256  # pixels of the grey image for stages that take any size


def warm_up(cascade: Cascade, tell: Callable[[str, int], None] = lambda stage, n: None) -> list[str]:
    """Run every stage at batch sizes 1, 2, 4, … up to its own, in the ways that the engine runs it.

    tell  called with (name of the stage, batch size) before each call

    Returns a note for each stage that could not be warmed up: one whose input shape is not known, or whose own code
    rejects a grey image. ModelError for a stage of any other kind that cannot be run.
    """
    notes: list[str] = []
    in_force = cascade.artefact.in_force
    carry: Carry | None = None
    for k, (stage, model) in enumerate(zip(cascade.engine_stages(), cascade.models, strict=True)):
        own, carry = carry, None
        try:
            for n in _sizes(stage.batch_size):
                tell(stage.name, n)
                for each in _ways(stage, n):
                    inputs = None if stage.shares else _inputs(model, n)
                    given: Carry | None = None if own is None else join([take(own, np.zeros(n, np.intp))])
                    _, carry = run_stage(each, inputs, given, in_force.keep(k), in_force.task)
        except (PilotfishError, ValueError) as error:
            if model.preprocessing.kind == "image" and isinstance(error, ModelError):
                raise
            notes.append(f"{stage.name} was not run before the first request: {reason(error)}")
            return notes
    return notes


def _sizes(largest: int) -> list[int]:
    return sorted({largest, *(2**i for i in range(largest.bit_length()) if 2**i <= largest)})


def _ways(stage: EngineStage, n: int) -> Iterator[EngineStage]:
    yield stage
    if n == 1 and stage.alone is not None:
        yield replace(stage, backend=stage.alone)


def _inputs(model: Model, n: int) -> Any:
    """*n* grey images, or arrays of zeros, as the model takes them."""
    chain = model.preprocessing
    if chain.kind == "paths":
        raise ModelError(f"{model.spec} takes paths of files")
    if chain.kind in ("tensor", *WHOLE) and model.input_shape is not None:
        one = chain(np.zeros(model.input_shape, np.float32))
    elif chain.kind == "tensor":
        raise ModelError(f"the shape of an input of {model.spec} is not known")
    else:
        height, width = chain.size or (SIDE, SIDE)
        one = chain(np.full((height, width, 3), 128, np.uint8))
    return np.stack([one] * n)
