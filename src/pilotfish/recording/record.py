"""Models over data → records."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.metadata
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilotfish.data import Dataset, open_data, refuse_trained_on
from pilotfish.errors import ModelError, RecordsError
from pilotfish.models import Model
from pilotfish.models.augmentation import RECIPE
from pilotfish.models.names.spec import file_of, parse_spec
from pilotfish.recording.finished import (
    data_groups,
    data_notes,
    finished_records,
    notes_on_labels,
    remove_leftovers,
    ungrouped,
)
from pilotfish.recording.labels import Matched
from pilotfish.recording.options import Progress, RecordOptions, RecordResult, check_options
from pilotfish.recording.parts import Parts
from pilotfish.recording.placed_truth import truth_for
from pilotfish.recording.planned import identity_of, load_to_record, planned, task_of, with_task
from pilotfish.recording.run_parts import record_parts
from pilotfish.recording.time_samples import SECONDS, SHARE, time_samples
from pilotfish.records import RecordsMeta, Run
from pilotfish.records.parquet import read_meta
from pilotfish.records.run import PARTS_SUFFIX
from pilotfish.text import quantity


def record(
    data: str | Dataset,
    models: Sequence[str] | str,
    run: str | Path | Run,
    *,
    alias: str | None = None,
    options: RecordOptions | None = None,
    progress: Progress | None = None,
    trained_on: str | Dataset | None = None,
) -> list[RecordResult]:
    """Record what *models* say about *data* into the folder *run*, one model after the other.

    alias     a name for the records instead of the model's; for one model only
    progress  called with (model, samples done, samples in all)
    trained_on  data that the models were trained on: DataError when samples of *data* are in it

    An interrupted recording resumes after its last finished part when the same call is made again. Records that are
    already complete are left alone. A sample that cannot be read costs its own row and is named in ``failures``.
    """
    names = [models] if isinstance(models, str) else list(models)
    settings = options or RecordOptions()
    check_options(settings, names, alias)
    samples = open_data(data)
    if trained_on is not None:
        refuse_trained_on(trained_on, samples)
    target = run if isinstance(run, Run) else Run(Path(run))
    return [
        record_model(
            samples,
            load_to_record(name, written, samples, target, asked),
            target,
            written,
            asked,
            progress,
        )
        for whole in names
        for name, written in _exits(whole, alias or whole)
        for asked in [with_task(name, samples, settings)]
    ]


def _exits(name: str, alias: str) -> list[tuple[str, str]]:
    """(model, name of its records): a network with exits is recorded exit by exit, as NAME#1 … NAME#K."""
    if not name.startswith("exits:"):
        return [(name, alias)]
    from pilotfish.models.exits.exit_model import exit_names

    exits = exit_names(name)
    return [(one, f"{alias}#{k}" if len(exits) > 1 else alias) for k, one in enumerate(exits, 1)]


def record_model(
    data: Dataset, model: Model, run: Run, name: str, options: RecordOptions, progress: Progress | None = None
) -> RecordResult:
    """Record one loaded model under *name*."""
    path = run.file(name, options.split)
    matched = truth_for(task_of(options), data, model)
    identity = identity_of(data, model, options)
    group = None if options.group_by is None else data_groups(data, options.group_by)
    parts = Parts(path.with_suffix(PARTS_SUFFIX))
    if path.is_file() and not options.overwrite:
        found = finished_records(path, identity, run, name, data, model, matched, options)
        remove_leftovers(parts, identity)
        return found
    with parts.locked():
        plan = planned(parts, identity, data, model, matched.labels, options)
        started, begun = parts.done(), time.perf_counter()
        if started > len(data):
            raise RecordsError(
                f"{parts.folder} holds parts of {quantity(started, 'sample')}, the data have "
                f"{len(data):,}; delete the folder "
                "and record again"
            )
        parts.remove_rows(beyond=started)  # behind a gap: they will be made again, perhaps cut otherwise
        tell = progress or (lambda *_: None)
        tell(name, started, len(data))
        for end in record_parts(data, model, matched.labels, parts, plan, options):
            tell(name, end, len(data))
        seconds = time.perf_counter() - begun
        if not parts.rows():
            raise RecordsError(_nothing_read(parts, data))
        meta = _meta(data, model, name, options, plan, parts, matched)
        if options.timing:
            single = time_samples(data, model, options.device, max(SECONDS, SHARE * seconds))
            meta = dataclasses.replace(meta, single_times=() if single is None else (single,))
        parts.join(path, meta, group)
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
        notes=(*written.notes, *notes_on_labels(run, name, options.split, data)),
    )


def _meta(
    data: Dataset, model: Model, name: str, options: RecordOptions, plan: dict[str, Any], parts: Parts, matched: Matched
) -> RecordsMeta:
    names = model.class_names or matched.class_names
    return RecordsMeta(
        model=name,
        split=options.split,
        spec=model.spec,
        n_classes=model.n_classes or (len(names) if names else None),
        class_names=names if names and (model.n_classes in (None, len(names))) else None,
        costs={**plan["costs"], **options.costs},
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
            **ungrouped(options.group_by),
        },
        timing={**plan["timing"], "notes": plan["cost_notes"]},
        versions=library_versions(),
        failures=parts.failures(),
        store=options.store or "auto",
        backbone=None if model.exit_of is None else name.rpartition("#")[0] or name,
        position=None if model.exit_of is None else model.exit_of.position,
        file=_file(model.spec),
        task=task_of(options).name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        notes=(*data_notes(data, options.group_by), *model.notes, *matched.notes, *plan["cost_notes"], *plan["notes"]),
    )


def _file(spec: str) -> str | None:
    """Where the model's file lies now: a relative name says nothing in another folder."""
    with contextlib.suppress(ModelError, OSError):  # a model of the user's own making may be called anything
        name = file_of(parse_spec(spec))
        return None if name is None or not Path(name).exists() else str(Path(name).resolve())
    return None


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape a prediction, as installed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in ("pilotfish", "numpy", "pillow", "torch", "torchvision", "timm", "transformers", "onnxruntime"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _nothing_read(parts: Parts, data: Dataset) -> str:
    reasons = parts.failures()
    first = f": {reasons[0].id}: {reasons[0].reason}" if reasons else ""
    return f"none of the {quantity(len(data), 'sample')} of {data.spec} could be read{first}"
