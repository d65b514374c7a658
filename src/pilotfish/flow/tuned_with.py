"""What a cascade keeps of how it was tuned, to tune alike again."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pilotfish.cascade import Artefact
from pilotfish.documents import Within, read_as
from pilotfish.errors import ArtefactError, UsageError

BUDGETS = ("max_drop", "max_cost", "min_metric")
ADVICE = "tune the records again with pilotfish tune"


@dataclass(frozen=True)
class _Origin:
    """What of a cascade's origin it was tuned with."""

    split: str = "val"
    holdout: float = 0.5
    seed: int = 0
    judge_on: str = "random"
    savers_tried: Annotated[int, Within(1)] = 1
    apart: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Promise:
    """What of a guarantee it was tuned with."""

    confidence: float
    test: str = "auto"


def tuned_with(artefact: Artefact, folder: Path) -> dict[str, Any]:
    """What the cascade in *folder* was tuned with, as :func:`pilotfish.plan.tune` takes it.

    UsageError where it keeps no budget, ArtefactError for entries that cannot be used.
    """
    budget = artefact.operating_point.budget
    if budget is None or budget.kind not in BUDGETS:
        raise UsageError("the cascade keeps no budget to tune for again; tune the records with pilotfish tune")
    read = functools.partial(read_as, where=f"{folder}", error=ArtefactError, advice=ADVICE, unknown="ignore")
    origin = read(_Origin, artefact.origin, at="origin")
    asked: dict[str, Any] = {
        budget.kind: budget.value,
        "method": artefact.method,
        "cost": artefact.cost_key or "macs",
        **{key: getattr(origin, key) for key in ("split", "holdout", "seed", "judge_on", "options")},
    }
    if artefact.rule.scores:
        asked["score"] = artefact.score
    if (limits := artefact.limits) is not None:
        asked |= {"class_max_drop": dict(limits.class_drop), "worst_class_drop": limits.worst_class_drop}
        asked["max_latency_p95"] = limits.latency_p95
    if artefact.guarantee is not None:
        promise = read(_Promise, artefact.guarantee, at="guarantee")
        asked |= {"guarantee": promise.confidence, "test": promise.test, "savers_tried": origin.savers_tried}
        asked |= {"apart": True} if origin.apart else {}
    return asked
