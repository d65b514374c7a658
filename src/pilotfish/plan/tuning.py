"""What tuning found: the cascade, how it did, and what its reader should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotfish.cascade import Artefact, Budget, Performance, save_artefact
from pilotfish.documents import as_document
from pilotfish.plan.certificate import Promise
from pilotfish.plan.evidence import ScoreChoice, StageScores
from pilotfish.plan.job import Job
from pilotfish.plan.verdict import answers_alone, budget_missed, guarantee_needs
from pilotfish.records import notes_on_chance
from pilotfish.scores import needs_fit


@dataclass(frozen=True)
class Tuning:
    """The result of :func:`pilotfish.plan.tune`.

    calibration   the chosen policy on the samples it was chosen (with a guarantee: certified) on
    evaluation    the same on held-out samples; None at holdout 0
    saves         whether the cascade costs less than the base alone; when not, "no saver" is the answer.
                  None where costs are unknown
    costs         mean cost and base cost by every cost key that all stages have, on the samples judged
    choices       what ``--score auto`` weighed, per stage
    """

    artefact: Artefact
    calibration: Performance
    evaluation: Performance | None
    split: dict[str, int]
    saves: bool | None
    reference: str
    notes: tuple[str, ...] = ()
    costs: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    choices: tuple[ScoreChoice, ...] = ()

    @property
    def thresholds(self) -> tuple[float, ...]:
        """As people read them: probabilities for max_prob."""
        return self.artefact.shown_thresholds

    @property
    def guarantee(self) -> Mapping[str, Any] | None:
        """What was certified, or None."""
        return self.artefact.guarantee

    @property
    def missed(self) -> str | None:
        """The line that says that the budget was missed where the cascade was judged, or None. First of the notes."""
        return _missed(
            self.artefact.operating_point.budget, self.calibration, self.evaluation, self.guarantee is not None
        )

    def save(self, folder: str | Path) -> Path:
        """Write the cascade folder."""
        return save_artefact(self.artefact, folder)

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish tune --json``."""
        artefact, judge_on = self.artefact, self.artefact.origin.get("judge_on")
        return {
            "stages": [stage.name for stage in artefact.stages],
            "method": artefact.method,
            "score": artefact.score,
            "scores": [s.name for s in artefact.scores],
            "thresholds": [as_document(t) for t in self.thresholds] if artefact.is_threshold_vector else None,
            "policy": artefact.policy,
            "split": {**self.split, **({} if judge_on is None else {"judge_on": judge_on})},
            "calibration": self.calibration.to_json(),
            "evaluation": None if self.evaluation is None else self.evaluation.to_json(),
            "guarantee": None if artefact.guarantee is None else dict(artefact.guarantee),
            "costs": {key: {"cost": cost, "base_cost": base} for key, (cost, base) in self.costs.items()},
            "saves": self.saves,
            "reference": self.reference,
            "notes": list(self.notes),
        }


def notes_on(
    job: Job,
    scores: StageScores,
    calibration: Performance,
    evaluation: Performance | None,
    costs: Mapping[str, tuple[float, float]],
    promise: Promise | None,
) -> tuple[str, ...]:
    """Notes for whoever reads the figures."""
    table, judged = job.table, evaluation or calibration
    saves = None
    if calibration.cost is not None and calibration.base_cost is not None:
        saves = calibration.cost < calibration.base_cost
    missed = _missed(job.budget, calibration, evaluation, promise is not None)
    notes = [
        *([] if missed is None else [missed]),
        *notes_on_chance(table, table.models[::-1]),
        *table.notes,
        *job.checked,
        *_choice_notes(scores, job.stages),
    ]
    alone = answers_alone(job.stages, calibration, missed is None)
    if alone is not None and (saves is not False or calibration.exit_ratio[-1] < 1):
        notes.append(alone)
    if saves is False:
        notes.append("no saver: at this budget the cascade costs as much as the base alone or more; run the base alone")
        own = [table.meta[name].costs.get(job.cost, 0.0) for name in job.stages]
        if dearer := [name for name, cost in zip(job.stages, own, strict=True) if cost > own[-1]]:
            notes.append(f"{dearer[0]} costs more than {job.stages[-1]}: savers are named first, and the base last")
    if judged.base_cost is None:
        notes.append(f"no cost {job.cost!r} in the records: the cheapest point is the one with the largest exit ratio")
    if job.judge_on == "last":
        notes.append("judged on the last samples of the records, chosen on the earlier ones")
    if job.holdout == 0:
        notes.append("judged on the samples the threshold was chosen on (holdout 0): the drop is optimistic")
    if table.reference_kind == "base":
        notes.append("no labels: the base's own answers are the reference, so accuracy means agreement with the base")
    if (table.reference == table.reference[0]).all():
        notes.append("all samples have one class: these thresholds say little about other classes")
    if needs_fit(job.score) and len(job.parts.fit) < 500:
        notes.append(
            f"the score {job.score} was fitted on {len(job.parts.fit)} samples only; max_prob needs no fitting"
        )
    if (unresolved := resolution(judged, job.budget, promise is not None, calibration)) is not None:
        notes.append(unresolved)
    if saves:
        worse = {key: f"{cost / base:.0%}" for key, (cost, base) in costs.items() if base > 0 and cost >= base}
        if worse:
            shares = ", ".join(
                f"{share} {'' if i else 'of the base '}by {key}" for i, (key, share) in enumerate(worse.items())
            )
            others = next(iter(worse)) if len(worse) == 1 else "these"
            notes.append(f"the cascade costs {shares}: it saves by {job.cost} and not by {others}")
    if (calibration.groups or calibration.n) < 500 and promise is None:
        notes.append(f"chosen on {_counted(calibration)} only: expect the drop on new data to differ by points")
    if promise is not None:
        notes.append(_terms(promise))
        if calibration.groups is not None:
            notes.append(
                f"certified on {_counted(calibration)} by betting on the sums of groups (--test wsr; exact and "
                f"paired_cp count samples): it holds where no group has more than {table.largest_group:,} samples"
            )
    return tuple(notes)


def _missed(budget: Budget | None, chosen: Performance, held_out: Performance | None, promised: bool) -> str | None:
    where = "the samples it was chosen on" if held_out is None else "held-out samples"
    return budget_missed(held_out or chosen, budget, where, promised, chosen)


def resolution(
    judged: Performance, budget: Budget, promised: bool = False, chosen: Performance | None = None
) -> str | None:
    """A warning where so few samples cannot tell the drop that was asked for from none."""
    low, high = judged.drop_interval
    half = (high - low) / 2
    if budget.kind != "max_drop" or half <= budget.value:
        return None
    advice = "" if promised else f", or use --guarantee{'' if chosen is None else guarantee_needs(chosen, budget)}"
    return (
        f"{_counted(judged)} resolve a drop to about ±{100 * half:.2f} points, the {100 * budget.value:g} points "
        f"asked for lie within that: read the interval{advice}"
    )


def _counted(judged: Performance) -> str:
    return f"{judged.n:,} samples" + ("" if judged.groups is None else f" in {judged.groups:,} groups")


def _choice_notes(fitted: StageScores, stages: Sequence[str]) -> list[str]:
    notes = []
    for stage, choice in zip(stages, fitted.choices, strict=False):
        if choice.chosen == "max_prob":
            notes.append(f"{stage}: no score is better than max_prob by more than its noise")
            continue
        lead, error = choice.advantage[choice.chosen]
        notes.append(
            f"{stage}: score {choice.chosen} exits {100 * lead:.1f} ± {100 * error:.1f} points more than max_prob in "
            "cross-validation"
        )
    return notes


def _terms(promise: Promise) -> str:
    what = {
        "drop": f"the drop is at most {100 * promise.target:g} points",
        "agreement": f"at most {100 * promise.target:g}% of the answers differ from the base's",
        "accuracy": f"the accuracy is at least {100 * promise.target:g}%",
        "cost": f"the mean cost is at most {promise.target:,.6g}",
    }[promise.kind]
    return (
        f"guarantee: {what} on data like these, unless a chance of {100 * promise.delta:.3g}% struck when they were "
        "drawn; it holds for stages that were chosen without these samples (else give --savers-tried)"
    )
