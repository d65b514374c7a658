"""A budget of cost per hour: which point of the frontier keeps to it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.cascade import Artefact
from pilotfish.cascade.budget import plain_cost
from pilotfish.errors import UsageError
from pilotfish.serve.options import ServeOptions

HOUR = 3600.0
LOOK = 5.0  # seconds between two checks
SETTLE = 900.0  # seconds between two moves that are not urgent, as every move restarts audits and drift
URGENT = 0.1  # share of an hour's budget; with less left a move is urgent
RATE_TIME = 600.0  # seconds over which rates are averaged
STEP = 0.1  # share of the cost per input; a smaller change is not worth a move


@dataclass(frozen=True)
class Advice:
    """What an input may cost on average, and what it costs now. left: share of an hour's budget."""

    allowed: float
    now: float
    left: float


def spending_of(options: ServeOptions, artefact: Artefact) -> Spending | None:
    """The budget of these options; None if there is none. Raises UsageError if the cascade has no costs."""
    if options.max_cost_per_hour is None:
        return None
    if stage_costs(artefact) is None:
        stages = " → ".join(stage.name for stage in artefact.stages)
        raise UsageError(
            f"{stages} has no costs, so max_cost_per_hour cannot be kept; leave it out, or tune with costs",
            ["max_cost_per_hour"],
        )
    return Spending(options.max_cost_per_hour)


def check_budget(options: ServeOptions, before: Artefact, now: Artefact) -> None:
    """Raise UsageError if *now* has no costs, or costs in another unit than *before*, whose budget it would get."""
    spending_of(options, now)
    if now.cost_key != before.cost_key:
        raise UsageError(
            f"its cost is {now.cost_key}, and --max-cost-per-hour counts {before.cost_key}; restart the server"
        )


def budget_notes(per_hour: float, artefact: Artefact) -> list[str]:
    """One line if no move can keep the budget, and why; else empty."""
    costs = artefact.frontier.cost
    if costs is None or not len(costs):
        return []
    least = float(costs.min())
    if per_hour < least:
        found = (
            f"--max-cost-per-hour {plain_cost(per_hour)} is less than one answer costs at the cheapest operating "
            f"point, {plain_cost(least)} ({artefact.cost_key}), so it cannot be kept"
        )
        return [found]
    if least == costs.max():
        return [f"every operating point costs {plain_cost(least)} an input, so --max-cost-per-hour moves nothing"]
    return []


class Spending:
    """Counts costs against a budget that accrues evenly, up to an hour's worth.

    per_hour  in the cascade's unit of cost
    clock     seconds, monotonic

    It refuses no inputs, so it guarantees nothing by itself. At most about per_hour (T / 3600 + 1) is spent in any T
    seconds if the operating point follows :meth:`next_cost` and the frontier has a point that is cheap enough.
    """

    def __init__(self, per_hour: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 < per_hour < math.inf:
            raise UsageError(f"a budget of cost per hour must be above 0; found {per_hour}")
        self.per_hour, self._clock, self._lock = per_hour, clock, threading.Lock()
        self._at = clock()
        self._moved = self._next_look = -math.inf
        self.left, self.spent = per_hour, 0.0
        self._cost, self._n = 0.0, 0  # totals at the last count
        self._weight = self._recent_n = self._recent_cost = 0.0  # recent, decaying

    @property
    def is_due(self) -> bool:
        """Whether it is time for the next check."""
        return self._clock() >= self._next_look

    def counted(self, cost: float, n: int) -> None:
        """Update the totals: *n* answers have cost *cost* since the start, audits included."""
        with self._lock:
            self._flow()
            cost, self._cost = cost - self._cost, cost
            n, self._n = n - self._n, n
            self.left -= cost
            self.spent += cost
            self._recent_n += n
            self._recent_cost += cost

    def _flow(self) -> None:
        now = self._clock()
        passed = max(now - self._at, 0.0)
        self._at = max(now, self._at)
        self.left = min(self.per_hour, self.left + passed * self.per_hour / HOUR)
        fade = math.exp(-passed / RATE_TIME)
        self._recent_n, self._recent_cost = self._recent_n * fade, self._recent_cost * fade
        self._weight = self._weight * fade + RATE_TIME * (1 - fade)  # seconds that the recent totals represent

    def advice(self) -> Advice | None:
        """What is allowed at the recent rate of inputs; None before any.

        It aims to keep half an hour's budget in reserve: above that it allows more than accrues, below it less, so as
        to get there within an hour.
        """
        with self._lock:
            self._flow()
            if self._recent_n < 1 or self._weight < 1:
                return None
            inputs_per_hour = self._recent_n / self._weight * HOUR
            to_spend = max(self.per_hour / 2 + self.left, 0.0)  # per hour
            mean = self._recent_cost / self._recent_n
            return Advice(to_spend / inputs_per_hour, mean, self.left / self.per_hour)

    def next_cost(self, artefact: Artefact) -> float | None:
        """The cost of the frontier's point to move to; None to stay.

        The frontier's costs are scaled by the ratio of recent to expected costs, as harder inputs cost more at every
        point.
        """
        self._next_look = self._clock() + LOOK
        if (best := self.would_move(artefact)) is not None:
            with self._lock:
                self._moved = self._at
        return best

    def would_move(self, artefact: Artefact) -> float | None:
        """What :meth:`next_cost` would return now, without counting it as a move."""
        costs, advice = artefact.frontier.cost, self.advice()
        if costs is None or advice is None or not len(costs):
            return None
        here = cost_of(artefact)
        scale = advice.now / here if here > 0 and advice.now > 0 else 1.0
        allowed = advice.allowed / scale
        fits = costs[costs <= allowed]
        best = float(fits.max() if len(fits) else costs.min())
        with self._lock:
            urgent = advice.left < URGENT and best < here
            stays = abs(best - here) <= STEP * here or (self._at - self._moved < SETTLE and not urgent)
        return None if stays else best

    def to_state(self) -> dict[str, Any]:
        """As JSON."""
        with self._lock:
            self._flow()
            return {"left": self.left, "spent": self.spent}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore :meth:`to_state`; the time in between accrues nothing. Raises ValueError for any other data."""
        try:
            left, spent = float(state["left"]), float(state["spent"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the state of a budget: {error!r}"[:200]) from error
        if not (math.isfinite(left) and math.isfinite(spent)):
            raise ValueError("not the state of a budget: its numbers are not finite")
        with self._lock:
            self.left, self.spent = min(left, self.per_hour), spent


def cost_of(artefact: Artefact) -> float:
    """Mean cost of an input at the operating point, on the samples that it was chosen on."""
    row, costs = artefact.frontier_row, artefact.frontier.cost
    return artefact.calibration.cost or 0.0 if row is None or costs is None else float(costs[row])


def stage_costs(artefact: Artefact) -> tuple[float, ...] | None:
    """The cost of an input by the stage that answers it, including earlier stages; None without costs.

    It is solved from the frontier, whose costs are the exit ratios times these, also if exits of one network share
    work. If the frontier has too few points for that, every stage gets the mean cost.
    """
    frontier, stages = artefact.frontier, len(artefact.stages)
    if frontier.cost is None:
        return None
    found, _, rank, _ = np.linalg.lstsq(frontier.exit_ratio, frontier.cost, rcond=None)
    if rank < stages:
        return (cost_of(artefact),) * stages
    return tuple(np.maximum.accumulate(found.clip(0)).tolist())
