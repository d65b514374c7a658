"""What the plot of accuracy against cost shows, as numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pilotfish.plan.analysis.curves import thin
from pilotfish.plan.sweep import F64
from pilotfish.report.format import Unit, cost_unit
from pilotfish.report.subject import ModelPoint, Subject

LOG_SPREAD = 20
Curve = tuple[F64, F64]


@dataclass(frozen=True)
class FrontierData:
    """x is the mean cost per input or, without costs, the share that reaches the base; y is a fraction.

    points  models alone, with their x
    curve   the frontier, at most 400 points; None without a cascade
    routed  random routing of a pair
    here    the operating point
    floor   the lowest y drawn; what is worse stands at the edge
    log     whether x is logarithmic
    unit    of x
    """

    points: tuple[tuple[ModelPoint, float], ...]
    curve: Curve | None
    routed: Curve | None
    here: tuple[float, float] | None
    floor: float
    log: bool
    unit: Unit

    @property
    def xs(self) -> list[float]:
        """All x that the axis must hold."""
        routed = [] if self.routed is None else [float(self.routed[0].max())]
        return [x for _, x in self.points] + routed + ([] if self.here is None else [self.here[0]])


def frontier_data(subject: Subject) -> FrontierData:
    """The numbers of the plot."""
    points = _placed(subject)
    routed, here = _routed(subject, points), _here(subject)
    xs = [x for _, x in points] + ([] if here is None else [here[0]])
    log = subject.cost is not None and min(xs) > 0 and max(xs) / min(xs) > LOG_SPREAD
    curve = _curve(subject, log)
    return FrontierData(
        points=points,
        curve=curve,
        routed=routed,
        here=here,
        floor=_floor(subject, points, curve),
        log=log,
        unit=Unit("", 1.0) if subject.cost is None else cost_unit(subject.cost, max(xs)),
    )


def _placed(subject: Subject) -> tuple[tuple[ModelPoint, float], ...]:
    """Models with a place on the x axis. Without costs only the pair has one: the shares 0 and 1."""
    if subject.cost is not None:
        return tuple((point, point.cost) for point in subject.points if point.cost is not None)
    place = {subject.saver: 0.0, subject.base: 1.0}
    return tuple((point, place[point.name]) for point in subject.points if point.name in place)


def _curve(subject: Subject, log: bool) -> Curve | None:
    frontier = subject.frontier
    if frontier is None:
        return None
    x = frontier.cost if subject.cost is not None and frontier.cost is not None else frontier.exit_ratio[:, -1]
    rows = thin(np.log(x) if log else x)
    return x[rows], frontier.value[rows]


def _routed(subject: Subject, points: tuple[tuple[ModelPoint, float], ...]) -> Curve | None:
    """A random share r stays with the saver: cost C_S + (1 - r) C_B, accuracy between the two."""
    alone = {point.name: point.accuracy for point, _ in points}
    if len(subject.stages) != 2 or not alone.keys() >= set(subject.stages):
        return None
    reach = np.linspace(0, 1, 60)
    saver, base = (alone[name] for name in subject.stages)
    accuracy = saver + reach * (base - saver)
    if subject.cost is None or subject.stage_costs is None:
        return (reach, accuracy) if subject.cost is None else None
    return subject.stage_costs[0] + reach * subject.stage_costs[-1], accuracy


def _here(subject: Subject) -> tuple[float, float] | None:
    if subject.policy is None:
        return None
    point = subject.policy.on_curve
    x = point.exit_ratio[-1] if subject.cost is None else point.cost
    return None if x is None else (x, point.value)


def _floor(subject: Subject, points: tuple[tuple[ModelPoint, float], ...], curve: Curve | None) -> float:
    """Models far below the pair would press all that matters into a line; they stand at the lower edge instead."""
    chief = [point.accuracy for point, _ in points if point.name in (subject.base, subject.saver)]
    chief += [subject.base_accuracy] + ([] if curve is None else [float(curve[1].min()), float(curve[1].max())])
    span = max(max(chief) - min(chief), 0.02)
    near = [point.accuracy for point, _ in points if point.accuracy >= min(chief) - 1.2 * span]
    return min(chief + near)
