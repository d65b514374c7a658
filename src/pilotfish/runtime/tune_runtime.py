"""``pilotfish tune-runtime``: the fastest way to run each stage on this device, measured and kept in the cascade."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.cascade import Artefact, Stage, load_artefact
from pilotfish.data import Dataset, open_data
from pilotfish.errors import MissingExtraError, ModelError, UsageError, nearest
from pilotfish.machine import describe_machine, device_name
from pilotfish.models import Model
from pilotfish.models.backends.backends import NAMES, offered
from pilotfish.models.model import BAND, F32, Backend
from pilotfish.models.onnx.onnx_export import softmax
from pilotfish.models.preprocessing import sample_inputs, stacked
from pilotfish.runtime.choice import StageRuntime, write_choices
from pilotfish.runtime.load_stage import check_code, load_stage
from pilotfish.runtime.measure import Measured, agreed, fastest
from pilotfish.runtime.shared import alone, linked, shares_with

Tell = Callable[[str, int, int], None]
Load = Callable[[Stage, str], Model]
NOT_ASKED = ("torch-compiled",)  # half a minute of compilation per batch size: only where it is named
PARTS = ("onnxruntime", "torch")  # what runs a part of a network
PROBES = 16


@dataclass(frozen=True)
class StageTuning:
    """stage: its name; chosen: how it is run from now on; measured: everything that was tried, fastest first; notes:
    requested backends that are not available, and why; differences: by backend, the largest difference of a probability
    from torch."""

    stage: str
    chosen: StageRuntime
    measured: tuple[Measured, ...]
    notes: tuple[str, ...] = ()
    differences: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class RuntimeTuning:
    """The outcome of :func:`tune_runtime`. device: its name; path: the file that keeps the choices."""

    device: str
    stages: tuple[StageTuning, ...]
    path: Path

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish tune-runtime --json``."""
        stages = [
            {
                "stage": stage.stage,
                **dataclasses.asdict(stage.chosen),
                "measured": [dataclasses.asdict(m) for m in stage.measured],
                "notes": list(stage.notes),
            }
            for stage in self.stages
        ]
        return {"device": self.device, "path": str(self.path), "stages": stages, "machine": describe_machine()}


def tune_runtime(
    cascade: str | Path,
    data: str | Dataset | None = None,
    *,
    device: str = "cpu",
    backends: Sequence[str] | None = None,
    seconds: float = 20.0,
    progress: Tell | None = None,
    allow_python: Collection[str] = (),
    known: Sequence[StageTuning] = (),
) -> RuntimeTuning:
    """Measure each stage of the cascade in folder *cascade* on *device* and keep the fastest way to run it there.

    data      samples whose inputs are used to compare the backends' answers; needed if a model does not state its input
              shape. Otherwise random numbers of that shape
    backends  names to try; by default all that give the same answers within rounding and need no compilation
    seconds   about how long each stage may take
    allow_python  as for :meth:`pilotfish.Cascade.load`
    known     earlier results on this device for stages that other cascades share: they are reused

    UsageError for an unknown backend, or when none of those named can run a stage.
    """
    if wrong := [name for name in backends or () if name not in NAMES]:
        raise UsageError(f"no backend {wrong[0]!r}; {nearest(wrong[0], NAMES)}")
    path, tell = Path(cascade), progress or (lambda *_: None)
    data = None if data is None else open_data(data)
    artefact = load_artefact(path)
    check_code(artefact.stages, allow_python)
    load: Load = lambda stage, backend: load_stage(stage, path, device, backend, allow_python)  # noqa: E731
    before = {one.stage: one for one in known}
    stages = tuple(
        before.get(stage.name) or _tuned(artefact, k, load, data, device, backends, seconds, tell)
        for k, stage in enumerate(artefact.stages)
    )
    stages = _agreed(stages, artefact.calibration.exit_ratio)
    facts = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "measured": [[dataclasses.asdict(m) for m in stage.measured] for stage in stages],
    }
    written = write_choices(path, artefact, device, [stage.chosen for stage in stages], facts)
    return RuntimeTuning(device_name(device), stages, written)


def _agreed(stages: Sequence[StageTuning], exit_ratio: Sequence[float]) -> tuple[StageTuning, ...]:
    """The stages, with ways to run that fit together."""
    reached = [1.0 - sum(exit_ratio[:k]) for k in range(len(stages))]
    chosen = agreed([stage.measured for stage in stages], reached)
    return tuple(
        dataclasses.replace(
            stage, chosen=dataclasses.replace(one, max_difference=stage.differences.get(str(one.backend)))
        )
        for stage, one in zip(stages, chosen, strict=True)
    )


def _tuned(
    artefact: Artefact,
    k: int,
    load: Load,
    data: Dataset | None,
    device: str,
    names: Sequence[str] | None,
    seconds: float,
    tell: Tell,
) -> StageTuning:
    stage = artefact.stages[k]
    plain = load(stage, "torch")
    if k and shares_with(load(artefact.stages[k - 1], "torch"), plain):
        return _tuned_part(artefact, k, load, data, device, names, seconds, tell)
    candidates = [name for name in offered(plain, device) if (name in names if names else name not in NOT_ASKED)]
    inputs = _inputs(plain, stage, data)
    said = plain.run(inputs)
    found: dict[str, Backend] = {}
    differences = {}
    notes = []
    for name in candidates:
        try:
            backend = load(stage, name).backend
            if backend.name != name:  # it was replaced by the default
                raise ModelError(f"{name} cannot run {stage.name}")
            differences[name] = _difference(backend.step(inputs)[0], said, artefact.task.classes)
            if (gap := differences[name]) is not None and gap > BAND:
                raise ModelError(
                    f"its answers differ by {gap:.2g} from those of the records' backend, and {BAND:g} is allowed; "
                    f"record it as a model of its own, with ?backend={name}"
                )
            found[name] = backend
        except (ModelError, MissingExtraError) as error:
            notes.append(f"{stage.name}: {name} left out: {error}")
    if not found:
        given = ", ".join(names or offered(plain, device))
        raise UsageError(f"none of the backends {given} can run {stage.name}; {'; '.join(notes) or 'name others'}")
    like = inputs if inputs.dtype == object else inputs.shape[1:]
    chosen, measured = fastest(
        found, like, device, seconds, lambda done, of: tell(f"timing {stage.name}", done, of), artefact.task
    )
    return StageTuning(stage.name, chosen, measured, tuple(notes), differences)


def _tuned_part(
    artefact: Artefact,
    k: int,
    load: Load,
    data: Dataset | None,
    device: str,
    names: Sequence[str] | None,
    seconds: float,
    tell: Tell,
) -> StageTuning:
    """A stage that continues from the features of the stage before it."""
    stage = artefact.stages[k]
    models = [load(one, "torch") for one in artefact.stages[: k + 1]]
    inputs = _inputs(models[k], stage, data)
    found: dict[str, Backend] = {}
    notes = []
    for name in PARTS if device == "cpu" else PARTS[-1:]:
        try:
            found[name] = alone(linked(models, [name] * (k + 1)), k, inputs)
        except (ModelError, MissingExtraError) as error:
            notes.append(f"{stage.name}: {name} left out: {error}")
    kept = {name: backend for name, backend in found.items() if not names or name in names}
    if not kept:
        raise UsageError(f"none of the backends {', '.join(names or PARTS)} can run {stage.name} from features")
    chosen, measured = fastest(kept, (1,), device, seconds, lambda done, of: tell(f"timing {stage.name}", done, of))
    rows = np.arange(len(inputs), dtype=np.float32)[:, None]
    said = found["torch"].step(rows)[0]
    differences = {name: _difference(backend.step(rows)[0], said) for name, backend in kept.items()}
    return StageTuning(stage.name, chosen, measured, tuple(notes), differences)


def _inputs(model: Model, stage: Stage, data: Dataset | None) -> F32:
    """Inputs of up to 16 samples; random ones without data."""
    readable = () if data is None else sample_inputs(data, model.preprocessing, range(len(data)))
    if found := [one for _, one in itertools.islice(readable, PROBES)]:
        return stacked(found)
    if model.input_shape is None:
        raise UsageError(f"{stage.name} does not state the shape of its inputs; give samples with --data")
    return np.random.default_rng(0).standard_normal((PROBES, *model.input_shape), dtype=np.float32)


def _difference(a: Any, b: Any, classes: bool = True) -> float | None:
    """The largest difference of a probability; for outputs that are not classes, of an output as a share of the
    largest; for boxes, of their scores, infinite if one has more boxes. None for anything else."""
    if isinstance(a, list) and isinstance(b, list):
        pairs = [(np.sort(x["scores"]), np.sort(y["scores"])) for x, y in zip(a, b, strict=True)]
        return max(
            (float(np.abs(x - y).max(initial=0.0)) if len(x) == len(y) else math.inf for x, y in pairs), default=0.0
        )
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape):
        return None
    if classes:
        return float(np.abs(softmax(a) - softmax(b)).max())
    return float(np.abs(a - b).max(initial=0.0) / max(1.0, np.abs(b).max(initial=0.0)))
