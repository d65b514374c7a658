"""An alarm when inputs no longer resemble those a cascade was evaluated on, with a bound on false alarms.

An e-detector (Shin, Ramdas and Rinaldo, "E-detectors", arXiv 2203.03532) for the mean of x in [0, 1] leaving a band
[lo, hi]. For each bet λ,

    e_t = 1 + λ (x_t - hi)   or   1 - λ (x_t - lo),        R_t = (R_{t-1} + 1) e_t,        R_0 = 0.

While the mean of x_t given the past lies in the band, the mean of e_t is at most 1, so that of R_t is at most t. The
same holds for any average over bets and directions. The alarm is raised when this average reaches A: a false one takes
at least A inputs on average, and has probability at most T / A within the first T, whatever else the distribution does.

Two values are monitored: the rule's own decision, x = 1 if the first stage lets an input exit, and x = F(score), its
place among the scores the cascade was tuned on. A applies to the average of both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pilotfish.cascade import Artefact
from pilotfish.errors import UsageError
from pilotfish.serve.watch.bands import SIDES, Band, band_of, place_band, place_of
from pilotfish.serve.watch.recent import Recent

F64 = NDArray[np.float64]
SHIFTS = np.geomspace(0.15, 3.0, 10)
"""Shifts of the mean to bet on, in log-odds from the band: from .50 to .54 up to from .50 to .95."""
AVERAGE_RUN = 1e6
LATELY = (10, 20, 30, 50, 100, 200, 300, 500)  # how many last inputs an alarm may show
WIDE = 0.25  # a wider band gets a note
EDGE = 1e-6  # rates closer to 0 or 1 are treated as this far from it
Kind = Literal["exit ratio", "score"]
Direction = Literal["up", "down"]


class Bets(NamedTuple):
    """e = constant + slope x, each float64 (M,); up: bool (M,), which bets win if the mean is above the band."""

    constant: F64
    slope: F64
    up: NDArray[np.bool_]


def bets(lo: float, hi: float) -> Bets:
    """The bets on a mean outside [lo, hi]. On each side, each λ is optimal for x of 0 or 1 whose mean is one of
    ``SHIFTS`` beyond the band. There are no bets above 1 or below 0."""
    above, below = _stakes(hi), _stakes(1 - lo)  # a mean below lo is one of 1 - x above 1 - lo
    return Bets(
        np.concatenate([1 - above * hi, 1 + below * lo]),
        np.concatenate([above, -below]),
        np.arange(len(above) + len(below)) < len(above),
    )


def _stakes(bound: float) -> F64:
    """λ for a mean above *bound*, from 0 to 1 / bound."""
    if bound >= 1:
        return np.empty(0)
    rate = min(max(bound, EDGE), 1 - EDGE)
    other = 1 / (1 + (1 - rate) / rate * np.exp(-SHIFTS))
    return np.minimum((other - rate) / (rate * (1 - rate)), 1 / max(bound, EDGE))


def _factors(exits: Bets, score: Bets) -> F64:
    """float64 (201, 2, M): e of every bet, indexed by the place of the score and by whether the input exits."""
    own = exits.constant + exits.slope * np.arange(2)[:, None]
    others = score.constant + score.slope * (np.arange(SIDES + 1) / SIDES)[:, None]
    shape = (SIDES + 1, 2)
    parts = [np.broadcast_to(own, (*shape, own.shape[1])), np.broadcast_to(others[:, None], (*shape, others.shape[1]))]
    return np.concatenate(parts, axis=2)


@dataclass(frozen=True)
class Alarm:
    """What has changed.

    kind          the ``exit ratio`` of the first stage, or its ``score``: the mean of F(score)
    direction     of the change
    baseline      the normal value; lo, hi: its band; n: samples the band was computed from
    seen          inputs until the alarm
    at            when it was raised, seconds since 1970
    lately        the mean of the last ``lately_n`` inputs, the number that shows the change best
    """

    kind: Kind
    direction: Direction
    baseline: float
    lo: float
    hi: float
    n: int
    seen: int
    at: float
    lately: float | None = None
    lately_n: int = 0

    def __str__(self) -> str:
        """One line for logs."""
        what = "exit ratio has" if self.kind == "exit ratio" else "scores have"
        usual = f"usual {self.baseline:.3f}, band {self.lo:.3f} to {self.hi:.3f} from {self.n:,} samples"
        lately = "" if self.lately is None else f"; {self.lately:.3f} of the last {self.lately_n:,}"
        moved = "risen" if self.direction == "up" else "fallen"
        return f"drift: the first stage's {what} {moved} after {self.seen:,} inputs ({usual}{lately})"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def drift_of(artefact: Artefact, average_run: float = AVERAGE_RUN) -> Drift:
    """The drift monitor for the operating point of a cascade."""
    profile = artefact.profile
    quantiles, n = ((), 0) if profile is None else (profile.quantiles[0], profile.n)
    return Drift(band_of(artefact), quantiles, n, average_run)


class Drift:
    """Monitors the decisions of the first stage at one operating point.

    band         of its exit ratio, from :func:`pilotfish.serve.watch.bands.band_of`
    quantiles    101 increasing quantiles of its scores, from *n* independent samples; if there are none, scores are not
                 monitored
    average_run  A: on average at most one false alarm in this many inputs
    clock        seconds since 1970

    After an alarm it does not test until :meth:`quiet`, but still shows the last inputs. Thread-safe. An input takes a
    few microseconds.
    """

    def __init__(
        self,
        band: Band,
        quantiles: Sequence[float] = (),
        n: int = 0,
        average_run: float = AVERAGE_RUN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not average_run > 1:
            raise UsageError(f"average_run must be a number of inputs above 1; found {average_run}")
        self.band, self.average_run, self._clock = band, average_run, clock
        self._quantiles = tuple(quantiles) if n > 0 else ()
        self.score_band = place_band(self._quantiles, n, band.error) if self._quantiles else None
        own = bets(band.lo, band.hi)
        score = bets(self.score_band.lo, self.score_band.hi) if self.score_band else bets(0.0, 1.0)
        self._factors = _factors(own, score)
        self._up, self._of_exits = np.concatenate([own.up, score.up]), len(own.up)
        parts = [len(part) for part in (own.up, score.up) if len(part)]
        self._weights = np.concatenate([np.full(size, 1 / size / len(parts)) for size in parts] or [np.empty(0)])
        self._lock = threading.Lock()
        self.recent, self.alarm = Recent(self._quantiles), None
        self._begin()

    alarm: Alarm | None

    def _begin(self) -> None:
        self._sums, self.n, self.alarm = np.zeros(len(self._weights)), 0, None

    def seen(self, exits: bool, score: float) -> Alarm | None:
        """Count one input. Returns the alarm if this input raises it.

        exits  the decision of the first stage's rule, before anything overrules it
        score  the score it compared, in its own unit; NaN is ignored
        """
        known = score == score
        place = place_of(self._quantiles, score) if self._quantiles and known else 0
        with self._lock:
            self.n += 1
            self.recent.add(exits, place)
            if self.alarm is not None:
                return None
            sums = self._sums
            before = None if known else sums[self._of_exits :].copy()
            sums += 1.0
            sums *= self._factors[place, 1 if exits else 0]
            if before is not None:
                sums[self._of_exits :] = before
            if self._weights.dot(sums) < self.average_run:
                return None
            self.alarm = self._raised()
            return self.alarm

    def _raised(self) -> Alarm:
        share, exits = self._weights * self._sums, np.arange(len(self._sums)) < self._of_exits
        parts: list[tuple[float, Kind, Direction]] = [
            (float(share[(exits == (kind == "exit ratio")) & (self._up == (direction == "up"))].sum()), kind, direction)
            for kind in ("exit ratio", "score")
            for direction in ("up", "down")
        ]
        _, kind, direction = max(parts)
        band = self.band if kind == "exit ratio" or self.score_band is None else self.score_band
        sign, end = (1, band.hi) if direction == "up" else (-1, band.lo)
        means = {n: self.recent.last(n)[kind == "score"] for n in (*LATELY, self.recent.n) if n <= self.recent.n}
        best = max(means, key=lambda n: sign * (means[n] - end) * n**0.5)
        return Alarm(
            kind, direction, band.middle, band.lo, band.hi, band.n, self.n, self._clock(), means[best], best
        )  # fmt: skip

    def quiet(self) -> None:
        """Acknowledge the alarm and start over."""
        with self._lock:
            self._begin()

    @property
    def level(self) -> float:
        """How close an alarm is: 1 raises it. It is mostly far below without drift."""
        with self._lock:
            return float(self._weights.dot(self._sums)) / self.average_run

    @property
    def promise(self) -> str:
        """The guarantee on false alarms, in one sentence."""
        bands = [band for band in (self.band, self.score_band) if band is not None]
        if not len(self._weights):
            return "nothing is monitored: the band of the exit ratio is all of [0, 1], and the scores are unknown"
        error = sum(band.error for band in bands)
        of = f"exit ratio in {self.band.lo:.3f} to {self.band.hi:.3f}"
        if self.score_band is not None:
            of += f", mean place of the scores in {self.score_band.lo:.3f} to {self.score_band.hi:.3f}"
        return (
            f"a false alarm within T inputs has a chance of at most T / {self.average_run:,.0f}, while each input is "
            f"expected to be as usual ({of}); that these bands are wrong has a chance of at most {error:.1%}"
        )

    @property
    def notes(self) -> list[str]:
        """What the operator should know about the monitor, one line each."""
        band = self.band
        found = [band.note] if band.note else []
        if band.hi - band.lo > WIDE:
            found.append(
                f"{band.n:,} samples only show that the usual exit ratio is {band.lo:.2f} to {band.hi:.2f}: smaller "
                "changes raise no alarm; tune with more held-out samples"
            )
        if self.score_band is None:
            found.append(
                "the cascade keeps no scores of its samples, so only the exit ratio is monitored; tune it again"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """What is monitored and its current values, for operators."""
        recent, band, places = self.recent, self.band, self.score_band
        alarm, found = self.alarm, {"exit_ratio": {**_said(band), "lately": recent.exit_ratio}}
        if places is not None:
            found["score"] = {
                **_said(places),
                "lately": recent.place,
                "histogram": recent.histogram,
                "usual": recent.usual,
                "psi": recent.psi,
            }
        return {
            "alarm": None if alarm is None else {**alarm.to_json(), "text": str(alarm)},
            "n": self.n,
            "level": self.level,
            "average_run": self.average_run,
            **found,
            "promise": self.promise,
            "notes": self.notes,
        }

    def to_state(self) -> dict[str, Any]:
        """Everything to keep across a restart, as JSON."""
        with self._lock:
            return {
                "bets": self._factors[0, 0].tolist(),
                "sums": self._sums.tolist(),
                "n": self.n,
                "alarm": None if self.alarm is None else self.alarm.to_json(),
                "recent": self.recent.to_state(),
            }

    def restore(self, state: dict[str, Any]) -> bool:
        """Restore :meth:`to_state`. Returns False, and changes nothing, if the state belongs to another band. Raises
        ValueError, and changes nothing, for any other data."""
        try:
            sums, n = np.asarray(state["sums"], np.float64), int(state["n"])
            alarm = None if state["alarm"] is None else Alarm(**state["alarm"])
            recent = Recent(self._quantiles)
            recent.restore(state["recent"])
            same = np.array_equal(np.asarray(state["bets"], np.float64), self._factors[0, 0])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the state of a drift monitor: {error!r}"[:200]) from error
        if not same:
            return False
        if sums.shape != self._sums.shape or not np.isfinite(sums).all() or (sums < 0).any() or n < 0:
            raise ValueError("not the state of a drift monitor: its sums must be finite and at least 0")
        with self._lock:
            self._sums, self.n, self.alarm, self.recent = sums, n, alarm, recent
        return True


def _said(band: Band) -> dict[str, Any]:
    return {"baseline": band.middle, "lo": band.lo, "hi": band.hi, "n": band.n, "error": band.error}
