"""What is being recorded, and how: set down before the first sample, so that it can be resumed."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.data import Dataset
from pilotfish.errors import PilotfishError, RecordsError
from pilotfish.machine import cpu_count, device_name
from pilotfish.models import Model, load_model
from pilotfish.models.costs.timing import BATCH_SIZES, CUDA_BATCH_SIZES, Timing, time_batches
from pilotfish.models.model import F32, Backend
from pilotfish.models.names.spec import parse_spec, task_named
from pilotfish.models.outputs.raw_answers import EXPECTED, size_of_image
from pilotfish.models.outputs.reading import Reading, reading_of, with_classes
from pilotfish.models.outputs.settle import settle
from pilotfish.models.outputs.settle_task import settle_task
from pilotfish.models.preprocessing import WHOLE, sample_inputs
from pilotfish.recording.options import RecordOptions
from pilotfish.recording.parts import Parts
from pilotfish.recording.preprocessing_check import preprocessing_notes
from pilotfish.recording.repeat import repeat_notes
from pilotfish.records import Run
from pilotfish.records.parquet import read_meta
from pilotfish.records.run import PARTS_SUFFIX
from pilotfish.tasks import CLASSES, NO_LABEL, Task, find_task

DEFAULT_BATCH = 32
WHOLE_BATCH = 8  # of samples as large as they are
LOOKED_AT = 20  # samples, for the shape of an input


def planned(
    parts: Parts, identity: dict[str, Any], data: Dataset, model: Model, truth: Any, options: RecordOptions
) -> dict[str, Any]:
    """The plan of an earlier start, when it is of this very recording, or a new one.

    truth  (N,), as the task has it
    """
    task = task_of(options)
    plan = parts.plan()
    if plan is None:
        parts.remove_rows()  # of nobody's plan: a removal was cut off
        plan = {"identity": identity, "store": options.store or "auto", **_measured(data, model, options)}
        labels = truth if task.classes else np.full(len(data), NO_LABEL, np.int64)
        plan["notes"] = [*preprocessing_notes(data, model, labels), *repeat_notes(data, model, task)]
        plan["read"] = as_read(model)
        parts.write_plan(plan)
        return plan
    begun = {"outputs": "", "task": CLASSES.name, **plan["identity"]}  # an earlier version set down neither
    if differ := [key for key, value in identity.items() if begun.get(key) != value]:
        raise RecordsError(
            f"{parts.folder} holds an unfinished recording of other {', '.join(differ)}; finish it with the command "
            "that began it, delete the folder, or record under another name (--as)"
        )
    plan.setdefault("notes", [])  # an earlier version set down none
    if options.batch_size is not None and options.batch_size != plan["batch_size"]:
        raise RecordsError(
            f"{parts.folder} was begun with --batch-size {plan['batch_size']}; use that again, or delete the folder"
        )
    return plan


def _measured(data: Dataset, model: Model, options: RecordOptions) -> dict[str, Any]:
    """Costs that are known before the first sample, and the batch size."""
    try:
        counted = model.count()
        costs, notes = dict(counted.costs), list(counted.notes)
    except PilotfishError as error:
        costs, notes = {}, [str(error)]
    timing: dict[str, Any] = {}
    large = model.preprocessing.kind in WHOLE or model.preprocessing.own_size
    batch_size = options.batch_size or (WHOLE_BATCH if large else DEFAULT_BATCH)
    if options.timing and (measured := measured_times(data, model, options)) is not None:
        costs |= measured.costs(device_kind(options.device))
        batch_size = options.batch_size or measured.best
        timing = timing_facts(model, options, measured)
        notes += _of_size(data, model)
    return {"batch_size": batch_size, "costs": costs, "timing": timing, "cost_notes": notes}


def measured_times(
    data: Dataset, model: Model, options: RecordOptions, seconds: float = 4.0, before: Timing | None = None
) -> Timing | None:
    """Time per sample by scenario: a call of each batch size, and all cores at work, within about *seconds*. None when
    no input can be made of numbers.

    before  only single samples and what was fastest then are timed again
    """
    if model.preprocessing.kind in WHOLE:
        return None
    own_size, shape, like = model.preprocessing.own_size, model.input_shape, None
    if shape is None or own_size:
        found = _samples(data, model)
        if not found:
            return None
        one = found[len(found) // 2]
        shape, like = one.shape, one if own_size else None  # what a detector takes depends on what it finds
    if before is not None:
        fastest = sorted(before.lanes, key=before.lanes.__getitem__)[:1]
        return time_batches(model.backend, shape, sorted({1, before.best}), seconds, fastest, like)
    sizes = BATCH_SIZES if options.device == "cpu" else CUDA_BATCH_SIZES
    return time_batches(model.backend, shape, sizes, seconds, like=like)


def timing_facts(model: Model, options: RecordOptions, measured: Timing) -> dict[str, Any]:
    """How times were measured, so that times of another machine are not compared with them."""
    return {
        "backend": model.backend.name,
        "device": options.device,
        "best_batch_size": measured.best,
        "cores": cpu_count(),
        "unit": "milliseconds per sample",
        "machine": device_name(options.device),
        "threads": threads_of(model.backend),
        "batch_sizes": sorted(measured.ms),
    }


def threads_of(backend: Backend) -> int:
    """Cores of one call: torch's setting for a torch model, else all."""
    threads = getattr(sys.modules.get("torch"), "get_num_threads", cpu_count)
    return int(threads()) if backend.name.startswith("torch") else cpu_count()


def device_kind(device: str) -> str:
    """``cuda`` for ``cuda:1``: what costs are filed under."""
    return re.sub(r":.*", "", device)


def _samples(data: Dataset, model: Model) -> list[F32]:
    """The first input that can be read; of images at their own size some, by how many pixels they have."""
    inputs = sample_inputs(data, model.preprocessing, range(min(len(data), LOOKED_AT)))
    if not model.preprocessing.own_size:
        return [one for _, one in itertools.islice(inputs, 1)]
    return sorted((one for _, one in inputs), key=lambda one: one.size)


def _of_size(data: Dataset, model: Model) -> list[str]:
    """A note on what was timed, where images come in several sizes."""
    found = _samples(data, model) if model.preprocessing.own_size else []
    if len({one.shape for one in found}) < 2:
        return []
    high, wide = size_of_image(found[len(found) // 2]) or (0, 0)
    return [f"times are of an image of {high}x{wide} pixels, the middle one of {len(found)} samples of several sizes"]


def identity_of(data: Dataset, model: Model, options: RecordOptions) -> dict[str, Any]:
    """What two recordings must share to be one."""
    return {
        "weights": model.weights_hash,
        "preprocessing": model.preprocessing.hash,
        "data": data.fingerprint,
        "augment": options.augment,
        "store": options.store or "auto",
        "outputs": reading_of(model.spec).identity,
        "task": task_of(options).name,
    }


def with_task(name: str, data: Dataset, options: RecordOptions) -> RecordOptions:
    """*options* with the task that is recorded: as it was asked for, else as the data have it, else as the model's
    name, files or library say."""
    found = options.task
    if found is None and (found := getattr(data, "task", None)) in (None, CLASSES.name):
        found = task_named(name)
    return dataclasses.replace(options, task=found or CLASSES.name)


def task_of(options: RecordOptions) -> Task:
    """What an answer is."""
    return find_task(options.task or CLASSES.name)


def load_to_record(name: str, written: str, data: Dataset, run: Run, options: RecordOptions) -> Model:
    """The model *name*, read as an earlier start of the records *written* read it, else as some samples show."""
    if not task_of(options).classes:
        own = functools.partial(settle_task, data=data) if options.task in EXPECTED else None
        return load_model(name, options.device, settle=own, task=options.task)
    path = run.file(written, options.split)
    known = _known(name, path, options) if reading_of(name).is_plain else None
    if known is not None and reading_of(known["spec"]).takes is not None:  # it makes inputs as they were found then
        model = load_model(known.pop("spec"), options.device)
        return dataclasses.replace(with_classes(model, known["class_names"], known["n_classes"]), **known)

    def read(model: Model, stated: Reading) -> tuple[Model, Reading]:
        if known is None:
            return settle(model, stated, data)
        return dataclasses.replace(model, **{k: v for k, v in known.items() if k != "spec"}), reading_of(known["spec"])

    return load_model(name, options.device, settle=read)


def as_read(model: Model) -> dict[str, Any]:
    """What a plan keeps of a model that was read."""
    names = {key: getattr(model, key) for key in ("class_names", "class_ids")}
    return {"spec": model.spec, "n_classes": model.n_classes, "notes": list(model.notes), **names}


def _known(name: str, path: Path, options: RecordOptions) -> dict[str, Any] | None:
    """Of a plan, the model as it was read; of records of a callable, which may cost money, its spec.

    None where there is no such thing, or it is of another model.
    """
    found = (Parts(path.with_suffix(PARTS_SUFFIX)).plan() or {}).get("read")
    if isinstance(found, dict) and _is_of(found.get("spec"), name):
        lists = {key: _strings(found.get(key)) for key in ("class_names", "class_ids")}
        classes = found.get("n_classes")
        notes = _strings(found.get("notes")) or ()
        return {
            "spec": found["spec"],
            "n_classes": classes if isinstance(classes, int) else None,
            "notes": notes,
            **lists,
        }
    if parse_spec(name).kind == "python" and path.is_file() and not options.overwrite:
        meta = read_meta(path)
        named = {"n_classes": meta.n_classes, "class_names": meta.class_names}
        return {"spec": meta.spec, **named} if _is_of(meta.spec, name) else None
    return None


def _is_of(spec: Any, name: str) -> bool:
    """Whether *spec* is *name* with a reading."""
    return isinstance(spec, str) and spec == reading_of(spec).written(name)


def _strings(found: Any) -> tuple[str, ...] | None:
    return tuple(map(str, found)) if isinstance(found, list) else None
