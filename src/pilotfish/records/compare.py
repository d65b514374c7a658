"""Savers of one base whose records have different rows: each on the rows that it shares with the base, and which of
them may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pilotfish.errors import AlignmentError
from pilotfish.records.align import Table, align, rows_note
from pilotfish.records.groups import NONE, GroupBy
from pilotfish.records.records import Records
from pilotfish.records.run import Run
from pilotfish.scores.outputs import Mask, join_rows
from pilotfish.text import examples, listed

ENOUGH = 0.9


@dataclass(frozen=True)
class Compared:
    """What :func:`compare` found.

    common  the base and the savers that can be compared, on the rows that all of these have
    tables  by saver, in the order given: on the rows that it shares with the base (``common``, where these are they)
    short   by saver that cannot be compared with the others: how many rows it shares with the base
    n       rows of the base's records
    notes   what was left out, for the reader of the figures; not who has how many samples
    partial  who, of those that can be compared, lacks samples
    """

    common: Table
    tables: Mapping[str, Table]
    short: Mapping[str, int]
    n: int
    notes: tuple[str, ...] = ()
    partial: str | None = None

    def row_notes(self) -> list[str]:
        """Who has how many samples, where each saver is judged on its own."""
        ranked = f"each is judged on those that it shares with the base, and ranked on the {len(self.common):,} of all"
        return [*self.short_notes(), *([] if self.partial is None else [f"{self.partial}: {ranked}"])]

    def common_notes(self, what: str) -> list[str]:
        """Who has how many samples, where all are judged on the same; *what* was done with the short ones."""
        shared = f"all are judged on the {len(self.common):,} that all have"
        return [*self.short_notes(what), *([] if self.partial is None else [f"{self.partial}: {shared}"])]

    def short_notes(self, what: str = "judged on those, not comparable with the others") -> list[str]:
        """A line for the short ones of each size, that ends in *what* was done with them."""
        sizes: dict[int, list[str]] = {}
        for name, rows in self.short.items():
            sizes.setdefault(rows, []).append(name)
        return [f"{listed(names)}: {rows:,} of the base's {self.n:,} samples; {what}" for rows, names in sizes.items()]


def compare(
    others: Sequence[Records], base: Records, group_by: GroupBy | None = None, metric: str | None = None
) -> Compared:
    """Align every one of *others* with *base*, on the rows that the two share.

    Savers can be compared where they share their rows: starting from the one with the most, each is added that leaves
    at least 90 % of those rows to all. The others are *short*. Where all savers have the same rows of the base this is
    :func:`align` of all at once. Labels that any of the records knows count for all, where
    they are known for 90 % of the base's samples.

    group_by, metric  as :func:`align` takes them

    Raises AlignmentError as :func:`align` does.
    """
    masks = {r.meta.model: shared_rows(r, base) for r in others}
    first = next(iter(masks.values()), None)
    if first is None or all(np.array_equal(mask, first) for mask in masks.values()):
        table = align(others, base, group_by, metric)
        return Compared(table, dict.fromkeys(masks, table), {}, len(base), table.notes)
    known = with_groups_of(others, with_labels_of(others, base))
    fair, rows = comparable(masks)
    common = align([r for r in others if r.meta.model in fair], known, group_by, metric)
    tables = {}
    for records in others:
        name = records.meta.model
        same = name in fair and np.array_equal(masks[name], rows)
        tables[name] = common if same else align([records], known, group_by, metric)
    alike = [name for name in fair if tables[name].reference_kind == common.reference_kind]
    short = {name: int(mask.sum()) for name, mask in masks.items() if name not in alike}
    of_rows = {rows_note([r], base, masks[r.meta.model]) for r in others}
    of_rows |= {rows_note([r for r in others if r.meta.model in fair], base, rows)}
    of_rows |= {note for table in tables.values() for note in table.grouping if note not in common.grouping}
    said = [note for table in (common, *tables.values()) for note in table.notes if note not in of_rows]
    partial = None
    if common.reference_kind == "base" and (labelled := [r.meta.model for r in others if r.has_labels]):
        said.append(
            f"labels are known for the samples of {listed(labelled)} alone, which are few: the others are judged by "
            "agreement with the base"
        )
    fewer = [name for name in alike if not masks[name].all()]
    if fewer:
        counts = examples([f"{name} {int(masks[name].sum()):,}" for name in fewer], 5)
        partial = f"of the base's {len(base):,} samples, {counts}"
    return Compared(common, tables, short, len(base), tuple(dict.fromkeys(said)), partial)


def fair_table(
    everyone: Sequence[Records], group_by: str | Path | None = None, metric: str | None = None
) -> tuple[Table, tuple[str, ...]]:
    """(the models that can be compared, on the rows that all of these have; notes that name those left out).

    Beside the model with the most rows (of equals the last), as :func:`compare` has it.
    """
    most = max(len(r) for r in everyone)
    widest = next(r for r in reversed(everyone) if len(r) == most)
    found = compare([r for r in everyone if r is not widest], widest, group_by, metric)
    notes = [note.replace("of the base's", f"of {widest.meta.model}'s") for note in found.common_notes("left out")]
    return found.common, (*notes, *found.notes)


def shared_rows(records: Records, base: Records) -> Mask:
    """bool (N,): which of the base's samples *records* has."""
    if records.ids.equals(base.ids):
        return np.ones(len(base), bool)
    return np.asarray(pc.is_in(base.ids, value_set=records.ids))


def comparable(masks: Mapping[str, Mask]) -> tuple[list[str], Mask]:
    """(names, rows that all of these have): from the fullest on, each that leaves 90 % of the fullest's rows to all."""
    order = sorted(masks, key=lambda name: -int(masks[name].sum()))
    rows = masks[order[0]]
    least = ENOUGH * rows.sum()
    fair = []
    for name in order:
        if (rows & masks[name]).sum() >= least:
            rows = rows & masks[name]
            fair.append(name)
    return [name for name in masks if name in fair], rows


def with_labels_of(others: Sequence[Records], base: Records) -> Records:
    """*base* with the labels that others know of its samples; as it is, where it has none and they know less than 90 %:
    else a few labelled rows would stand for all."""
    label, task = base.label, base.task
    for records in others:
        if task.known(label).all():
            return replace(base, label=label)
        if records.has_labels:
            at = pc.fill_null(pc.index_in(base.ids, value_set=records.ids), pa.scalar(-1, pa.int32()))
            rows = np.asarray(at).astype(np.intp)
            unknown = len(records.label)  # where they do not have the sample
            theirs = join_rows([records.label, task.unknown(1)])[np.where(rows < 0, unknown, rows)]
            label = task.filled(label, theirs)
    enough = base.has_labels or task.known(label).sum() >= ENOUGH * len(base)
    return replace(base, label=label) if enough else base


def labelled_in(run: Run, records: Records) -> tuple[Records, str | None]:
    """(*records*; without labels with those that other records of *run* know of 90 % of its samples; whose labels these
    are, None where there are none)."""
    if records.has_labels:
        return records, None
    own = records.meta
    for meta in run.metas(own.split):
        if meta.model == own.model or meta.task != own.task:
            continue
        other = run.read(meta.model, meta.split)
        if not other.has_labels:
            continue
        try:
            align([other], records, NONE)  # the same samples, and classes in the same order
        except AlignmentError:
            continue
        if (known := with_labels_of([other], records)).has_labels:
            return known, meta.model
    return records, None


def with_groups_of(others: Sequence[Records], base: Records) -> Records:
    """*base* with the content and the groups that others know of all its samples."""
    for records in others:
        if records.content is None and records.group is None:
            continue
        at = pc.index_in(base.ids, value_set=records.ids)
        if at.null_count == 0:
            content = records.content.take(at) if base.content is None and records.content is not None else base.content
            group = records.group.take(at) if base.group is None and records.group is not None else base.group
            base = replace(base, content=content, group=group)
    return base
