"""Times of several models of a run, taken in turn, so that a noisy machine harms them alike."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pilotfish.data import Dataset
from pilotfish.errors import MissingExtraError, ModelError
from pilotfish.machine import device_name
from pilotfish.models import Model, load_model
from pilotfish.models.backends.backends import offered
from pilotfish.models.costs.timing import Timing
from pilotfish.models.model import BAND
from pilotfish.models.onnx.onnx_export import softmax
from pilotfish.models.preprocessing import WHOLE, sample_inputs, stacked
from pilotfish.recording.options import Progress, RecordOptions
from pilotfish.recording.planned import device_kind, measured_times, task_of, timing_facts
from pilotfish.records import RecordsMeta, Run
from pilotfish.records.parquet import read_meta, record_columns

FIRST, AGAIN = 1.0, 0.4  # seconds for a model in the first round, and in each of the others
ROUNDS = 3
PROBES = 16
FAR = 1.25  # a backend that takes longer than the best by more in the first round is not timed again
FASTEST = ("onnxruntime", "openvino")  # on a CPU one of these is, where they can be had
HELD_PARAMS = 5e8  # of all models: they stay in memory between rounds
TOGETHER = "together"


def time_side_by_side(
    run: Run, names: Sequence[str], data: Dataset, options: RecordOptions, progress: Progress | None = None
) -> None:
    """Put times into the records of *names* that were taken in turn, each of the backend that runs the model fastest:
    near enough to choose by, and no nearer.

    Nothing where all of them have such times of one call on this machine. A model that takes samples whole is left
    alone.
    """
    found = {name: read_meta(run.file(name, options.split)) for name in names}
    metas = {name: meta for name, meta in found.items() if _can_be_timed(meta)}
    if _were([meta.timing for meta in metas.values()], options.device):
        return
    held = sum(meta.costs.get("params", 0.0) for meta in metas.values()) <= HELD_PARAMS
    loaded: dict[str, list[Model]] = {}
    least: dict[str, dict[str, Timing]] = {name: {} for name in metas}
    facts: dict[tuple[str, str], dict[str, object]] = {}
    for turn in range(ROUNDS):
        for done, (name, meta) in enumerate(metas.items()):
            if progress is not None:
                progress("timing side by side", turn * len(metas) + done, ROUNDS * len(metas))
            times = least[name]
            best = min((one.throughput for one in times.values()), default=0.0)
            close = [key for key, one in times.items() if one.throughput <= FAR * best]
            if turn == 0:
                models = _run_by(meta, data, options.device)
            elif held:
                models = [model for model in loaded[name] if model.backend.name in close]
            else:
                models = [load_model(str(meta.spec), options.device, backend=key) for key in close]
            loaded[name] = models if held else []
            for model in models:
                key = model.backend.name
                measured = measured_times(data, model, options, AGAIN if turn else FIRST, times.get(key))
                if measured is not None:
                    facts.setdefault((name, key), timing_facts(model, options, measured))
                    times[key] = _least(times.get(key), measured)
    if progress is not None and metas:
        progress("timing side by side", ROUNDS * len(metas), ROUNDS * len(metas))
    stamp = datetime.datetime.now(datetime.UTC).isoformat()
    for name, times in least.items():
        if times:
            backend = min(times, key=lambda key: times[key].throughput)
            _write(run, name, options, times[backend], {**facts[name, backend], TOGETHER: stamp})


def _can_be_timed(meta: RecordsMeta) -> bool:
    return meta.spec is not None and (meta.preprocessing or {}).get("kind") not in WHOLE


def _were(timed: Sequence[Mapping[str, Any]], device: str) -> bool:
    """Whether all have times of one call on this machine."""
    kind = device_kind(device)
    timings = [t if device_kind(str(t.get("device", ""))) == kind else t.get("also", {}).get(kind, {}) for t in timed]
    stamps = {(timing.get(TOGETHER), timing.get("machine")) for timing in timings}
    return len(stamps) <= 1 and all(stamp and machine == device_name(device) for stamp, machine in stamps)


def _run_by(meta: RecordsMeta, data: Dataset, device: str) -> list[Model]:
    """The model by each backend that may be the fastest, and says what the records' backend does."""
    model = load_model(str(meta.spec), device)
    found = [model]
    inputs = [one for _, one in itertools.islice(sample_inputs(data, model.preprocessing, range(len(data))), PROBES)]
    for name in offered(model, device):
        if name not in FASTEST or name == model.backend.name or not inputs:
            continue
        try:
            other = load_model(str(meta.spec), device, backend=name)
            said, there = (softmax(one.run(stacked(inputs))) for one in (model, other))
        except (ModelError, MissingExtraError):
            continue  # tune-runtime says why
        if np.abs(said - there).max() <= BAND:
            found.append(other)
    return found


def _least(one: Timing | None, other: Timing) -> Timing:
    if one is None:
        return other
    sizes = {size: min(ms, one.ms.get(size, ms)) for size, ms in other.ms.items()}
    return Timing({**one.ms, **sizes}, min(one.throughput, other.throughput), one.lanes or other.lanes)


def _write(run: Run, name: str, options: RecordOptions, times: Timing, timing: dict[str, object]) -> None:
    kind = device_kind(options.device)
    everything = run.read(name, options.split, record_columns(task_of(options), everything=True))
    meta, costs = everything.meta, times.costs(kind)
    others = {key: cost for key, cost in meta.costs.items() if not key.startswith(f"ms@{kind}")}
    if device_kind(str(meta.timing.get("device", kind))) != kind:  # ms is of the device that came first
        timing = {**meta.timing, "also": {**meta.timing.get("also", {}), kind: timing}}
        costs["ms"] = meta.costs["ms"]
    run.write(dataclasses.replace(everything, meta=dataclasses.replace(meta, costs=others | costs, timing=timing)))
