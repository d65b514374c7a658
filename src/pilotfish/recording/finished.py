"""Records that are there already: whether they are those that were asked for, and what is added to them."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa

from pilotfish.data import Dataset, FolderDataset
from pilotfish.data.image_folder import labels_file
from pilotfish.data.subset import Subset
from pilotfish.errors import RecordsError
from pilotfish.machine import device_name
from pilotfish.models import Model
from pilotfish.models.outputs.reading import reading_of
from pilotfish.recording.labels import Matched
from pilotfish.recording.options import RecordOptions, RecordResult
from pilotfish.recording.parts import Parts
from pilotfish.recording.planned import device_kind, measured_times, timing_facts
from pilotfish.recording.time_samples import FOR_LEAST_LATER, time_samples
from pilotfish.records import RecordsMeta, Run, SampleTimes, judge_records
from pilotfish.records.groups import NONE, GroupBy, file_column, groups_by, now_read
from pilotfish.records.parquet import read_meta, record_columns
from pilotfish.records.records import string_ids
from pilotfish.scores.outputs import rows_differ
from pilotfish.tasks import find_task


def finished_records(
    path: Path,
    identity: dict[str, Any],
    run: Run,
    name: str,
    data: Dataset,
    model: Model,
    matched: Matched,
    options: RecordOptions,
) -> RecordResult:
    """The records in *path*, with what they lack and *options* ask for: costs, times on this device, groups.

    identity  of the recording that was asked for (see ``planned``)
    matched   the labels of *data* as the task and *model* have them, as they are read now

    RecordsError where the records are of other data, weights, preprocessing or outputs.
    """
    meta = read_meta(path)
    found = {
        "weights": meta.weights_hash,
        "preprocessing": meta.preprocessing_hash,
        "data": meta.data.get("fingerprint"),
        "augment": meta.data.get("augment"),
        "store": meta.store,
        "outputs": reading_of(meta.spec).identity,
        "task": meta.task,
    }
    if options.store is None:  # whatever was kept will do
        found["store"] = identity["store"]
    if differ := [key for key, value in identity.items() if found[key] != value]:
        raise RecordsError(
            f"{path} holds records of other {', '.join(differ)}; replace them with --overwrite, or choose another "
            "name (--as), split or run"
        )
    times, timing = _new_times(meta, data, model, options)
    single = _new_single_times(meta, data, model, options)
    costs = {**meta.costs, **times, **options.costs}
    if costs != dict(meta.costs) or single != meta.single_times or options.group_by is not None:
        everything = run.read(name, options.split, record_columns(find_task(meta.task), everything=True))
        meta = dataclasses.replace(everything.meta, costs=costs, timing=timing, single_times=single)
        group = everything.group
        if options.group_by is not None:
            named = data_groups(data, options.group_by)
            group = None if named is None else string_ids([named[one] for one in everything.ids.to_pylist()])
            facts = {key: value for key, value in meta.data.items() if key != "group_by"}
            facts |= ungrouped(options.group_by)
            meta = dataclasses.replace(meta, data=facts, notes=data_notes(data, options.group_by, meta.notes))
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
            *notes_on_labels(run, name, options.split, data, matched.labels),
        ),
    )


def notes_on_labels(run: Run, name: str, split: str, data: Dataset, expected: Any | None = None) -> tuple[str, ...]:
    """Notes on finished records: accuracy no better than chance, and labels that are not those *expected* now."""
    found = run.read(name, split)
    task = found.task
    verdict = judge_records(found)
    said = [] if verdict.note is None else [verdict.note]
    if expected is not None and task.recorded is None:  # else the truth itself is not kept
        place = {key: i for i, key in enumerate(data.ids)}
        rows = [place.get(key, -1) for key in found.ids.to_pylist()]
        now = expected[rows]
        others = int((rows_differ(now, found.label) & (task.known(now) | task.known(found.label))).sum())
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


def _new_single_times(
    meta: RecordsMeta, data: Dataset, model: Model, options: RecordOptions
) -> tuple[SampleTimes, ...]:
    """What single samples took, with those of a kind of device that the records know none of."""
    kinds = {device_kind(times.device) for times in meta.single_times}
    if not options.timing or device_kind(options.device) in kinds:
        return meta.single_times
    found = time_samples(data, model, options.device, for_least=FOR_LEAST_LATER)
    return meta.single_times if found is None else (*meta.single_times, found)


def _of_another_machine(meta: RecordsMeta, device: str) -> list[str]:
    """A note where the times in the records are of another machine than this one."""
    kind, timing = device_kind(device), meta.timing
    if device_kind(str(timing.get("device", ""))) != kind:
        timing = timing.get("also", {}).get(kind, {})
    measured = timing.get("machine")
    if measured is None or measured == device_name(device):
        return []
    return [f"its times are of {measured}, and this is {device_name(device)}; --overwrite records and times it here"]


def remove_leftovers(parts: Parts, identity: dict[str, Any]) -> None:
    """Remove the parts of records that are finished: a recording was killed between its last two steps."""
    if parts.folder.is_dir():
        with contextlib.suppress(RecordsError), parts.locked():  # locked: another process is replacing the records
            plan = parts.plan()
            if plan is None or plan.get("identity") == identity:
                parts.remove()


def data_groups(data: Dataset, group_by: GroupBy) -> dict[str, str] | None:
    """The group of each sample, by id; None for ``none``. A column is one of a folder's ``labels.csv``, or an
    array of the ``.npz`` file. A part of a data set has the groups of the whole."""
    if isinstance(data, Subset):
        return data_groups(data.data, group_by)
    ids = string_ids(list(data.ids))

    def column(name: str) -> pa.Array | None:
        file = _columns_file(data)
        return None if file is None or not file.is_file() else file_column(file, name, ids)

    found = groups_by(group_by, ids, column)
    return None if found is None else dict(zip(ids.to_pylist(), found.to_pylist(), strict=True))


def ungrouped(group_by: GroupBy | None) -> dict[str, str]:
    """What records keep of ``--group-by none``, so that planning looks for no groups either."""
    return {"group_by": NONE} if isinstance(group_by, str) and group_by == NONE else {}


def data_notes(data: Dataset, group_by: GroupBy | None, notes: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """What the data set says of itself, or *notes* that begin with it; a column that names the groups was read."""
    said: tuple[str, ...] = tuple(getattr(data, "notes", ())) if notes is None else notes
    file = _columns_file(data)
    return said if group_by is None or file is None else now_read(said, file.name, str(group_by))


def _columns_file(data: Dataset) -> Path | None:
    """The file whose columns may name groups."""
    if isinstance(data, Subset):
        return _columns_file(data.data)
    if isinstance(data, FolderDataset):
        return labels_file(data.root)
    return Path(data.spec.removeprefix("arrays:")).expanduser() if data.spec.startswith("arrays:") else None
