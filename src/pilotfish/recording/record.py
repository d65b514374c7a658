"""Models over data → records."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.data import Dataset, load_data
from pilotfish.errors import PilotfishError, RecordsError, UnreadableSample, UsageError
from pilotfish.models import Model, load_model
from pilotfish.models.augmentation import RECIPE
from pilotfish.models.model import check_logits
from pilotfish.models.timing import time_batches
from pilotfish.recording.labels import model_labels
from pilotfish.recording.loader import Batch, batches
from pilotfish.recording.parts import Parts
from pilotfish.records import Failure, Outputs, Records, RecordsMeta, Run, from_logits
from pilotfish.records.outputs import I64, bad_rows
from pilotfish.records.parquet import read_meta
from pilotfish.records.records import string_ids
from pilotfish.records.run import PARTS_SUFFIX

PART_ROWS = 4096
PART_BYTES = 2**26
PART_SECONDS = 10.0
FULL_UP_TO = 128
DEFAULT_TOP_K = 10
DEFAULT_BATCH = 32
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RecordResult:
    """What one recording came to.

    n        rows; failures are the samples without one
    started  the sample it went on from: 0, or more after an interruption
    skipped  whether these very records were there already
    rate     samples per second of this start
    """

    run: str
    model: str
    split: str
    n: int
    cost: dict[str, float]
    path: Path
    failures: tuple[Failure, ...] = ()
    started: int = 0
    skipped: bool = False
    rate: float | None = None

    def to_json(self) -> dict[str, Any]:
        """One entry of ``pilotfish record --json``."""
        return {
            "run": self.run,
            "model": self.model,
            "split": self.split,
            "n": self.n,
            "cost": self.cost,
            "path": str(self.path),
            "failures": [{"id": f.id, "reason": f.reason} for f in self.failures],
            "started": self.started,
            "skipped": self.skipped,
            "samples_per_second": self.rate,
        }


@dataclass(frozen=True)
class RecordOptions:
    """How to record.

    batch_size  None: the fastest that was measured
    workers     threads that read samples; None: as many as cores
    store       ``full`` keeps all logits, ``topK`` the K best; None: full up to 128 classes, top10 above
    augment     seed of the augmented views; None records the images as they are
    timing      measure time per sample at several batch sizes first
    overwrite   replace records of other weights, data or settings
    """

    split: str = "val"
    batch_size: int | None = None
    device: str = "cpu"
    workers: int | None = None
    store: str | None = None
    augment: int | None = None
    timing: bool = True
    overwrite: bool = False


def record(
    data: str | Dataset,
    models: Sequence[str] | str,
    run: str | Path | Run,
    *,
    alias: str | None = None,
    options: RecordOptions | None = None,
    progress: Progress | None = None,
) -> list[RecordResult]:
    """Record what *models* say about *data* into the folder *run*, one model after the other.

    alias     a name for the records instead of the model's; for one model only
    progress  called with (model, samples done, samples in all)

    An interrupted recording goes on from its last finished part when the same call is made again. Records that are
    already complete are left alone. A sample that cannot be read costs its own row and is named in ``failures``.
    """
    names = [models] if isinstance(models, str) else list(models)
    settings = options or RecordOptions()
    _check(settings, names, alias)
    samples = load_data(data) if isinstance(data, str) else data
    target = run if isinstance(run, Run) else Run(Path(run))
    return [
        record_model(samples, load_model(name, settings.device), target, alias or name, settings, progress)
        for name in names
    ]


def record_model(
    data: Dataset, model: Model, run: Run, name: str, options: RecordOptions, progress: Progress | None = None
) -> RecordResult:
    """Record one loaded model under *name*."""
    path = run.file(name, options.split)
    identity = _identity(data, model, options)
    if path.is_file() and not options.overwrite:
        return _existing(path, identity, run, name, options)
    labels = model_labels(data, model)
    parts = Parts(path.with_suffix(PARTS_SUFFIX))
    with parts.locked():
        plan = _planned(parts, identity, data, model, options)
        started, begun = parts.done(), time.perf_counter()
        tell = progress or (lambda *_: None)
        tell(name, started, len(data))
        for end in _record_parts(data, model, labels, parts, plan, options):
            tell(name, end, len(data))
        seconds = time.perf_counter() - begun
        if not parts.rows():
            raise RecordsError(_nothing_read(parts, data))
        meta = _meta(data, model, name, options, plan, parts)
        parts.join(path, meta)
    written = read_meta(path)
    return RecordResult(
        run=str(run.path),
        model=name,
        split=options.split,
        n=len(data) - len(written.failures),
        cost=dict(written.costs),
        path=path,
        failures=written.failures,
        started=started,
        rate=(len(data) - started) / seconds if seconds > 0 else None,
    )


def _record_parts(
    data: Dataset, model: Model, labels: I64, parts: Parts, plan: dict[str, Any], options: RecordOptions
) -> Iterator[int]:
    """Run the model from the last finished part on; yields the number of samples done after each batch."""
    batch_size, start = int(plan["batch_size"]), parts.done()
    workers = options.workers or default_workers()
    pending = _Pending(start)
    for batch in batches(data, model.preprocessing, start, batch_size, workers, options.augment):
        outputs, kept, failures = _judge(model, batch, plan["store"], data)
        end = min(pending.end + batch_size, len(data))
        pending.add(end, outputs, kept, failures)
        if pending.full:
            pending = pending.flush(parts, data, labels)
        yield end
    if pending.end > pending.start:
        pending.flush(parts, data, labels)


class _Pending:
    """Samples from *start* to *end* - 1 that were judged and not yet written."""

    def __init__(self, start: int) -> None:
        self.start = self.end = start
        self.since = time.perf_counter()
        self.outputs: list[Outputs] = []
        self.kept: list[Any] = []
        self.failures: list[Failure] = []

    def add(self, end: int, outputs: Outputs | None, kept: Any, failures: Sequence[Failure]) -> None:
        self.end = end
        self.failures += failures
        if outputs is not None:
            self.outputs.append(outputs)
            self.kept.append(kept)

    @property
    def full(self) -> bool:
        """Whether it is time to write: enough rows, enough bytes, or long enough ago that a crash would hurt."""
        rows = sum(len(kept) for kept in self.kept)
        size = sum(o.logits.nbytes for o in self.outputs if o.logits is not None)
        return rows >= PART_ROWS or size >= PART_BYTES or time.perf_counter() - self.since > PART_SECONDS

    def flush(self, parts: Parts, data: Dataset, labels: I64) -> _Pending:
        """Write what there is as one part, and begin the next."""
        records = None
        if self.outputs:
            rows = np.concatenate(self.kept)
            ids = string_ids([data.ids[row] for row in rows.tolist()])
            records = Records(ids, labels[rows], _concatenate(self.outputs), RecordsMeta("part", "part"))
        parts.write(self.start, self.end, records, self.failures)
        return _Pending(self.end)


def _judge(model: Model, batch: Batch, store: str, data: Dataset) -> tuple[Outputs | None, Any, list[Failure]]:
    failures = list(batch.failures)
    if not len(batch.rows):
        return None, batch.rows, failures
    logits = check_logits(model.backend.run(batch.inputs), len(batch.rows), model.spec)
    rows = batch.rows
    if len(bad := bad_rows(logits)):
        failures += [Failure(data.ids[int(rows[i])], "the model's outputs are not finite") for i in bad]
        keep = np.setdiff1d(np.arange(len(rows)), bad)
        logits, rows = logits[keep], rows[keep]
        if not len(rows):
            return None, rows, failures
    keep_all, top_k = _resolve_store(store, logits.shape[1])
    return from_logits(logits, top_k=top_k, keep_all=keep_all), rows, failures


def _concatenate(outputs: Sequence[Outputs]) -> Outputs:
    columns: dict[str, Any] = {}
    for name in Outputs.__dataclass_fields__:
        values = [getattr(o, name) for o in outputs]
        columns[name] = None if values[0] is None else np.concatenate(values)
    return Outputs(**columns)


def _planned(
    parts: Parts, identity: dict[str, Any], data: Dataset, model: Model, options: RecordOptions
) -> dict[str, Any]:
    """The plan of an earlier start, when it is of this very recording, or a new one."""
    plan = parts.plan()
    if plan is None:
        plan = {"identity": identity, "store": options.store or "auto", **_measured(data, model, options)}
        parts.write_plan(plan)
        return plan
    if differ := [key for key, value in identity.items() if plan["identity"].get(key) != value]:
        raise RecordsError(
            f"{parts.folder} holds an unfinished recording of other {', '.join(differ)}; finish it with the command "
            "that began it, delete the folder, or record under another name (--as)"
        )
    if options.batch_size is not None and options.batch_size != plan["batch_size"]:
        raise RecordsError(
            f"{parts.folder} was begun with --batch-size {plan['batch_size']}; go on with that, or delete the folder"
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
    batch_size = options.batch_size or DEFAULT_BATCH
    if options.timing and (shape := model.input_shape or _sample_shape(data, model)):
        measured = time_batches(model.backend, shape)
        device = re.sub(r":.*", "", options.device)
        costs |= measured.costs(device)
        batch_size = options.batch_size or measured.best
        timing = {"backend": model.backend.name, "device": options.device, "best_batch_size": measured.best}
        timing |= {"cores": default_workers(), "unit": "milliseconds per sample"}
    return {"batch_size": batch_size, "costs": costs, "timing": timing, "cost_notes": notes}


def _sample_shape(data: Dataset, model: Model) -> tuple[int, ...] | None:
    for row in range(min(len(data), 20)):
        try:
            return model.preprocessing(data.read(row)).shape
        except UnreadableSample:
            continue
    return None


def _identity(data: Dataset, model: Model, options: RecordOptions) -> dict[str, Any]:
    return {
        "weights": model.weights_hash,
        "preprocessing": model.preprocessing.hash,
        "data": data.fingerprint,
        "augment": options.augment,
        "store": options.store or "auto",
    }


def _existing(path: Path, identity: dict[str, Any], run: Run, name: str, options: RecordOptions) -> RecordResult:
    meta = read_meta(path)
    found = {
        "weights": meta.weights_hash,
        "preprocessing": meta.preprocessing_hash,
        "data": meta.data.get("fingerprint"),
        "augment": meta.data.get("augment"),
        "store": meta.store,
    }
    if differ := [key for key, value in identity.items() if found[key] != value]:
        raise RecordsError(
            f"{path} holds records of other {', '.join(differ)}; replace them with --overwrite, or choose another "
            "name (--as), split or run"
        )
    rows = int(meta.data.get("n", 0)) - len(meta.failures)
    return RecordResult(
        run=str(run.path),
        model=name,
        split=options.split,
        n=rows,
        cost=dict(meta.costs),
        path=path,
        failures=meta.failures,
        started=int(meta.data.get("n", 0)),
        skipped=True,
    )


def _meta(
    data: Dataset, model: Model, name: str, options: RecordOptions, plan: dict[str, Any], parts: Parts
) -> RecordsMeta:
    names = model.class_names or data.class_names
    return RecordsMeta(
        model=name,
        split=options.split,
        spec=model.spec,
        n_classes=model.n_classes or (len(names) if names else None),
        class_names=names if names and (model.n_classes in (None, len(names))) else None,
        costs=plan["costs"],
        weights_hash=model.weights_hash,
        preprocessing=model.preprocessing.to_json(),
        preprocessing_hash=model.preprocessing.hash,
        data={
            "spec": data.spec,
            "fingerprint": data.fingerprint,
            "n": len(data),
            "augment": options.augment,
            "augment_recipe": None if options.augment is None else RECIPE,
            "batch_size": plan["batch_size"],
        },
        timing={**plan["timing"], "notes": plan["cost_notes"]},
        versions=library_versions(),
        failures=parts.failures(),
        store=options.store or "auto",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape a prediction, as installed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in ("pilotfish", "numpy", "pillow", "torch", "torchvision", "timm", "onnxruntime"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def default_workers() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def _resolve_store(store: str, n_classes: int) -> tuple[bool, int]:
    """(keep all logits, how many of the best to keep)."""
    if store == "auto":
        return n_classes <= FULL_UP_TO, min(DEFAULT_TOP_K, n_classes)
    if store == "full":
        return True, min(DEFAULT_TOP_K, n_classes)
    return False, min(int(store.removeprefix("top")), n_classes)


def _check(options: RecordOptions, names: Sequence[str], alias: str | None) -> None:
    if not names:
        raise UsageError("no model was named; see `pilotfish models`")
    if len(set(names)) != len(names):
        raise UsageError(f"a model is named twice: {', '.join(names)}")
    if alias is not None and len(names) > 1:
        raise UsageError(f"--as names one model's records, but {len(names)} models were given")
    if options.store is not None and not re.fullmatch(r"full|top[1-9]\d{0,4}", options.store):
        raise UsageError(f"store is full or topK, such as top5; found {options.store!r}")
    for what, value in (("batch size", options.batch_size), ("workers", options.workers)):
        if value is not None and not 1 <= value <= 65536:
            raise UsageError(f"{what} must be from 1 to 65536, found {value}")


def _nothing_read(parts: Parts, data: Dataset) -> str:
    reasons = parts.failures()
    first = f": {reasons[0].id}: {reasons[0].reason}" if reasons else ""
    return f"none of the {len(data)} samples of {data.spec} could be read{first}"
