"""The cascade as data: its stages, its frontier, the operating point in force, and where it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pilotfish.cascade.budget import Budget, choose, make_budget
from pilotfish.cascade.frontier import Frontier
from pilotfish.cascade.performance import Performance
from pilotfish.errors import ArtefactError
from pilotfish.records import RecordsMeta
from pilotfish.scores import Scale, to_shown


@dataclass(frozen=True)
class Stage:
    """A model of the cascade as its records described it; another variant needs its own records.

    name                what the records call it
    spec                the name it is loaded by; None for imported records, which cannot be run
    weights_hash        SHA-256 of the weights; a model with other weights is refused
    preprocessing_hash  SHA-256 of the chain from file to tensor; another chain is refused
    weights_file        path inside the cascade folder when the weights were embedded
    """

    name: str
    spec: str | None = None
    weights_hash: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    preprocessing_hash: str | None = None
    n_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    costs: Mapping[str, float] = field(default_factory=dict)
    weights_file: str | None = None
    records_created: str | None = None

    @classmethod
    def from_meta(cls, meta: RecordsMeta) -> Stage:
        """The stage that a model's records describe."""
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
        )


@dataclass(frozen=True)
class OperatingPoint:
    """One policy: a threshold per stage but the last, in the score's own unit, and the budget it was chosen by."""

    thresholds: tuple[float, ...]
    budget: Budget | None = None


@dataclass(frozen=True)
class Artefact:
    """Everything that a cascade folder says.

    score, scale  the exit rule is score >= threshold; thresholds are kept in the scale's own unit
    frontier      the policies worth choosing, measured on the calibration samples; cheapest first
    origin        data, split, seed and sizes that the thresholds came from
    """

    stages: tuple[Stage, ...]
    score: str
    scale: Scale
    method: str
    cost_key: str | None
    frontier: Frontier
    operating_point: OperatingPoint
    calibration: Performance
    evaluation: Performance | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    guarantee: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        expected = len(self.stages) - 1
        found = {len(self.operating_point.thresholds), self.frontier.thresholds.shape[1]}
        if found != {expected}:
            raise ArtefactError(f"{len(self.stages)} stages need {expected} thresholds, found {sorted(found)}")

    @property
    def base_cost(self) -> float | None:
        """Cost of the last stage alone, in the unit of ``cost_key``."""
        return self.calibration.base_cost

    @property
    def shown_thresholds(self) -> tuple[float, ...]:
        """Thresholds as people read them: probabilities for max_prob."""
        return tuple(to_shown(self.scale, self.operating_point.thresholds).tolist())

    def at(
        self,
        *,
        max_drop: float | None = None,
        max_cost: float | str | None = None,
        min_accuracy: float | None = None,
    ) -> Artefact:
        """The same cascade at another operating point of its frontier. BudgetError when none meets the budget."""
        budget = make_budget(max_drop, max_cost, min_accuracy, self.base_cost)
        row = self.frontier.thresholds[choose(self.frontier, budget)]
        return dataclasses.replace(self, operating_point=OperatingPoint(tuple(row.tolist()), budget))
