"""What tuning found: the cascade, how it did, and in words what its reader should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pilotfish.cascade import Artefact, Budget, Limits, Performance, save_artefact
from pilotfish.cascade.budget import SLACK, plain_cost
from pilotfish.cascade.frontier import ACCURACY
from pilotfish.documents import as_document
from pilotfish.plan.certificate import Promise
from pilotfish.plan.evidence import ScoreChoice
from pilotfish.plan.holdout import Holdout
from pilotfish.plan.limit_notes import MISSED, limits_missed, notes_on_limits
from pilotfish.records import Table, notes_on_chance
from pilotfish.tasks import says_of
from pilotfish.text import quantity


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
        return next(iter(_missed(self.artefact, self.guarantee is not None)), None)

    def __repr__(self) -> str:
        """What a session shows: the frontier and the classes' names would fill screens."""
        judged = self.evaluation or self.calibration
        return (
            f"Tuning(stages={tuple(stage.name for stage in self.artefact.stages)}, thresholds={self.thresholds}, "
            f"drop={judged.drop:.6g}, exit_ratio={judged.exit_ratio}, n={judged.n}, guarantee="
            f"{None if self.guarantee is None else self.guarantee.get('confidence')}, notes={len(self.notes)})"
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
    artefact: Artefact,
    table: Table,
    parts: Holdout,
    cost: str,
    costs: Mapping[str, tuple[float, float]],
    promise: Promise | None,
    choices: Sequence[ScoreChoice],
    checked: Sequence[str] = (),
) -> tuple[str, ...]:
    """Notes for whoever reads the figures of *artefact*, tuned on *parts* of *table*.

    costs    what it costs by every key, beside the base's, as in :class:`Tuning`; cost: the key that was asked for
    promise  what was certified, or None; choices: of the scores; checked: what to know of the costs
    """
    stages, budget = [stage.name for stage in artefact.stages], artefact.operating_point.budget
    calibration, judged = artefact.calibration, artefact.evaluation or artefact.calibration
    missed, says = _missed(artefact, promise is not None), table.task.metric.says
    notes = [
        *missed,
        *notes_on_chance(table, table.models[::-1]),
        *table.notes,
        *checked,
        *_choice_notes(choices, stages),
    ]
    alone = answers_alone(stages, calibration, not missed)
    if alone is not None and calibration.saves is not False:
        notes.append(alone)
    if calibration.saves is False:
        notes.append("no saver: at this budget the cascade costs as much as the base alone or more; run the base alone")
        own = [table.meta[name].costs.get(cost, 0.0) for name in stages]
        if dearer := [name for name, its_cost in zip(stages, own, strict=True) if its_cost > own[-1]]:
            notes.append(f"{dearer[0]} costs more than {stages[-1]}: savers are named first, and the base last")
    if judged.base_cost is None:
        notes.append(f"no cost {cost!r} in the records: the cheapest point is the one with the largest exit ratio")
    if artefact.origin.get("judge_on") == "last":
        notes.append("judged on the last samples of the records, chosen on the earlier ones")
    if not len(parts.evaluation):
        notes.append("judged on the samples the threshold was chosen on (holdout 0): the drop is optimistic")
    if table.reference_kind == "base":
        notes.append(f"no labels: the base's own answers are the reference, so {says} means agreement with the base")
    known = table.reference
    plain = isinstance(known, np.ndarray) and known.ndim == 1 and known.dtype != object and not table.task.recorded
    if plain and (known == known[0]).all():
        one, others = ("class", "classes") if table.task.classes else ("label", "labels")
        notes.append(f"all samples have one {one}: these thresholds say little about other {others}")
    if table.task.needs_fit(artefact.score) and len(parts.fit) < 500:
        notes.append(
            f"the score {artefact.score} was fitted on {quantity(len(parts.fit), 'sample')} "
            f"only; {table.task.score().name} needs "
            "no fitting"
        )
    if judged.asymptotic:
        notes.append(
            f"{says} is no mean over samples: the interval of its drop is a jackknife's, which holds "
            "for many samples only"
        )
    if budget is not None and (unresolved := resolution(judged, budget, promise is not None, calibration)) is not None:
        notes.append(unresolved)
    notes += notes_on_limits(calibration, promise is not None)
    if calibration.saves:
        worse = {key: f"{found / base:.0%}" for key, (found, base) in costs.items() if base > 0 and found >= base}
        if worse:
            shares = ", ".join(
                f"{share} {'' if i else 'of the base '}by {key}" for i, (key, share) in enumerate(worse.items())
            )
            others = next(iter(worse)) if len(worse) == 1 else "these"
            notes.append(f"the cascade costs {shares}: it saves by {cost} and not by {others}")
    if (calibration.groups or calibration.n) < 500 and promise is None:
        notes.append(f"chosen on {_counted(calibration)} only: expect the drop on new data to differ by points")
    if promise is not None:
        binary = table.task.metric.kind == "mean" and table.quality(table.base).dtype == np.bool_
        notes.append(_terms(promise, says, binary, artefact.limits))
        if promise.kind == "drop" and table.task.metric.kind != "mean" and calibration.exit_ratio[-1] == 1:
            notes.append(
                f"no policy that lets some exit could be certified on {_counted(calibration)}: record more samples, or "
                "allow a larger drop"
            )
        if promise.asymptotic:
            notes.append(
                f"that guarantee is asymptotic, the limit of a jackknife over {_counted(calibration)}: at so "
                "many the chance may be another"
            )
        elif calibration.groups is not None:
            notes.append(
                f"certified on {_counted(calibration)} by betting on the sums of groups (--test wsr; exact and "
                "paired_cp count samples): it holds where no group has more than "
                f"{quantity(table.largest_group, 'sample')}"
            )
    return tuple(notes)


def _missed(artefact: Artefact, promised: bool) -> list[str]:
    chosen, held_out = artefact.calibration, artefact.evaluation
    where = "the samples it was chosen on" if held_out is None else "held-out samples"
    judged = held_out or chosen
    budget = budget_missed(judged, artefact.operating_point.budget, where, promised, chosen)
    return [*([] if budget is None else [budget]), *limits_missed(judged, artefact.limits, where)]


def resolution(
    judged: Performance, budget: Budget, promised: bool = False, chosen: Performance | None = None
) -> str | None:
    """A warning where so few samples cannot tell the drop that was asked for from none."""
    low, high = judged.drop_interval
    half = (high - low) / 2
    if budget.kind != "max_drop" or half <= budget.value:
        return None
    more = "" if chosen is None else guarantee_needs(chosen, budget)
    advice = "" if promised else f", or use --guarantee{more}"
    return (
        f"{_counted(judged)} resolve a drop to about ±{100 * half:.2f} points, which is more than the "
        f"{100 * budget.value:g} points asked for: read the interval{advice}"
    )


def _counted(judged: Performance) -> str:
    return quantity(judged.n, "sample") + ("" if judged.groups is None else f" in {quantity(judged.groups, 'group')}")


def _choice_notes(choices: Sequence[ScoreChoice], stages: Sequence[str]) -> list[str]:
    notes = []
    for stage, choice in zip(stages, choices, strict=False):
        if choice.chosen == choice.usual:
            notes.append(f"{stage}: no score is better than {choice.usual} by more than its noise")
            continue
        lead, error = choice.advantage[choice.chosen]
        notes.append(
            f"{stage}: score {choice.chosen} exits {100 * lead:.1f} ± {100 * error:.1f} points more than "
            f"{choice.usual} in cross-validation"
        )
    return notes


def _terms(promise: Promise, metric: str, binary: bool, limits: Limits | None) -> str:
    what = {
        "drop": f"the drop is at most {100 * promise.target:g} points",
        "agreement": f"at most {100 * promise.target:g}% of the answers differ from the base's"
        if binary
        else f"the {metric} with the base's answers is at most {100 * promise.target:g} points below 100%",
        "cost": f"the mean cost is at most {plain_cost(promise.target)}",
    }.get(promise.kind, f"the {metric} is at least {100 * promise.target:g}%")
    if limits is not None:
        what += f", with {limits},"
    begins, most = ("guarantee (asymptotic)", "about") if promise.asymptotic else ("guarantee", "at most")
    chosen = (
        "it holds for stages that were chosen without them (else give --savers-tried)"
        if promise.tried == 1
        else f"it holds for the best of {promise.tried} savers that were compared on them"
    )
    return (
        f"{begins}: {what} on data like these; over the drawing of these samples, the chance that this is wrong is "
        f"{most} {100 * promise.delta * promise.tried:.3g}%; {chosen}"
    )


def budget_missed(
    judged: Performance, budget: Budget | None, where: str, promised: bool = False, chosen: Performance | None = None
) -> str | None:
    """One line when *judged* does not keep to *budget*, else None.

    where     the samples it was judged on, such as ``held-out samples``
    promised  whether a guarantee was asked for: then the line does not advise one
    chosen    where the thresholds were chosen: a guarantee that needs more samples is advised with their number
    """
    if budget is None:
        return None
    if budget.kind == "max_cost":
        if judged.cost is None or judged.cost <= budget.value * (1 + SLACK):
            return None
        over = judged.cost / budget.value - 1 if budget.value else float("inf")
        spent, limit = plain_cost(judged.cost), plain_cost(budget.value)
        return (
            f"{MISSED} on {where}: cost {spent} against {limit} ({100 * over:.1f}% more): these samples exit less "
            "often than those it was chosen on"
        )
    if budget.kind == "min_metric":
        if judged.value >= budget.value - SLACK:
            return None
        found, limit = _apart(judged.value, budget.value)
        return (
            f"{MISSED} on {where}: {says_of(judged.metric)} {found}% against {limit}% ({quantity(judged.n, 'sample')})"
        )
    if judged.drop <= budget.value + SLACK:
        return None
    found, limit = _apart(judged.drop, budget.value)
    low, high = judged.drop_interval
    more = "" if promised or chosen is None else guarantee_needs(chosen, budget)
    interval = f"95 % interval {100 * low:.2f} to {100 * high:.2f}, {quantity(judged.n, 'sample')}"
    if low > budget.value:
        why = f"the budget lies outside the {interval}"
        advice = "" if promised else f"; ask for a smaller drop, or for --guarantee 90%{more}"
    else:
        why = f"the budget lies inside the {interval}"
        advice = ": chance may explain it" + (
            "" if promised else f", and --guarantee 90%{more} would leave room for it"
        )
    return f"{MISSED} on {where}: {found} points against {limit}; {why}{advice}"


def guarantee_needs(chosen: Performance, budget: Budget) -> str:
    """What to say beside the advice to use ``--guarantee 90%``: how many samples it takes at least, where *chosen* has
    fewer; else nothing."""
    if budget.kind != "max_drop" or budget.value <= 0 or chosen.asymptotic:
        return ""
    from pilotfish.plan.certificate import fewest_samples

    grouped = chosen.groups is not None
    bets = grouped or chosen.metric != ACCURACY
    needed = fewest_samples(budget.value, 0.1, "wsr" if bets else "binomial")
    have = chosen.groups if chosen.groups is not None else chosen.n
    if have >= needed:
        return ""
    return f" (with at least {needed:,} {'groups' if grouped else 'samples'} to choose on, not {have:,})"


def answers_alone(stages: Sequence[str], chosen: Performance, met: bool) -> str | None:
    """A line when one stage answers every sample, so that no cascade is needed; None otherwise."""
    whole = [k for k, share in enumerate(chosen.exit_ratio) if share == 1]
    if not whole:
        return None
    name, last = stages[whole[0]], len(stages) - 1
    if whole[0] == last:
        return f"nobody exits at this budget: run {name} alone"
    if not met:
        return f"{name} answers every sample, and {stages[last]} is never asked: this is {name} alone"
    what = "the saver alone" if len(stages) == 2 else f"{name} alone"
    return f"{what} meets it: run {name} alone (every sample exits there, and {stages[last]} is never asked)"


def _apart(found: float, limit: float) -> tuple[str, str]:
    """Two shares in percent, with as many decimals as it takes to tell them apart."""
    for decimals in (1, 2, 3, 6):
        texts = f"{100 * found:.{decimals}f}", f"{100 * limit:.{decimals}f}"
        if texts[0] != texts[1]:
            break
    return texts
