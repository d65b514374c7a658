"""Which models of a run can be savers of a base, and the tables of their records per split."""

from __future__ import annotations

from collections.abc import Sequence

from pilotfish.errors import RecordsError, UsageError
from pilotfish.plan.candidates import metas_of
from pilotfish.plan.same_cost import check_cost
from pilotfish.records import Compared, GroupBy, RecordsMeta, Run, compare
from pilotfish.scores import score


def candidates(
    run: Run, base: str, split: str, cost: str, score_name: str, wanted: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """(names, notes): the *wanted* savers, or all that cost less than the base and have the score."""
    metas, base_cost = metas_of(run, base, split, cost)
    if wanted is not None:
        given = _given(run, base, split, score_name, wanted)
        return given, check_cost(metas, [*given, base], cost)
    names = [name for name, meta in metas.items() if name != base and _cheaper(meta, cost, base_cost)]
    kept = [name for name in names if _has_score(run, name, split, score_name)]
    notes = check_cost(metas, [*(name for name in metas if name != base), base], cost)
    if left_out := [name for name in names if name not in kept]:
        notes.append(f"without a score {score_name}, and so left out: {', '.join(left_out)}")
    if not kept:
        raise RecordsError(
            f"no model of {run.path} on split {split!r} can be a saver for {base}; "
            "a saver costs less and has a confidence: record or import one"
        )
    return kept, notes


def _given(run: Run, base: str, split: str, score_name: str, wanted: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(wanted))
    if base in names:
        raise UsageError(f"{base} is the base; name other models as savers")
    for name in names:
        score(score_name, run.read(name, split).outputs)  # raises the error that says what it lacks
    return names


def _cheaper(meta: RecordsMeta, cost: str, base_cost: float | None) -> bool:
    its_cost = meta.costs.get(cost)
    return base_cost is None or its_cost is None or its_cost < base_cost


def _has_score(run: Run, name: str, split: str, score_name: str) -> bool:
    try:
        score(score_name, run.read(name, split).outputs)
    except RecordsError:
        return False
    return True


def split_tables(
    run: Run, base: str, savers: Sequence[str], splits: Sequence[str], group_by: GroupBy | None = None
) -> dict[str, Compared]:
    """The records per split of those *savers* that are recorded there, beside the base's (see
    :func:`pilotfish.records.compare`); only splits with the base and a saver."""
    found = {}
    for split in splits:
        here = run.models(split)
        names = [name for name in savers if name in here]
        if base in here and names:
            by = run.groups(base, split, group_by)
            found[split] = compare([run.read(name, split) for name in names], run.read(base, split), by)
    return found
