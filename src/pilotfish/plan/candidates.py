"""Which models of a run can be savers of a base."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pilotfish.errors import RecordsError, UsageError
from pilotfish.plan.same_cost import check_cost, cost_keys
from pilotfish.records import RecordsMeta, Run


def metas_of(run: Run, base: str, split: str, cost: str) -> tuple[dict[str, RecordsMeta], float | None]:
    """(the metadata of each model of *split*, the cost of *base*: None where ``macs`` are not known).

    RecordsError where there is no such base, and where it lacks a cost that was asked for by name.
    """
    metas = {meta.model: meta for meta in run.metas(split)}
    if base not in metas:
        run.read(base, split)  # raises the error that lists what there is
    base_cost = metas[base].costs.get(cost)
    if base_cost is None and cost != "macs":
        known = sorted({key for meta in metas.values() for key in meta.costs})
        raise RecordsError(f"{base} has no cost {cost!r} in its records; {cost_keys(cost, known)}")
    return metas, base_cost


def find_candidates(
    run: Run, base: str, split: str, cost: str, among: Collection[str] | None = None
) -> tuple[list[str], list[str]]:
    """(names, notes): the models that cost less than *base*, or all where costs are unknown, and have a confidence.

    among  names that are looked at; None: all of the run

    RecordsError as :func:`metas_of` raises it.
    """
    metas, base_cost = metas_of(run, base, split, cost)
    metas = {name: meta for name, meta in metas.items() if among is None or name in among or name == base}
    names, dearer = [], []
    # of all, not of the candidates alone: a cost in another unit is what makes a model no candidate
    notes = check_cost(metas, [*(name for name in metas if name != base), base], cost)
    for name, meta in metas.items():
        its_cost = meta.costs.get(cost)
        if name == base:
            continue
        if base_cost is not None and its_cost is not None and its_cost >= base_cost:
            dearer.append(name)
            continue
        if base_cost is not None and its_cost is None:
            notes.append(f"{name} has no cost {cost!r}; it is ranked by exit ratio, after the others")
        names.append(name)
    if cost != "macs" and names and not dearer and not any(cost in metas[name].costs for name in names):
        known = ", ".join(sorted({key for name in names for key in metas[name].costs})) or "none"
        raise RecordsError(
            f"only {base} has a cost {cost!r}, and no saver can be judged by it; the others have {known}; record or "
            f"import them with --cost {cost}=X"
        )
    if base_cost is None:
        notes.append(f"{base} has no cost {cost!r}; savers are ranked by exit ratio")
    mixed = [name for name in dearer if _imported(metas[name]) is not _imported(metas[base])]
    notes += [
        f"{name} ({cost} {metas[name].costs[cost]:.4g}) does not cost less than {base} ({base_cost:.4g}) and so is no "
        "saver; one was recorded and one imported: are both in the same unit?"
        for name in mixed
    ]
    if not names and dearer and not mixed:
        least = min(dearer, key=lambda name: metas[name].costs[cost])
        notes.append(
            f"no model costs less than {base} ({cost} {base_cost:.4g}); the cheapest other is {least} "
            f"({metas[least].costs[cost]:.4g})"
        )
    kept = [name for name in names if (own := run.read(name, split)).task.confidence(own.outputs) is not None]
    if left_out := [name for name in names if name not in kept]:
        notes.append(f"without a confidence, and so left out: {', '.join(left_out)}")
    return kept, notes


def candidates_with(
    run: Run, base: str, split: str, cost: str, score_name: str, wanted: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """(names, notes): the *wanted* savers of *base*, or all that do not cost as much and have the score *score_name*.

    UsageError where the base is among them, RecordsError where one of them has no such score, or none is left.
    """
    metas, base_cost = metas_of(run, base, split, cost)
    if wanted is not None:
        given = list(dict.fromkeys(wanted))
        if base in given:
            raise UsageError(f"{base} is the base; name other models as savers")
        for name in given:
            own = run.read(name, split)
            own.task.scored(score_name, own.outputs)  # raises the error that says what it lacks
        return given, check_cost(metas, [*given, base], cost)
    notes = check_cost(metas, [*(name for name in metas if name != base), base], cost)
    names, left_out = [], []
    for name, meta in metas.items():
        its_cost = meta.costs.get(cost)
        if name == base or (base_cost is not None and its_cost is not None and its_cost >= base_cost):
            continue
        try:
            own = run.read(name, split)
            own.task.scored(score_name, own.outputs)  # raises the error that says what it lacks
            names.append(name)
        except RecordsError:
            left_out.append(name)
    if left_out:
        notes.append(f"without a score {score_name}, and so left out: {', '.join(left_out)}")
    if not names:
        raise RecordsError(
            f"no model of {run.path} on split {split!r} can be a saver for {base}; "
            "a saver costs less and has a confidence: record or import one"
        )
    return names, notes


def _imported(meta: RecordsMeta) -> bool:
    return meta.source.startswith("imported")
