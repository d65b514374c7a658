"""The cascade that an update starts from: how it does beside the new one, and what the samples were used for before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pilotfish.cascade import Artefact, Performance
from pilotfish.cascade.folder import FILE_NAME
from pilotfish.errors import ArtefactError, ModelError, PilotfishError, RecordsError
from pilotfish.flow.stage_records import StageRecords
from pilotfish.plan import Tuning
from pilotfish.plan.adjust import adjusted_as
from pilotfish.plan.evaluate import evaluate
from pilotfish.plan.holdout import Holdout, split_rows
from pilotfish.plan.promise_notes import base_moved
from pilotfish.plan.trace import make_trace
from pilotfish.records import Run, Table, read_table
from pilotfish.text import listed, quantity

Names = tuple[str, ...]


def names_of(artefact: Artefact) -> Names:
    """The names of its stages."""
    return tuple(stage.name for stage in artefact.stages)


def runs_beside(folder: Path, artefact: Artefact) -> list[Run]:
    """Where the run lies that the cascade in *folder* was tuned from, if it still lies beside it."""
    here = folder.resolve()
    names = (f"{here.name}-run", Path(str(artefact.origin.get("run") or "")).name)
    return [Run(here.with_name(name)) for name in dict.fromkeys(names) if name]


def tries(
    artefact: Artefact, name: str, candidates: Sequence[Names], before: int, records: StageRecords
) -> tuple[int, list[str]]:
    """(how many cascades competed on these samples, the one in use among them; what to say of it). Models that were
    recorded here since the cascade was tuned were tried before this one.

    before  how many had competed when the cascade was tuned, on its samples
    """
    known = artefact.origin.get("fingerprint")
    same = known is None or known == records.samples.fingerprint
    tuned_at = int((records.folder / FILE_NAME).stat().st_mtime)
    others = {*names_of(artefact), name}
    metas = [meta for meta in records.run.metas(records.options.split) if meta.model not in others]
    earlier = [meta.model for meta in metas if meta.created_at is not None and meta.created_at >= tuned_at]
    new = sum(stages != names_of(artefact) for stages in candidates)
    count = new + len(earlier) + (before if same else len(candidates) - new)
    if count == 1:
        return count, []
    more = f", {listed(earlier)} before this one" if earlier else ""
    said = f"the chance of error is divided by {count}: so many cascades were tried on these samples{more}"
    return count, [f"{said}; on fresh samples the count begins anew"]


def as_it_was(
    artefact: Artefact, place: int | None, name: str, tuning: Tuning, records: StageRecords
) -> tuple[Performance, list[str]]:
    """(the old cascade at its operating point, on the samples that judge the new one; what to know of that)."""
    before, new, kept = names_of(artefact), names_of(tuning.artefact), artefact.evaluation or artefact.calibration
    if place is not None:
        try:
            if before[place] == name:
                raise RecordsError("the new model has its name; give that another one with --as")
            records.record(artefact.stages[place])
        except (ArtefactError, ModelError, RecordsError) as error:
            why = f"{before[place]} has no records of these ({error})"
            return kept, [
                f"the old cascade is shown as it was judged when made, on {quantity(kept.n, 'sample')}: {why}"
            ]
    others = [one for one in dict.fromkeys((*before, *new)) if one != new[-1]]
    table = read_table(records.run, others, new[-1], records.options.split)
    parts = _parts(table, tuning.artefact)
    rows = parts.evaluation if len(parts.evaluation) else parts.fit
    seen = _seen_before(artefact, records, new[-1], table.ids.take(pa.array(rows)))
    cost = artefact.cost_key or "macs"
    table = adjusted_as(table, artefact)
    trace = make_trace(table, before, artefact.rule, artefact.scores, None, cost, rows)
    tuned_on = sum(tuning.split.values())
    notes = (
        []
        if tuned_on == len(table)
        else [f"the new cascade has {quantity(tuned_on, 'sample')}, and both have {len(table):,}"]
    )
    found, reference = evaluate(trace, artefact.operating_point.bounds), artefact.origin.get("reference")
    labelled = reference == "label" == table.reference_kind
    if labelled and before[-1] == new[-1] and (moved := base_moved(kept, found)) is not None:
        notes.append(moved)
    return found, notes + seen


def _parts(table: Table, artefact: Artefact) -> Holdout:
    """The samples of *table* as tune parts them for *artefact*; what is fitted and certified is one part here."""
    origin = artefact.origin
    judge_on = str(origin.get("judge_on", "random"))
    return split_rows(len(table), origin["holdout"], origin["seed"], table.groups, judge_on)


def _seen_before(artefact: Artefact, records: StageRecords, base: str, judged: pa.Array) -> list[str]:
    """A note where the old cascade was tuned on some of the samples with ids *judged*, which judge it now, or where
    that cannot be known."""
    origin, names, split = artefact.origin, names_of(artefact), records.options.split
    if origin.get("holdout") == 0:
        return []  # it is judged where it was tuned, and tune has said so
    for run in (records.run, *runs_beside(records.folder, artefact)):
        try:
            there = run.read(names[-1], split)
            table = read_table(run, names[:-1], names[-1], split)
            tuned_on = table.ids.take(pa.array(_parts(table, artefact).fit))
        except PilotfishError:
            continue  # not its run
        groups = None if table.groups is None else int(table.groups.max()) + 1
        if [there.meta.fingerprint, len(table), groups] != [origin.get(key) for key in ("fingerprint", "n", "groups")]:
            continue
        here = records.run.read(base, split)
        now, then = judged, tuned_on
        if here.content is not None and there.content is not None:
            now = here.content.take(pc.index_in(judged, value_set=here.ids))
            then = there.content.take(pc.index_in(tuned_on, value_set=there.ids))
        seen = int(pc.sum(pc.is_in(now, value_set=then)).as_py() or 0)
        count = f"{seen:,} of the {len(judged):,} samples that judge both"
        return [f"the old cascade was tuned on {count}: its figures are optimistic"] if seen else []
    unknown = "whether the old cascade was tuned on some of the samples that judge both cannot be known here"
    return [f"{unknown}, for the run that it was tuned from is not beside it: if so, its figures are optimistic"]
