"""Labels that come later, by the id of an answer: how often the cascade is right, and what it loses by its exits."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from pilotfish.serve.watch.betting import MeanSequence
from pilotfish.text import quantity

MOST = 50_000  # answers that are kept for their labels: some 20 MB
AGE = 7 * 86_400.0
SAYS = (
    "bound is a lower bound of the accuracy of answers such as were labelled, at every time at once with the stated "
    "confidence; by_traffic weighs the stages as the traffic has them, and holds for all answers with an id if those "
    "to be labelled are chosen at random within each stage. Labels that are asked for where something looked wrong "
    "make both too low; labels of what was easy to label make both too high"
)
Found = Literal["known", "unknown", "duplicate"]
Tell = Callable[[int, float, float, float | None], None]


class Kept(NamedTuple):
    """An answer that waits for its label.

    point       id of the operating point that gave it
    stage       that the cascade answered by (in shadow mode: would have)
    prediction  class index; base: the base's, None where it was not asked
    score       of the stage, as people read it
    at          seconds since 1970
    label       its class index, once it came
    """

    point: str
    stage: int
    prediction: int
    score: float
    base: int | None
    at: float
    label: int | None = None


class Labels:
    """The answers of late by id, and what their labels say of the operating point in force.

    stages      of the cascade
    most, age   answers that are kept, and for how many seconds; the oldest go first
    confidence  of each bound, at every time at once
    tell        told of every label of an answer: (stage, score, whether it was right, whether it agreed with the base
                as far as that was known: else None)
    clock       seconds since 1970; None: a :func:`steady_clock`

    An id that comes again stands for the newer answer. Labels of answers by an earlier operating point are taken and
    told, and count in no bound. A second label for one answer changes nothing.
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
        self.changed: dict[str, Kept] | None = None  # since the store asked, if there is one
        self.counts = {"known": 0, "unknown": 0, "duplicate": 0, "earlier": 0, "contradicted": 0, "reused": 0}
        self._lock, self._stages = threading.Lock(), stages
        self.begin("")

    def begin(self, point: str) -> None:
        """A new operating point: accuracies and bounds begin anew."""
        with self._lock:
            self.point = point
            self.traffic = [0] * self._stages
            self._wrong = [MeanSequence() for _ in range(self._stages)]
            self._all, self._gap = MeanSequence(), MeanSequence()
            self._base_right = 0

    def answered(
        self, key: str, point: str, stage: int, prediction: int, score: float, base: int | None = None
    ) -> None:
        """Keep an answer until its label comes; see :class:`Kept`."""
        with self._lock:
            kept = Kept(point, stage, prediction, score, base, self._now())
            if self.kept.pop(key, None) is not None:
                self.counts["reused"] += 1
            self._set(key, kept)
            if point == self.point:
                self.traffic[stage] += 1
            self._forget()

    def base_said(self, key: str, point: str, prediction: int) -> None:
        """An audit came back: what the base says of an answer."""
        with self._lock:
            kept = self.kept.get(key)
            if kept is not None and kept.point == point and kept.label is None:
                self._set(key, kept._replace(base=prediction))

    def truth(self, key: str, label: int) -> Found:
        """The label of the answer called *key*: whether that is known, unknown (never seen, or too old), or has its
        label already."""
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
        """When the next answer is kept: not before the newest that is, whatever was done to the clock."""
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
        """``labels`` of ``GET /v2/models/M/audit``. None stands for what no label says anything of."""
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
                    "are no random sample of the traffic; read by_traffic"
                )
        if self.counts["contradicted"]:
            found.append(
                f"{self.counts['contradicted']} labels contradict an earlier one of the same id; the first counts"
            )
        if self.counts["reused"]:
            again = quantity(self.counts["reused"], "id")
            found.append(f"{again} came again with another input; labels go to the newest answer")
        if self.counts["unknown"] > max(self.counts["known"], 10):
            found.append(
                f"{self.counts['unknown']} labels are of ids that are not known: never given with a request, older "
                f"than {self.age / 86_400:g} days, or not of the last {self.most:,} answers"
            )
        return found

    @property
    def oldest(self) -> float:
        """When the oldest answer was given that is kept, seconds since 1970; now where there is none."""
        with self._lock:
            return next((kept.at for kept in self.kept.values()), self.clock())

    def take_changed(self) -> dict[str, Kept]:
        """Answers that are new or other since the last call, all at first; for the store."""
        with self._lock:
            found, self.changed = self.changed, {}
            return dict(self.kept) if found is None else found

    def to_state(self) -> dict[str, Any]:
        """All but the answers, as plain JSON."""
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
        """Go on from :meth:`to_state` and the answers, oldest first. ValueError for anything else."""
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
    """Seconds since 1970 by the system's clock of now; from then on it does not jump when that one is set."""
    ahead = time.time() - time.monotonic()
    return lambda: ahead + time.monotonic()


def _right(wrong: MeanSequence) -> float | None:
    return None if wrong.mean is None else 1 - wrong.mean
