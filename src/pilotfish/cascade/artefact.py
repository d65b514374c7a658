"""The cascade as data: its stages, its frontier, the operating point in force, and where it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import PurePosixPath
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade.budget import Budget, Limits, choose, make_budget
from pilotfish.cascade.exits import decide_at, inside
from pilotfish.cascade.frontier import ExitSets, Frontier, check_bounds
from pilotfish.cascade.performance import Performance
from pilotfish.cascade.profile import Profile
from pilotfish.cascade.rule import Rule
from pilotfish.documents import ALWAYS, OFF_DEFAULT, Unbounded, Within, as_document
from pilotfish.errors import ArtefactError
from pilotfish.records import Cost, RecordsMeta
from pilotfish.scores import ExitScore, Scale, to_shown
from pilotfish.tasks import CLASSES, Task
from pilotfish.text import quantity

NEAR = 1e-5  # how far below its threshold decide_at may be


@dataclass(frozen=True)
class Stage:
    """A model of the cascade as its records described it; another variant needs its own records.

    name                what the records call it
    spec                the name it is loaded by; None for imported records, which cannot be run
    weights_hash        SHA-256 of the weights; a model with other weights is refused
    preprocessing_hash  SHA-256 of the chain from file to tensor; another chain is refused
    weights_file        path inside the cascade folder when the weights were embedded
    onnx_file           path inside the cascade folder of the same model as an ONNX file, used if its library is not
                        installed; onnx_hash: SHA-256 of that file
    adjustment          what was fitted to its answers, by name (see :class:`pilotfish.tasks.Adjustment`)
    files               where the model's file was, relative to the cascade folder and absolute; none if there is no
                        file, or it was embedded
    """

    name: str
    spec: str | None = None
    weights_hash: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    preprocessing_hash: str | None = None
    n_classes: Annotated[int, Within(1)] | None = None
    class_names: tuple[str, ...] | None = None
    costs: Mapping[str, Cost] = field(default_factory=dict)
    weights_file: str | None = None
    records_created: str | None = None
    files: tuple[str, ...] = ()
    onnx_file: str | None = field(default=None, metadata=OFF_DEFAULT)
    onnx_hash: str | None = field(default=None, metadata=OFF_DEFAULT)
    adjustment: Mapping[str, tuple[float, ...]] = field(default_factory=dict, metadata=OFF_DEFAULT)

    def validate(self) -> None:
        """ValueError if there are not as many class names as classes, or if weights are outside the folder."""
        if self.class_names is not None and self.n_classes not in (None, len(self.class_names)):
            raise ValueError(f"{self.n_classes} classes and {len(self.class_names)} class_names")
        for file in (self.weights_file, self.onnx_file):
            inside = PurePosixPath(file or "")
            if inside.is_absolute() or ".." in inside.parts or set(file or "") & {"\\", "\0"}:
                raise ValueError(f"weights file {file!r} lies outside the cascade folder; refused")
        if self.onnx_file is not None and self.onnx_hash is None:
            raise ValueError(f"{self.onnx_file} has no onnx_hash")
        if any("\0" in file for file in self.files):
            raise ValueError("the name of a file holds a NUL")

    @classmethod
    def from_meta(cls, meta: RecordsMeta, adjustment: Mapping[str, tuple[float, ...]] | None = None) -> Stage:
        """The stage that a model's records describe, and what was fitted to its answers."""
        return cls(
            name=meta.model,
            spec=meta.spec,
            weights_hash=meta.weights_hash,
            preprocessing=meta.preprocessing,
            preprocessing_hash=meta.preprocessing_hash,
            n_classes=meta.n_classes,
            class_names=meta.class_names,
            costs=meta.costs,
            records_created=meta.created,
            files=() if meta.file is None else (meta.file,),
            adjustment=adjustment or {},
        )


@dataclass(frozen=True)
class OperatingPoint:
    """One policy, and the budget it was chosen for.

    thresholds  one per stage but the last, in the score's own unit
    exit_sets   the scores that exit if the policy is not thresholds (PCEE's diagrams may fall), else None
    decide_at   bounds per stage that scores are compared with instead, as a cascade's file keeps them; None: those of
                :func:`pilotfish.cascade.exits.decide_at`
    """

    thresholds: tuple[Unbounded, ...]
    budget: Budget | None = field(default=None, metadata=ALWAYS)
    exit_sets: ExitSets | None = None
    decide_at: ExitSets | None = field(default=None, compare=False)

    @property
    def bounds(self) -> ExitSets:
        """Per stage but the last, the bounds of the scores that exit, as they were chosen."""
        return tuple((t,) for t in self.thresholds) if self.exit_sets is None else self.exit_sets

    @cached_property
    def compared(self) -> ExitSets:
        """Per stage but the last, the bounds that scores are compared with, in every engine and export."""
        return self.decide_at or tuple(tuple(decide_at(bounds).tolist()) for bounds in self.bounds)

    def same_as(self, other: OperatingPoint) -> bool:
        """Whether both decide alike, whatever budget they were chosen by."""
        return (self.thresholds, self.exit_sets) == (other.thresholds, other.exit_sets)

    def validate(self) -> None:
        """ValueError if there is not one exit set per threshold, if bounds do not rise, or if thresholds were edited by
        hand: scores are compared with values just below them."""
        if self.exit_sets is not None:
            if len(self.exit_sets) != len(self.thresholds):
                raise ValueError(f"{len(self.exit_sets)} exit sets for {len(self.thresholds)} thresholds")
            check_bounds(self.exit_sets)
        if [len(each) for each in self.compared] != [len(each) for each in self.bounds]:
            raise ValueError("decide_at does not have a number for each threshold")
        for bound, at in zip(chain(*self.bounds), chain(*self.compared), strict=True):
            if at != bound and not bound - NEAR * max(abs(bound), 1.0) <= at <= bound:
                raise ValueError(
                    f"scores are compared with {at} (decide_at) for a threshold of {bound}; leave decide_at out"
                )

    def leaves(self, k: int, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """bool (N,): which samples exit at stage *k*; the last stage answers all whose value is not NaN."""
        if k == len(self.thresholds):
            return ~np.isnan(values)
        return inside(values, self.compared[k])


@dataclass(frozen=True)
class InForce:
    """What decides which samples exit: the rule, the stages' scores and the operating point; and what an answer is.
    Planning and running share it."""

    rule: Rule
    scores: tuple[ExitScore, ...]
    point: OperatingPoint
    task: Task = CLASSES

    def keep(self, k: int) -> int | str:
        """What the outputs of stage *k* must keep: the number of best classes, or the task's equivalent."""
        if self.task.keep is not None:
            return self.task.keep(self.scores[k] if k < len(self.scores) else None)
        own = self.scores[k].top_k if k < len(self.scores) else 1
        return max(own, self.rule.top_k) if self.rule.mixes else own


ALONE = InForce(Rule(), (), OperatingPoint(()))  # one model that answers everything


@dataclass(frozen=True)
class Artefact:
    """Everything that a cascade folder describes.

    score      the name that was given; ``scores`` is what it resolved to, one per stage but the last (none if the rule
               compares votes or counts)
    rule       how stages decide; see :mod:`pilotfish.cascade.rule`
    frontier   the policies worth choosing, measured on the calibration samples; cheapest first
    origin     data, split, seed and sizes that the thresholds came from
    guarantee  what was certified for the operating point, or None
    task       what an answer is
    limits     what every point of the frontier meets besides a budget, on the calibration samples; None: nothing
    profile    what the samples it was tuned and judged on looked like; None in files of earlier versions
    """

    stages: tuple[Stage, ...]
    score: str
    scores: tuple[ExitScore, ...]
    method: str
    cost_key: str | None
    frontier: Frontier
    operating_point: OperatingPoint
    calibration: Performance
    evaluation: Performance | None = field(default=None, metadata=ALWAYS)
    origin: Mapping[str, Any] = field(default_factory=dict, metadata=ALWAYS)
    guarantee: Mapping[str, Any] | None = field(default=None, metadata=ALWAYS)
    rule: Rule = field(default_factory=Rule, metadata=ALWAYS)
    task: Task = CLASSES
    limits: Limits | None = field(default=None, metadata=OFF_DEFAULT)
    profile: Profile | None = field(default=None, metadata=OFF_DEFAULT)

    def __post_init__(self) -> None:
        expected = len(self.stages) - 1
        found = {len(self.operating_point.thresholds), self.frontier.thresholds.shape[1]}
        if found != {expected}:
            raise ArtefactError(
                f"{quantity(len(self.stages), 'stage needs', 'stages need')} {quantity(expected, 'threshold')}, "
                f"found {sorted(found)}"
            )
        if len(self.scores) != (expected if self.rule.scores else 0):
            raise ArtefactError(
                f"{len(self.stages)} stages with rule {self.rule.kind} need "
                f"{expected if self.rule.scores else 0} scores, found {len(self.scores)}"
            )

    def validate(self) -> None:
        """ValueError if parts that are each valid do not belong together."""
        if (stages := len(self.stages)) < 2:
            raise ValueError(f"a cascade has a saver and a base, found {stages} stage")
        for what, part in (("calibration", self.calibration), ("evaluation", self.evaluation)):
            if part is not None and len(part.exit_ratio) != stages:
                raise ValueError(f"{what} has {len(part.exit_ratio)} exit ratios for {stages} stages")
        if self.profile is not None and len(self.profile.quantiles) != stages - 1:
            raise ValueError(
                f"the profile has quantiles of {len(self.profile.quantiles)} stages, expected {stages - 1}"
            )
        for stage in self.stages:
            try:
                self.task.check_adjustment(stage.adjustment)
            except ValueError as error:
                raise ValueError(f"stage {stage.name}: {error}") from error
        adjusted = [stage.name for stage in self.stages if stage.adjustment]
        fitted = self.stages
        if self.origin.get("reference") == "base":  # its answers are the reference, and are not changed
            fitted = fitted[:-1]
        lacks = next((stage.name for stage in fitted if not stage.adjustment), None)
        if adjusted and lacks is not None:
            raise ValueError(f"the answers of {adjusted[0]} are adjusted and those of {lacks} are not")
        kinds = ("drop", "agreement", "cost", self.calibration.metric)
        if self.guarantee is not None and (kind := self.guarantee.get("kind")) not in kinds:
            raise ValueError(f"unknown kind of guarantee {str(kind)[:60]!r}; expected one of {', '.join(kinds)}")

    def __repr__(self) -> str:
        """A short summary: the frontier and the class names would fill screens."""
        return (
            f"Artefact(stages={tuple(stage.name for stage in self.stages)}, score={self.score!r}, "
            f"method={self.method!r}, thresholds={self.shown_thresholds}, {len(self.frontier)} operating points)"
        )

    @property
    def base_cost(self) -> float | None:
        """Cost of the last stage alone, in the unit of ``cost_key``."""
        return self.calibration.base_cost

    @cached_property
    def in_force(self) -> InForce:
        """What the engine needs to know. Inputs with the same object are decided together."""
        return InForce(self.rule, self.scores, self.operating_point, self.task)

    def adjusters(self) -> list[Callable[[Any], Any] | None]:
        """What is applied to the outputs of each stage before anything reads them; None: nothing."""
        return [self.task.adjuster(stage.adjustment) for stage in self.stages]

    @property
    def scales(self) -> tuple[Scale, ...]:
        """The unit of each threshold."""
        if not self.rule.scores:
            return tuple("identity" for _ in self.stages[1:])
        return tuple(s.scale for s in self.scores)

    @property
    def shown_thresholds(self) -> tuple[float, ...]:
        """Thresholds in display units: probabilities for max_prob."""
        pairs = zip(self.scales, self.operating_point.thresholds, strict=True)
        return tuple(float(to_shown(scale, t)) for scale, t in pairs)

    @property
    def shown_exit_sets(self) -> ExitSets | None:
        """Exit sets in display units; None if the policy is a vector of thresholds."""
        if self.operating_point.exit_sets is None:
            return None
        sets = zip(self.scales, self.operating_point.exit_sets, strict=True)
        return tuple(tuple(to_shown(scale, np.array(bounds)).tolist()) for scale, bounds in sets)

    @property
    def policy(self) -> str | dict[str, Any]:
        """What the operating point is: ``thresholds``, or an object with its ``kind`` and numbers."""
        point = self.operating_point
        if self.rule.kind == "patience":
            patience = point.thresholds[0]
            return {"kind": "patience", "patience": None if np.isinf(patience) else int(patience)}
        if self.rule.kind == "agreement":
            share = point.thresholds[-1]
            return {"kind": "agreement", "share": None if np.isinf(share) else share}
        if (sets := self.shown_exit_sets) is not None:
            return {"kind": "intervals", "exit_sets": as_document(sets), "fallback": "last stage"}
        if self.rule.kind == "ensemble":
            return {"kind": "ensemble", "weight": self.rule.weight}
        return "thresholds" if self.rule.kind == "score" else {"kind": self.rule.kind}

    @property
    def is_threshold_vector(self) -> bool:
        """Whether ``shown_thresholds`` fully describes which samples exit."""
        return self.rule.scores and self.operating_point.exit_sets is None

    @property
    def frontier_row(self) -> int | None:
        """The frontier's row of the operating point; None for a tuned point between the rows that were kept."""
        frontier, point = self.frontier, self.operating_point
        same = np.flatnonzero((frontier.thresholds == np.asarray(point.thresholds)).all(axis=1)).tolist()
        sets = frontier.exit_sets
        return next((i for i in same if sets is None or point.exit_sets in (None, sets[i])), None)

    def at(
        self,
        *,
        max_drop: float | None = None,
        max_cost: float | str | None = None,
        min_metric: float | None = None,
        min_accuracy: float | None = None,
    ) -> Artefact:
        """The same cascade at another operating point of its frontier. BudgetError when none meets the budget.

        It meets its limits on the calibration samples. A guarantee holds only for the point it was made for: another
        point has none.
        """
        budget = make_budget(max_drop, max_cost, min_metric, self.base_cost, min_accuracy=min_accuracy)
        i = choose(self.frontier, budget, None, self.limits)
        sets = None if self.frontier.exit_sets is None else self.frontier.exit_sets[i]
        point = OperatingPoint(tuple(self.frontier.thresholds[i].tolist()), budget, sets)
        same = point.same_as(self.operating_point)
        return dataclasses.replace(self, operating_point=point, guarantee=self.guarantee if same else None)
