"""Many models on the same samples: records joined by sample id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pilotfish.errors import AlignmentError, RecordsError
from pilotfish.records.clusters import clusters, repeated, suspected
from pilotfish.records.groups import NONE, GroupBy, groups_by
from pilotfish.records.records import Records, RecordsMeta
from pilotfish.records.run import Run
from pilotfish.scores.outputs import I64, rows_differ
from pilotfish.tasks import CLASSES, Task, Verdict
from pilotfish.tasks.task import Quality
from pilotfish.text import quantity

Rows = np.ndarray[tuple[int], np.dtype[np.intp]]
CHANCE_LINES = 4


@dataclass(frozen=True)
class Table:
    """Models aligned by sample id, in the order of the base's records.

    reference       (N,), what counts as right: the truth, or the base's own answer; int64 for classes
    reference_kind  ``label`` or ``base`` (results are agreements with the base)
    notes           what was left out, for the reader of the results
    groups          int64 (N,), the group of each sample, numbered from 0; None where all samples are independent
    grouping        the notes that are about groups and copies
    task            what an answer is
    adjustments     what was fitted to the answers of models, by name (see :mod:`pilotfish.plan.adjust`)
    """

    base: str
    split: str
    ids: pa.Array
    reference: Any
    reference_kind: str
    outputs: Mapping[str, Any]
    meta: Mapping[str, RecordsMeta]
    notes: tuple[str, ...] = ()
    groups: I64 | None = None
    grouping: tuple[str, ...] = ()
    task: Task = CLASSES
    adjustments: Mapping[str, Mapping[str, tuple[float, ...]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.reference)

    @property
    def models(self) -> tuple[str, ...]:
        """The models' names, the base last."""
        return tuple(self.outputs)

    @property
    def largest_group(self) -> int:
        """Samples in the largest group; 1 without groups."""
        return 1 if self.groups is None else int(np.bincount(self.groups).max())

    def quality(self, model: str) -> Quality:
        """How good the answers of *model* are, by the task: bool (N,) where they are right or wrong, else float64 (N,)
        in [0, 1]."""
        return self.task.quality(self.outputs[model], self.reference)

    def value(self, model: str, rows: NDArray[np.intp] | None = None) -> float:
        """The value of the task's metric where *model* answers all samples, or some rows."""
        outputs, reference = self.outputs[model], self.reference
        if rows is not None:
            outputs, reference = outputs.take(rows), reference[rows]
        return self.task.value(outputs, reference)


def read_table(
    run: Run,
    models: Sequence[str],
    base: str,
    split: str = "val",
    group_by: GroupBy | None = None,
    metric: str | None = None,
) -> Table:
    """Read and align *models* and *base*; see :func:`align`."""
    names = [m for m in dict.fromkeys(models) if m != base]
    by = run.groups(base, split, group_by)
    return align([run.read(name, split) for name in names], run.read(base, split), by, metric)


def align(
    others: Sequence[Records], base: Records, group_by: GroupBy | None = None, metric: str | None = None
) -> Table:
    """Join records by sample id.

    Samples that not every model has (an image that could not be read, say) are left out and counted in
    ``notes``. Exact copies of a sample count once, where the records know its content. Raises AlignmentError when the
    records cannot be of the same samples: other data, other splits, other class counts or orders, labels that disagree.

    group_by  what belongs together (see :func:`pilotfish.records.groups.groups_by`; an array is one group per row of
              *base*); None: the groups that the records hold; ``none``: no groups, and copies count as they stand
    metric    by name, where it is not the task's first
    """
    everyone, task = [*others, base], base.task.by_metric(metric)
    if group_by is None and base.meta.data.get("group_by") == NONE:
        group_by = NONE  # as they were recorded
    for records in others:
        _check_pair(records, base)
    keep = _shared_rows(others, base)
    notes = [] if (left_out := rows_note(others, base, keep)) is None else [left_out]
    label, keep = _labels(everyone, base, keep)
    if label is not None and not (labelled := task.known(label)).all():
        notes.append(
            f"{quantity(int((~labelled).sum()), 'sample without a label was', 'samples without a label were')} left out"
        )
        keep, label = keep[labelled], label[labelled]
    ids, groups, grouping = base.ids.take(pa.array(keep)), None, []
    if group_by is None or not isinstance(group_by, str) or group_by != NONE:
        group = _group(everyone, base, ids, group_by)
        content, said = _content(everyone, ids)
        code = _code(label)
        found = clusters(ids, code, group, content)
        grouping = [*said, *found.notes]
        if group is None and group_by is None:
            looks = suspected(ids, code)
            if looks is None and content is None and task.classes:
                looks = repeated(ids, (_rows(r, ids) for r in everyone), code)
            grouping += [] if looks is None else [looks]
        groups = found.groups
        if len(found.rows) < len(keep):
            keep, label = keep[found.rows], None if label is None else label[found.rows]
            ids = base.ids.take(pa.array(keep))
    outputs = {r.meta.model: _rows(r, ids) for r in everyone}
    reference = label if label is not None else task.reference(outputs[base.meta.model])
    return Table(
        base=base.meta.model,
        split=base.meta.split,
        ids=ids,
        reference=reference,
        reference_kind="base" if label is None else "label",
        outputs=outputs,
        meta={r.meta.model: r.meta for r in everyone},
        notes=(*notes, *grouping),
        groups=groups,
        grouping=tuple(grouping),
        task=task,
    )


def judge_records(records: Records) -> Verdict:
    """A model's records beside chance; nothing is said where the task knows no chance."""
    return _judged(records.task, records.label, records.outputs, records.meta)


def notes_on_chance(table: Table, models: Sequence[str]) -> list[str]:
    """A line for each of *models* that is no better than chance, or far better in another order of the classes; after
    the first few their names alone. None where the base's answers are the reference."""
    said = [(model, note) for model in models if (note := _in_table(table, model).note) is not None]
    lines = [f"{model}: {note}" for model, note in said[:CHANCE_LINES]]
    rest = [model for model, _ in said[CHANCE_LINES:]]
    return [*lines, *([f"so it is with {len(rest)} more: {', '.join(rest)}"] if rest else [])]


def is_bad_base(table: Table) -> bool:
    """Whether the base of *table* is no better than chance; never where its own answers are the reference."""
    return _in_table(table, table.base).bad


def refuse_bad_base(table: Table) -> None:
    """RecordsError for a base that is no better than chance: with wrong labels every saver is as good as it."""
    verdict = _in_table(table, table.base)
    if verdict.bad:
        raise RecordsError(
            f"the base {table.base}: {verdict.note}; bring the labels into the model's class order, or go on all the "
            "same with --allow-bad-base"
        )


def _in_table(table: Table, model: str) -> Verdict:
    if table.reference_kind != "label":
        return Verdict(0, 0.0, 0.0)
    return _judged(table.task, table.reference, table.outputs[model], table.meta[model])


def _judged(task: Task, truth: Any, outputs: Any, meta: RecordsMeta) -> Verdict:
    return Verdict(0, 0.0, 0.0) if task.judge is None else task.judge(truth, outputs, meta.n_classes)


def _shared_rows(others: Sequence[Records], base: Records) -> Rows:
    keep = np.ones(len(base), bool)
    for records in others:
        if not records.ids.equals(base.ids):
            shared = np.asarray(pc.is_in(base.ids, value_set=records.ids))
            if not shared.any():
                raise AlignmentError(
                    f"{records.meta.model} and {base.meta.model} share no sample ids "
                    f"({records.ids[0]!s}, … and {base.ids[0]!s}, …); are they records of the same data and split?"
                )
            keep &= shared
    if not keep.any():
        raise AlignmentError("no sample is in the records of all the models; compare fewer models at a time")
    return np.flatnonzero(keep)


def rows_note(others: Sequence[Records], base: Records, rows: np.ndarray[Any, Any]) -> str | None:
    """Which models lack samples, and how many are left for all: *rows* of the base, by index or as a mask. None where
    everybody has the same."""
    kept = int(rows.sum()) if rows.dtype == np.bool_ else len(rows)
    if kept == max(len(r) for r in (*others, base)):
        return None
    lacking = [
        f"{r.meta.model} has {shared:,} of the {quantity(len(base), 'sample')} of {base.meta.model}{_unread(r)}"
        for r in others
        if (
            shared := len(base)
            if r.ids.equals(base.ids)
            else int(pc.sum(pc.is_in(base.ids, value_set=r.ids)).as_py() or 0)
        )
        < len(base)
    ]
    if (more := max((len(r) for r in others), default=0)) > len(base):
        lacking.append(
            f"{base.meta.model} has {quantity(len(base), 'sample')}, and others up to {more:,}{_unread(base)}"
        )
    shown = "; ".join(lacking[:5]) + (f"; {len(lacking) - 5} more have fewer" if len(lacking) > 5 else "")
    return f"{shown}: these figures are of the {kept:,} that all have, the others were left out"


def _unread(records: Records) -> str:
    return f" ({len(records.meta.failures):,} could not be read or answered)" if records.meta.failures else ""


def _group(everyone: Sequence[Records], base: Records, ids: pa.Array, group_by: GroupBy | None) -> pa.Array | None:
    """The group of each sample: as asked for, else as the records that know it have it; None when none does."""
    if group_by is not None:
        found = groups_by(group_by, base.ids)
        return None if found is None else found.take(pc.index_in(ids, value_set=base.ids))
    known = {r.meta.model: _column(r, r.group, ids) for r in reversed(everyone) if r.group is not None}
    for model, column in known.items():
        first, one = next(iter(known.items()))
        if (differ := _differing(one, column)) is not None:
            row, count = differ
            raise AlignmentError(
                f"{first} and {model} put {count:,} of {len(ids):,} samples into different groups ({ids[row]!s} into "
                f"{one[row]!s} and {column[row]!s}); say which with --group-by, or none"
            )
    return next(iter(known.values()), None)


def _content(everyone: Sequence[Records], ids: pa.Array) -> tuple[pa.Array | None, list[str]]:
    """The hash of each sample, from the records that know it, and whether they disagree."""
    known = {r.meta.model: _column(r, r.content, ids) for r in reversed(everyone) if r.content is not None}
    if not known:
        return None, []
    first, one = next(iter(known.items()))
    notes = []
    for model, column in known.items():
        if (differ := _differing(one, column)) is not None:
            notes.append(
                f"{quantity(differ[1], 'sample')} of {model} {'is' if differ[1] == 1 else 'are'} "
                f"not what {first} saw, such as {ids[differ[0]]!s}: the files "
                "were changed between the recordings; record both again"
            )
    return one, notes


def _column(records: Records, column: pa.Array, ids: pa.Array) -> pa.Array:
    return column if records.ids.equals(ids) else column.take(pc.index_in(ids, value_set=records.ids))


def _differing(one: pa.Array, other: pa.Array) -> tuple[int, int] | None:
    """(first row, how many) where two columns differ; None where they are equal."""
    if other.equals(one):
        return None
    rows = np.flatnonzero(np.asarray(pc.not_equal(one, other)))
    return int(rows[0]), len(rows)


def _rows(records: Records, ids: pa.Array) -> Any:
    if records.ids.equals(ids):
        return records.outputs
    return records.outputs.take(_positions(records, ids))


def _positions(records: Records, ids: pa.Array) -> Rows:
    return np.asarray(pc.index_in(ids, value_set=records.ids)).astype(np.intp)


def _labels(everyone: Sequence[Records], base: Records, keep: Rows) -> tuple[Any, Rows]:
    """The label of each kept sample from whoever knows it, checked for contradictions; None when nobody does."""
    ids, task = base.ids.take(pa.array(keep)), base.task
    label = base.label[keep]
    for records in everyone:
        if records is base or not records.has_labels:
            continue
        theirs = records.label if records.ids.equals(ids) else records.label[_positions(records, ids)]
        both = task.known(label) & task.known(theirs)
        wrong = int(rows_differ(label[both], theirs[both]).sum()) if both.any() else 0
        if wrong:
            raise AlignmentError(
                f"the labels of {records.meta.model} and {base.meta.model} differ for {wrong:,} of {int(both.sum()):,} "
                "shared samples; are these the same data, with classes in the same order?"
            )
        label = task.filled(label, theirs)
    return (label if task.known(label).any() else None), keep


def _code(label: Any) -> Any:
    """(N,) that is equal where labels are, to tell copies by; None without labels, or where they are no numbers."""
    if label is None or not isinstance(label, np.ndarray):
        return None
    return label if label.ndim == 1 else np.unique(label, axis=0, return_inverse=True)[1].reshape(-1)


def _check_pair(records: Records, base: Records) -> None:
    a, b = records.meta, base.meta
    if a.split != b.split:
        raise AlignmentError(f"{a.model} was recorded on split {a.split}, {b.model} on split {b.split}")
    if a.task != b.task:
        raise AlignmentError(
            f"{a.model} has records of task {a.task}, {b.model} of task {b.task}; a cascade has one task"
        )
    if base.task.match is not None:
        base.task.match(records, base)
    if a.fingerprint and b.fingerprint and a.fingerprint != b.fingerprint:
        raise AlignmentError(
            f"{a.model} and {b.model} saw different data (fingerprints {_short(a.fingerprint)} and "
            f"{_short(b.fingerprint)}); record both from the same --data, with the same --augment"
        )


def _short(fingerprint: str) -> str:
    digest, plus, augment = fingerprint.partition("+")
    return digest[:12] + plus + augment
