"""The operating point in force, and what is monitored at it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from pilotfish.cascade import Artefact
from pilotfish.documents import as_document
from pilotfish.serve.options import ServeOptions
from pilotfish.serve.watch.audit import Audit
from pilotfish.serve.watch.drift import Drift, drift_of
from pilotfish.serve.watch.online_map import OnlineMap, maps_of
from pilotfish.serve.watch.shadow import Shadow
from pilotfish.serve.watch.spending import stage_costs


@dataclass(frozen=True)
class Point:
    """One operating point while it is in force. All monitoring starts over with each.

    id        a number, one higher after every move
    artefact  the cascade at this point
    since     when it came into force, seconds since 1970
    drift     the drift alarm; None: off
    audit     audits of its exits; None: off
    shadow    in shadow mode, what the cascade would have done; None: off
    maps      the reliability of each stage's answers
    """

    id: str
    artefact: Artefact
    since: float = field(default_factory=time.time)
    drift: Drift | None = field(default=None, compare=False, repr=False)
    audit: Audit | None = field(default=None, compare=False, repr=False)
    shadow: Shadow | None = field(default=None, compare=False, repr=False)
    maps: tuple[OnlineMap, ...] = field(default=(), compare=False, repr=False)

    def reliability(self, stage: int, confidence: float) -> float:
        """How often such an answer of *stage* is right, by audits and labels; its confidence if they say nothing."""
        found = self.maps[stage].reliability(confidence) if self.maps else None
        return confidence if found is None else found

    def to_json(self) -> dict[str, Any]:
        """``GET /v2/models/M/operating_point``, with figures measured on the calibration samples."""
        row = self.artefact.frontier_row
        found, calibration = self.artefact.frontier, self.artefact.calibration
        if row is None:
            drop, cost, exit_ratio = calibration.drop, calibration.cost, list(calibration.exit_ratio)
        else:
            drop, exit_ratio = float(found.drop[row]), found.exit_ratio[row].tolist()
            cost = None if found.cost is None else float(found.cost[row])
        return {
            "id": self.id,
            "thresholds": as_document(self.artefact.shown_thresholds),
            "drop": drop,
            "cost": cost,
            "exit_ratio": exit_ratio,
            "policy": self.artefact.policy,
            "metric": calibration.metric,
            "base_cost": calibration.base_cost,
            "guarantee": as_document(self.artefact.guarantee),
            "since": self.since,
        }


@dataclass(frozen=True)
class Move:
    """The result of a request to move.

    point  the point in force now
    moved  False if it was in force already, so that nothing has changed
    notes  what the caller should know, one line each
    """

    point: Point
    moved: bool
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """``PUT /v2/models/M/operating_point``."""
        return {**self.point.to_json(), "moved": self.moved, "notes": list(self.notes)}


def begin_point(number: str, artefact: Artefact, options: ServeOptions, before: Point | None = None) -> Point:
    """A new operating point at *artefact*. Its reliability maps continue those of the point *before*."""
    found = tuple(maps_of(artefact))
    for new, old in zip(found, () if before is None else before.maps, strict=False):
        new.restore(old.to_state())
    shadow = Shadow(stage_costs(artefact), artefact.base_cost) if options.shadow else None
    audit = Audit(options.audit) if options.audit and not options.shadow else None
    run = options.drift_average_run
    drift = drift_of(artefact, run) if run else None
    return Point(number, artefact, drift=drift, audit=audit, shadow=shadow, maps=found)
