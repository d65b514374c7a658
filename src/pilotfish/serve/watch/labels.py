"""Labels that arrive later, by answer id: how often the cascade is right, and what its exits lose."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from pilotfish.serve.watch.betting import MeanSequence
from pilotfish.text import quantity

MOST = 50_000  # answers kept for their labels, about 20 MB
AGE = 7 * 86_400.0
SAYS = (
    "bound is a lower bound on the accuracy of answers like the labelled ones, at all times simultaneously with the "
    "stated confidence. by_traffic weights the stages as in the traffic, and holds for all answers with an id if those "
    "to label are chosen at random within each stage. Labelling what looked wrong makes both too low; labelling what "
    "was easy makes both too high"
)
Found = Literal["known", "unknown", "duplicate"]
Tell = Callable[[int, float, float, float | None], None]


class Kept(NamedTuple):
    """An answer that waits for its label.

    point       id of its operating point
    stage       that answered (in shadow mode: would have answered)
    prediction  class index
    score       of the stage, in display units
    base        the base's prediction; None if it was not asked
    at          seconds since 1970
    label       class index; None until it arrives
    """

    point: str
    stage: int
    prediction: int
    score: float
    base: int | None
    at: float
    label: int | None = None


class Labels:
    """Recent answers by id, and what their labels show about the operating point in force.

    stages      of the cascade
    most, age   how many answers to keep, and for how many seconds; the oldest go first
    confidence  of each bound, at all times simultaneously
    tell        called for every label with (stage, score, whether the answer was right, whether it agreed with the
                base, or None if that is unknown)
    clock       seconds since 1970; None: a :func:`steady_clock`

    A reused id refers to the newer answer. Labels for answers at an earlier operating point are accepted and passed to
    *tell*, but count in no bound. A second label for an answer changes nothing.
    """

    def __init__(
        self,
        stages: int,
        most: int = MOST,
        age: float = AGE,
        confidence: float = 0.95,
        tell: Tell | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.most, self.age, self.confidence, self.tell = most, age, confidence, tell
        self.clock = steady_clock() if clock is None else clock
        self.kept: OrderedDict[str, Kept] = OrderedDict()
        self.changed: dict[str, Kept] | None = None  # since the store last asked; None without a store
        self.counts = {"known": 0, "unknown": 0, "duplicate": 0, "earlier": 0, "contradicted": 0, "reused": 0}
        self._lock, self._stages = threading.Lock(), stages
        self.begin("")

    def begin(self, point: str) -> None:
        """Start over at a new operating point: accuracies and bounds."""
        with self._lock:
            self.point = point
            self.traffic = [0] * self._stages
            self._wrong = [MeanSequence() for _ in range(self._stages)]
            self._all, self._gap = MeanSequence(), MeanSequence()
            self._base_right = 0

    def answered(
        self, key: str, point: str, stage: int, prediction: int, score: float, base: int | None = None
    ) -> None:
        """Keep an answer until its label arrives; see :class:`Kept`."""
        with self._lock:
            kept = Kept(point, stage, prediction, score, base, self._now())
            if self.kept.pop(key, None) is not None:
                self.counts["reused"] += 1
            self._set(key, kept)
            if point == self.point:
                self.traffic[stage] += 1
            self._forget()

    def base_said(self, key: str, point: str, prediction: int) -> None:
        """Add the base's prediction for an answer, from an audit."""
        with self._lock:
            kept = self.kept.get(key)
            if kept is not None and kept.point == point and kept.label is None:
                self._set(key, kept._replace(base=prediction))

    def truth(self, key: str, label: int) -> Found:
        """Count the label of the answer with id *key*: ``known``, ``unknown`` (never seen, or too old) or ``duplicate``
        (labelled already)."""
        with self._lock:
            self._forget()
            kept = self.kept.get(key)
            found: Found = "unknown" if kept is None else "known" if kept.label is None else "duplicate"
            self.counts[found] += 1
            if kept is None or found == "duplicate":
                self.counts["contradicted"] += kept is not None and kept.label != label
                return found
            self._set(key, kept._replace(label=label))
            right = float(kept.prediction == label)
            if kept.point == self.point:
                self._count(kept, right, label)
            else:
                self.counts["earlier"] += 1
        if self.tell is not None:
            agreed = None if kept.base is None else float(kept.prediction == kept.base)
            self.tell(kept.stage, kept.score, right, agreed)
        return found

    def _count(self, kept: Kept, right: float, label: int) -> None:
        self._all.add(1 - right)
        self._wrong[kept.stage].add(1 - right)
        if kept.base is not None and kept.stage + 1 < self._stages:
            base_right = kept.base == label
            self._base_right += base_right
            self._gap.add((1 + base_right - right) / 2)

    def _now(self) -> float:
        """The time of the next answer, never before the newest one even if the clock was set back."""
        newest = next(reversed(self.kept.values()), None)
        return self.clock() if newest is None else max(self.clock(), newest.at)

    def _set(self, key: str, kept: Kept) -> None:
        self.kept[key] = kept
        if self.changed is not None:
            self.changed[key] = kept

    def _forget(self) -> None:
        oldest = self.clock() - self.age
        while self.kept and (len(self.kept) > self.most or next(iter(self.kept.values())).at < oldest):
            gone, _ = self.kept.popitem(last=False)
            if self.changed is not None:
                self.changed.pop(gone, None)

    def to_json(self) -> dict[str, Any]:
        """``labels`` of ``GET /v2/models/M/audit``. None means that there are no labels for it."""
        with self._lock:
            alpha, gap = 1 - self.confidence, self._gap
            seen = sum(self.traffic)
            of_traffic = [count / seen if seen else 0.0 for count in self.traffic]
            there = [k for k, share in enumerate(of_traffic) if share]
            weighted = None
            if seen and all(self._wrong[k].n for k in there):
                uppers = [of_traffic[k] * self._wrong[k].upper(alpha / len(there)) for k in there]
                right = sum(of_traffic[k] * (1 - (self._wrong[k].mean or 0.0)) for k in there)
                weighted = {"accuracy": right, "bound": max(0.0, 1 - sum(uppers))}
            return {
                "n": self._all.n,
                "accuracy": _right(self._all),
                "bound": 1 - self._all.upper(alpha),
                "confidence": self.confidence,
                "by_traffic": weighted,
                "by_stage": [
                    {"stage": k, "n": one.n, "accuracy": _right(one), "bound": 1 - one.upper(alpha), "traffic": share}
                    for k, (one, share) in enumerate(zip(self._wrong, of_traffic, strict=True))
                ],
                "exits_against_base": {
                    "n": gap.n,
                    "base_accuracy": self._base_right / gap.n if gap.n else None,
                    "drop": None if gap.mean is None else 2 * gap.mean - 1,
                    "drop_bound": 2 * gap.upper(alpha) - 1,
                },
                **self.counts,
                "kept": len(self.kept),
                "bounds": SAYS,
                "notes": self._notes(of_traffic),
            }

    def _notes(self, of_traffic: list[float]) -> list[str]:
        found, n = [], self._all.n
        for k, (one, share) in enumerate(zip(self._wrong, of_traffic, strict=True)):
            if n >= 50 and abs(one.n / n - share) > 0.1:
                found.append(
                    f"stage {k} has {100 * one.n / n:.0f}% of the labels and {100 * share:.0f}% of the answers: labels "
                    "are not a random sample of the traffic; read by_traffic"
                )
        if self.counts["contradicted"]:
            found.append(
                f"{self.counts['contradicted']} labels contradict an earlier label of the same id; the first one counts"
            )
        if self.counts["reused"]:
            again = quantity(self.counts["reused"], "id")
            found.append(f"{again} came again with another input; labels go to the newest answer")
        if self.counts["unknown"] > max(self.counts["known"], 10):
            found.append(
                f"{self.counts['unknown']} labels have unknown ids: never sent with a request, older than "
                f"{self.age / 86_400:g} days, or not among the last {self.most:,} answers"
            )
        return found

    @property
    def oldest(self) -> float:
        """Time of the oldest answer that is kept, seconds since 1970; the current time if there is none."""
        with self._lock:
            return next((kept.at for kept in self.kept.values()), self.clock())

    def take_changed(self) -> dict[str, Kept]:
        """Answers that are new or changed since the last call, for the store; all of them at the first call."""
        with self._lock:
            found, self.changed = self.changed, {}
            return dict(self.kept) if found is None else found

    def to_state(self) -> dict[str, Any]:
        """Everything except the answers, as plain JSON."""
        with self._lock:
            return {
                "point": self.point,
                "traffic": self.traffic,
                "counts": dict(self.counts),
                "base_right": self._base_right,
                "all": self._all.to_state(),
                "gap": self._gap.to_state(),
                "wrong": [one.to_state() for one in self._wrong],
            }

    def restore(self, state: Mapping[str, Any], kept: Mapping[str, Kept]) -> None:
        """Restore :meth:`to_state` and the answers, oldest first. Raises ValueError for any other data."""
        wrong = [MeanSequence.of_state(one) for one in state["wrong"]]
        everything, gap = MeanSequence.of_state(state["all"]), MeanSequence.of_state(state["gap"])
        if len(wrong) != self._stages or len(state["traffic"]) != self._stages:
            raise ValueError(f"labels of {len(wrong)} stages, expected {self._stages}")
        counts = {name: int(state["counts"].get(name, 0)) for name in self.counts}
        with self._lock:
            self.point, self.traffic = str(state["point"]), [int(count) for count in state["traffic"]]
            self.counts, self._base_right = counts, int(state["base_right"])
            self._wrong, self._all, self._gap = wrong, everything, gap
            self.kept = OrderedDict(kept)
            self._forget()


def steady_clock() -> Callable[[], float]:
    """A clock of seconds since 1970 that starts at the system's time and does not jump when that is set."""
    ahead = time.time() - time.monotonic()
    return lambda: ahead + time.monotonic()


def _right(wrong: MeanSequence) -> float | None:
    return None if wrong.mean is None else 1 - wrong.mean
