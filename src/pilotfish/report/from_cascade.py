"""What a cascade says about itself, without records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pilotfish.cascade import Artefact, Performance, Stage
from pilotfish.plan.limit_notes import limits_missed
from pilotfish.plan.tuning import budget_missed
from pilotfish.records import Table
from pilotfish.report.format import format_count
from pilotfish.report.policy import describe_guarantee
from pilotfish.report.subject import ModelFacts, ModelPoint, Policy, Subject
from pilotfish.tasks import says_of
from pilotfish.text import quantity


def about_cascade(artefact: Artefact) -> Subject:
    """The cascade's frontier and operating point; accuracies of the stages alone where the frontier tells them."""
    policy = cascade_policy(artefact)
    names = tuple(stage.name for stage in artefact.stages)
    costs = _stage_costs(artefact)
    base_accuracy = policy.on_curve.base_value
    points = [ModelPoint(names[-1], base_accuracy, artefact.base_cost)]
    everybody = np.flatnonzero(np.isneginf(artefact.frontier.thresholds[:, 0]))
    if len(everybody):
        alone = float(artefact.frontier.value[everybody[0]])
        points.insert(0, ModelPoint(names[0], alone, costs[0] if costs else None))
    return Subject(
        base=names[-1],
        stages=names,
        chosen="cascade",
        split=str(artefact.origin.get("split") or "unknown"),
        n=policy.judged.n,
        reference=str(artefact.origin.get("reference") or "label"),
        cost=artefact.cost_key if artefact.frontier.cost is not None else None,
        score=artefact.score,
        metric=artefact.task.metric.name,
        base_accuracy=base_accuracy,
        stage_costs=costs,
        policy=policy,
        frontier=artefact.frontier,
        points=tuple(points),
        models=tuple(_facts(stage) for stage in artefact.stages),
        classes=policy.judged.classes,
        data={key: artefact.origin.get(key) for key in ("data", "fingerprint", "run")},
        notes=(*([] if policy.missed is None else [policy.missed]), *cascade_notes(artefact)),
    )


def cascade_policy(artefact: Artefact) -> Policy:
    """The operating point in force, with the best figures that the folder has for it.

    A point that was moved along the frontier after tuning has no evaluation of its own: then the frontier's figures
    stand, and there is no interval.
    """
    found = _on_frontier(artefact)
    if found is not None and not _same(found, artefact.calibration):
        return Policy(
            shown=artefact.shown_thresholds,
            judged=found,
            interval=None,
            protocol=f"The operating point was moved along the frontier after tuning. Its figures are those of the "
            f"{quantity(found.n, 'sample')} that the frontier was measured on, and so optimistic.",
        )
    judged = artefact.evaluation or artefact.calibration
    where = "the samples it was chosen on" if artefact.evaluation is None else "held-out samples"
    return Policy(
        shown=artefact.shown_thresholds,
        judged=judged,
        interval=judged.drop_interval,
        protocol=_protocol(artefact),
        drawn=artefact.calibration if artefact.evaluation is not None else None,
        missed=missed_on(judged, artefact, where),
    )


def missed_on(judged: Performance, artefact: Artefact, where: str) -> str | None:
    """What of the cascade's budget and limits *judged* does not keep to, in a line; None where it keeps to all."""
    budget, promised = artefact.operating_point.budget, artefact.guarantee is not None
    missed = budget_missed(judged, budget, where, promised, artefact.calibration)
    lines = [*([] if missed is None else [missed]), *limits_missed(judged, artefact.limits, where)]
    return "; ".join(lines) or None


def tuned_on(artefact: Artefact) -> str:
    """The samples that the cascade's own figures are of: "split val of run run (data folder:photos)"."""
    split, run, data = (artefact.origin.get(key) for key in ("split", "run", "data"))
    return f"split {split or 'unknown'}" + (f" of run {run}" if run else "") + (f" (data {data})" if data else "")


def same_records(artefact: Artefact, table: Table) -> bool:
    """Whether *table* holds the samples that the cascade was tuned on: the same split, as many samples, and the same
    data; of imported records, which name no data, the very files."""
    origin, meta = artefact.origin, table.meta[table.base]
    if (origin.get("split"), origin.get("n")) != (table.split, len(table)):
        return False
    if origin.get("fingerprint") is not None or meta.fingerprint is not None:
        return bool(origin.get("fingerprint") == meta.fingerprint)
    return all(stage.records_created == table.meta[stage.name].created for stage in artefact.stages)


def cascade_notes(artefact: Artefact, elsewhere: bool = False) -> tuple[str, ...]:
    """The budget and the guarantee, in words; *elsewhere*: on a page about other samples."""
    notes = []
    if elsewhere:
        notes.append(f"budget and guarantee are of the samples that the cascade was tuned on: {tuned_on(artefact)}")
    if (budget := artefact.operating_point.budget) is not None:
        notes.append(f"budget of the operating point: {budget.says(says_of(artefact.calibration.metric))}")
    if artefact.limits is not None:
        notes.append(f"limits of all operating points: {artefact.limits}")
    if artefact.guarantee:
        notes.append(describe_guarantee(artefact.guarantee, artefact.cost_key))
    else:
        notes.append("no guarantee was asked for: the interval is for reading, not a promise")
    return tuple(notes)


def _protocol(artefact: Artefact) -> str:
    chosen, held_out = artefact.calibration.n, artefact.evaluation
    if held_out is None:
        return same_samples(chosen)
    seed = artefact.origin.get("seed")
    if artefact.origin.get("judge_on") == "last":
        return (
            f"The thresholds were chosen on {format_count(chosen)} samples and judged on {format_count(held_out.n)} "
            "later ones, the last of the records."
        )
    return (
        f"The thresholds were chosen on {format_count(chosen)} samples and judged on {format_count(held_out.n)} others"
        + (f" (random split, seed {seed})." if seed is not None else ".")
    )


def same_samples(n: int) -> str:
    """The papers' protocol, said plainly."""
    return (
        f"The threshold was chosen on the same {format_count(n)} samples it is judged on (holdout 0), as in the "
        "papers: the figures are optimistic."
    )


def _on_frontier(artefact: Artefact) -> Performance | None:
    frontier, known, row = artefact.frontier, artefact.calibration, artefact.frontier_row
    if row is None:
        return None
    return Performance(
        n=known.n,
        value=float(frontier.value[row]),
        base_value=known.base_value,
        drop=float(frontier.drop[row]),
        drop_interval=(float("nan"), float("nan")),
        cost=None if frontier.cost is None else float(frontier.cost[row]),
        base_cost=known.base_cost,
        exit_ratio=tuple(frontier.exit_ratio[row].tolist()),
        metric=frontier.metric,
    )


def _same(one: Performance, other: Performance) -> bool:
    return bool(np.allclose([one.drop, *one.exit_ratio], [other.drop, *other.exit_ratio], rtol=0, atol=1e-9))


def _stage_costs(artefact: Artefact) -> tuple[float, ...] | None:
    if artefact.cost_key is None:
        return None
    found = [stage.costs.get(artefact.cost_key) for stage in artefact.stages]
    known = tuple(cost for cost in found if cost is not None)
    return known if len(known) == len(found) else None


def _facts(stage: Stage) -> ModelFacts:
    return ModelFacts(
        name=stage.name,
        costs=stage.costs,
        spec=stage.spec,
        weights_hash=stage.weights_hash,
        preprocessing=stage.preprocessing,
        preprocessing_hash=stage.preprocessing_hash,
        created=stage.records_created,
    )


def differences(stages: Sequence[Stage], facts: Sequence[ModelFacts]) -> tuple[str, ...]:
    """Where the records at hand are not of the models that the cascade was made of."""
    known = {model.name: model for model in facts}
    notes = []
    for stage in stages:
        model = known[stage.name]
        for what, mine, theirs in (
            ("weights", stage.weights_hash, model.weights_hash),
            ("preprocessing", stage.preprocessing_hash, model.preprocessing_hash),
        ):
            if mine and theirs and mine != theirs:
                notes.append(f"the records of {stage.name} in the run have other {what} than the cascade")
    return tuple(notes)
