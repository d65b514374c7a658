"""What a page is about: the pair, its policy, the pool, and where all this comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pilotfish.cascade import ClassDrop, Frontier, Performance
from pilotfish.plan import SaverRanking
from pilotfish.plan.trace import Trace
from pilotfish.report.details import Detail
from pilotfish.report.differences import Difference
from pilotfish.tasks import ACCURACY, says_of


@dataclass(frozen=True)
class Policy:
    """The thresholds in force and how they did.

    shown     thresholds as people read them, one per stage but the last
    judged    the figures of the headline
    interval  95 % interval of the judged drop; None where the samples are not at hand
    drawn     the same thresholds on the samples that the curves show; None where they are the judged ones
    protocol  which samples chose and which judged, in a sentence
    missed    a line where the judged figures do not keep to the cascade's budget
    """

    shown: tuple[float, ...]
    judged: Performance
    interval: tuple[float, float] | None
    protocol: str
    drawn: Performance | None = None
    missed: str | None = None

    @property
    def on_curve(self) -> Performance:
        """The operating point as the plots show it."""
        return self.judged if self.drawn is None else self.drawn


@dataclass(frozen=True)
class ModelPoint:
    """One model alone, for the plot of accuracy against cost."""

    name: str
    accuracy: float
    cost: float | None


@dataclass(frozen=True)
class ModelFacts:
    """Where one model's records come from."""

    name: str
    costs: Mapping[str, float] = field(default_factory=dict)
    spec: str | None = None
    source: str | None = None
    weights_hash: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    preprocessing_hash: str | None = None
    created: str | None = None
    failures: int | None = None


@dataclass(frozen=True)
class Subject:
    """All that a page says. ``stages`` ends with the base, and is the base alone where no saver is known.

    reference  ``label``: accuracies; ``base``: agreements with the base
    cost       the key that costs are read by, or None when they are unknown
    pair       the first stage and the base on the samples of the page
    threshold  of the first stage in force, in its score's own unit
    details    what the task says beside its metric, of the saver, the base and the cascade; by_class what its value per
               class is called, class_names of what classes
    differences  images that saver and base answer most differently, drawn
    classes    the drop of each class on the samples that the curves show, or of those with a limit; none where unknown
    chosen     how the pair came to be shown: ``best`` of the pool, the ``given`` pair, a ``cascade``
    """

    base: str
    stages: tuple[str, ...]
    chosen: str
    split: str
    n: int
    reference: str
    cost: str | None
    score: str
    base_accuracy: float
    stage_costs: tuple[float, ...] | None
    policy: Policy | None = None
    pair: Trace | None = None
    threshold: float = math.inf
    frontier: Frontier | None = None
    points: tuple[ModelPoint, ...] = ()
    ranking: SaverRanking | None = None
    models: tuple[ModelFacts, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    metric: str = ACCURACY.name
    classes: tuple[ClassDrop, ...] = ()
    details: tuple[Detail, ...] = ()
    by_class: str = ""
    class_names: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def saver(self) -> str | None:
        """The first stage of the pair."""
        return self.stages[0] if len(self.stages) > 1 else None

    @property
    def precisions(self) -> tuple[str, ...]:
        """What each stage computes in; none where all compute in one precision."""
        found = tuple(str((model.preprocessing or {}).get("dtype", "float32")) for model in self.models)
        return found if len(set(found)) > 1 else ()

    @property
    def measure(self) -> str:
        """What is measured, in words."""
        return says_of(self.metric) if self.reference == "label" else "agreement"

    @property
    def saves(self) -> bool | None:
        """Whether the policy costs less than the base alone; None when costs are unknown."""
        if self.policy is None:
            return False
        judged = self.policy.judged
        if judged.cost is None or judged.base_cost is None:
            return False if judged.exit_ratio[-1] >= 1.0 else None
        return judged.cost < judged.base_cost
