"""Models over data → records."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.metadata
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilotfish.data import Dataset, open_data, refuse_trained_on
from pilotfish.data.folder import LABELS_FILE
from pilotfish.errors import ModelError, RecordsError
from pilotfish.models import Model
from pilotfish.models.augmentation import RECIPE
from pilotfish.models.machine import device_name
from pilotfish.models.reading import reading_of
from pilotfish.models.spec import file_of, parse_spec
from pilotfish.recording.groups import data_groups, data_notes
from pilotfish.recording.labels import Matched, classes_of, match_labels
from pilotfish.recording.options import Progress, RecordOptions, RecordResult, check_options
from pilotfish.recording.parts import Parts
from pilotfish.recording.planned import device_kind, identity_of, measured_times, planned, timing_facts
from pilotfish.recording.read_before import load_to_record
from pilotfish.recording.run_parts import record_parts
from pilotfish.records import RecordsMeta, Run, judge_records
from pilotfish.records.groups import now_read
from pilotfish.records.outputs import I64
from pilotfish.records.parquet import PLANNING_COLUMNS, read_meta
from pilotfish.records.records import string_ids
from pilotfish.records.run import PARTS_SUFFIX


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

    An interrupted recording goes on from its last finished part when the same call is made again. Records that are
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
            load_to_record(name, written, samples, target, settings),
            target,
            written,
            settings,
            progress,
        )
        for whole in names
        for name, written in _exits(whole, alias or whole)
    ]


def _exits(name: str, alias: str) -> list[tuple[str, str]]:
    """(model, name of its records): a network with exits is recorded exit by exit, as NAME#1 … NAME#K."""
    if not name.startswith("exits:") or re.search(r"#\d+$", name):
        return [(name, alias)]
    from pilotfish.models.exits.load import exit_names

    exits = exit_names(name)
    return [(one, f"{alias}#{k}" if len(exits) > 1 else alias) for k, one in enumerate(exits, 1)]


def record_model(
    data: Dataset, model: Model, run: Run, name: str, options: RecordOptions, progress: Progress | None = None
) -> RecordResult:
    """Record one loaded model under *name*."""
    path = run.file(name, options.split)
    matched = match_labels(data, classes_of(model))
    identity = identity_of(data, model, options)
    group = None if options.group_by is None else data_groups(data, options.group_by)
    parts = Parts(path.with_suffix(PARTS_SUFFIX))
    if path.is_file() and not options.overwrite:
        found = _existing(path, identity, run, name, data, model, matched, options)
        _remove_leftovers(parts, identity)
        return found
    with parts.locked():
        plan = planned(parts, identity, data, model, matched.labels, options)
        started, begun = parts.done(), time.perf_counter()
        if started > len(data):
            raise RecordsError(
                f"{parts.folder} holds parts of {started:,} samples, the data have {len(data):,}; delete the folder "
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
        notes=(*written.notes, *_on_labels(run, name, options.split, data)),
    )


def _existing(
    path: Path,
    identity: dict[str, Any],
    run: Run,
    name: str,
    data: Dataset,
    model: Model,
    matched: Matched,
    options: RecordOptions,
) -> RecordResult:
    """The records that are there already; costs that were not known yet are added, times on another device and groups
    too."""
    meta = read_meta(path)
    found = {
        "weights": meta.weights_hash,
        "preprocessing": meta.preprocessing_hash,
        "data": meta.data.get("fingerprint"),
        "augment": meta.data.get("augment"),
        "store": meta.store,
        "outputs": reading_of(meta.spec).identity,
    }
    if options.store is None:  # whatever was kept will do
        found["store"] = identity["store"]
    if differ := [key for key, value in identity.items() if found[key] != value]:
        raise RecordsError(
            f"{path} holds records of other {', '.join(differ)}; replace them with --overwrite, or choose another "
            "name (--as), split or run"
        )
    times, timing = _new_times(meta, data, model, options)
    costs = {**meta.costs, **times, **options.costs}
    if costs != dict(meta.costs) or options.group_by is not None:
        everything = run.read(name, options.split, (*PLANNING_COLUMNS, "logits"))
        meta = dataclasses.replace(everything.meta, costs=costs, timing=timing)
        group = everything.group
        if options.group_by is not None:
            named = data_groups(data, options.group_by)
            group = None if named is None else string_ids([named[one] for one in everything.ids.to_pylist()])
            meta = dataclasses.replace(meta, notes=now_read(meta.notes, LABELS_FILE, str(options.group_by)))
        run.write(dataclasses.replace(everything, meta=meta, group=group))
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
        notes=(
            *meta.notes,
            *(_of_another_machine(meta, options.device) if options.timing else ()),
            *_on_labels(run, name, options.split, data, matched.labels),
        ),
    )


def _on_labels(run: Run, name: str, split: str, data: Dataset, expected: I64 | None = None) -> tuple[str, ...]:
    """Notes on finished records: accuracy no better than chance, and labels that are not those *expected* now."""
    found = run.read(name, split, ("id", "label", "prediction"))
    verdict = judge_records(found)
    said = [] if verdict.note is None else [verdict.note]
    if expected is not None:
        place = {key: i for i, key in enumerate(data.ids)}
        rows = [place.get(key, -1) for key in found.ids.to_pylist()]
        others = int((expected[rows] != found.label).sum())
        if others:
            said.append(
                f"{others:,} labels of these records are not those that {data.spec} has for this model now; replace "
                "the records with --overwrite"
            )
    return tuple(said)


def _new_times(
    meta: RecordsMeta, data: Dataset, model: Model, options: RecordOptions
) -> tuple[dict[str, float], dict[str, Any]]:
    """Time per sample on a device that the records know no times of, and how all their times were measured."""
    kind, timing = device_kind(options.device), dict(meta.timing)
    if not options.timing or any(key.startswith(f"ms@{kind}") for key in meta.costs):
        return {}, timing
    times = measured_times(data, model, options)
    if times is None:
        return {}, timing
    facts = timing_facts(model, options, times)
    if timing.get("device"):
        timing["also"] = {**timing.get("also", {}), kind: facts}
    else:
        timing |= facts
    return {"ms": times.throughput, **times.costs(kind), **meta.costs}, timing


def _of_another_machine(meta: RecordsMeta, device: str) -> list[str]:
    """A note where the times in the records are of another machine than this one."""
    kind, timing = device_kind(device), meta.timing
    if device_kind(str(timing.get("device", ""))) != kind:
        timing = timing.get("also", {}).get(kind, {})
    measured = timing.get("machine")
    if measured is None or measured == device_name(device):
        return []
    return [f"its times are of {measured}, and this is {device_name(device)}; --overwrite records and times it here"]


def _remove_leftovers(parts: Parts, identity: dict[str, Any]) -> None:
    """Remove the parts of records that are finished: a recording was killed between its last two steps."""
    if parts.folder.is_dir():
        with contextlib.suppress(RecordsError), parts.locked():  # locked: another process is replacing the records
            plan = parts.plan()
            if plan is None or plan.get("identity") == identity:
                parts.remove()


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
        },
        timing={**plan["timing"], "notes": plan["cost_notes"]},
        versions=library_versions(),
        failures=parts.failures(),
        store=options.store or "auto",
        backbone=None if model.exit_of is None else name.rpartition("#")[0] or name,
        position=None if model.exit_of is None else model.exit_of.position,
        file=_file(model.spec),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        notes=(*data_notes(data, options.group_by), *model.notes, *matched.notes, *plan["cost_notes"], *plan["notes"]),
    )


def _file(spec: str) -> str | None:
    """Where the model's file lies now: a relative name says nothing in another folder."""
    with contextlib.suppress(ModelError, OSError):  # a model of the user's own making may be called anything
        name = file_of(parse_spec(spec))
        return None if name is None or not Path(name).is_file() else str(Path(name).resolve())
    return None


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that shape a prediction, as installed."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in ("pilotfish", "numpy", "pillow", "torch", "torchvision", "timm", "onnxruntime"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _nothing_read(parts: Parts, data: Dataset) -> str:
    reasons = parts.failures()
    first = f": {reasons[0].id}: {reasons[0].reason}" if reasons else ""
    return f"none of the {len(data)} samples of {data.spec} could be read{first}"
