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
from pilotfish.models.preprocessing import sample_inputs, stacked
from pilotfish.recording.options import Progress, RecordOptions
from pilotfish.recording.planned import device_kind, measured_times, timing_facts
from pilotfish.records import RecordsMeta, Run
from pilotfish.records.parquet import read_meta, record_columns
from pilotfish.tasks import find_task

ROUNDS, SECONDS = 3, 1.5
PROBES = 16
FAR = 1.25  # a backend that takes longer than the best by more in the first round is not timed again
FASTEST = ("onnxruntime", "openvino")  # on a CPU one of these is, where they can be had
TOGETHER = "together"


def time_side_by_side(
    run: Run, names: Sequence[str], data: Dataset, options: RecordOptions, progress: Progress | None = None
) -> None:
    """Put times into the records of *names* that were taken in turn, each of the backend that runs the model fastest.

    Nothing where all of them have such times of one call on this machine. A model without times is left alone.
    """
    kind = device_kind(options.device)
    found = {name: read_meta(run.file(name, options.split)) for name in names}
    metas = {name: meta for name, meta in found.items() if f"ms@{kind}" in meta.costs and meta.spec is not None}
    if _were([meta.timing for meta in metas.values()], options.device):
        return
    least: dict[str, dict[str, Timing]] = {name: {} for name in metas}
    facts = {}
    for turn in range(ROUNDS):
        for done, (name, meta) in enumerate(metas.items()):
            if progress is not None:
                progress("timing side by side", turn * len(metas) + done, ROUNDS * len(metas))
            times = least[name]
            best = min((one.throughput for one in times.values()), default=0.0)
            close: list[str | None] = [key for key, one in times.items() if one.throughput <= FAR * best]
            for backend in close or (None,):
                for model in _run_by(meta, data, options.device, backend):
                    measured = measured_times(data, model, options, SECONDS)
                    if measured is not None:
                        times[model.backend.name] = _least(times.get(model.backend.name), measured)
                        facts[name, model.backend.name] = timing_facts(model, options, measured)
    if progress is not None and metas:
        progress("timing side by side", ROUNDS * len(metas), ROUNDS * len(metas))
    stamp = datetime.datetime.now(datetime.UTC).isoformat()
    for name, times in least.items():
        if times:
            backend = min(times, key=lambda key: times[key].throughput)
            _write(run, name, options, times[backend], {**facts[name, backend], TOGETHER: stamp})


def _were(timed: Sequence[Mapping[str, Any]], device: str) -> bool:
    """Whether all have times of one call on this machine."""
    kind = device_kind(device)
    timings = [t if device_kind(str(t.get("device", ""))) == kind else t.get("also", {}).get(kind, {}) for t in timed]
    stamps = {(timing.get(TOGETHER), timing.get("machine")) for timing in timings}
    return len(stamps) <= 1 and all(stamp and machine == device_name(device) for stamp, machine in stamps)


def _run_by(meta: RecordsMeta, data: Dataset, device: str, backend: str | None) -> list[Model]:
    """The model by *backend*; None: by each that may be the fastest, and says what the records' backend does."""
    if backend is not None:
        return [load_model(str(meta.spec), device, backend=backend)]
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
    return Timing({**one.ms, **sizes}, min(one.throughput, other.throughput))


def _write(run: Run, name: str, options: RecordOptions, times: Timing, timing: dict[str, object]) -> None:
    kind = device_kind(options.device)
    everything = run.read(name, options.split, record_columns(find_task(options.task), everything=True))
    meta, costs = everything.meta, times.costs(kind)
    others = {key: cost for key, cost in meta.costs.items() if not key.startswith(f"ms@{kind}")}
    if device_kind(str(meta.timing.get("device", kind))) != kind:  # ms is of the device that came first
        timing = {**meta.timing, "also": {**meta.timing.get("also", {}), kind: timing}}
        costs["ms"] = meta.costs["ms"]
    run.write(dataclasses.replace(everything, meta=dataclasses.replace(meta, costs=others | costs, timing=timing)))
