"""What the console draws of the last minutes: a ring of counts, the audit's way so far, and the last things to look at.

All of it is bounded and lives in memory alone: after a restart it begins anew.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pilotfish.serve.report.alarm_words import alarm_words

if TYPE_CHECKING:
    from pilotfish.serve.served import Served
    from pilotfish.serve.watch.audit import Audit
    from pilotfish.serve.watch.drift import Alarm

STEP = 5.0  # seconds that one place of the ring counts
STEPS = 120  # places of the ring: ten minutes
KEPT = 20  # flagged answers and alarms that are remembered
MARKS = 120  # places of the audit's way
LONGEST = 200  # characters of an id, a name or an error
NONE = (0, 0, 0, 0)  # answered, exited, failed, refused


class History:
    """The last ten minutes of one cascade, for people to look at.

    clock  seconds since 1970

    Threads may share one. What is told takes a microsecond or two, however long the server has run.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._ring = [list(NONE) for _ in range(STEPS)]
        self._place = int(clock() // STEP)
        self._flagged: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._alarms: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._marks: list[tuple[int, float, float]] = []
        self._audited, self._apart = 0, 1  # which operating point, and audits between two marks of it

    # What the server tells.

    def answered(self, served: Served, exited: bool, request: str) -> None:
        """One input was answered. exited: whether the rule let it exit at the first stage, whatever overruled it;
        request: the id of its request."""
        answer = served.answer
        failed = answer.error is not None
        with self._lock:
            counts = self._now()
            counts[0] += 1
            counts[1] += exited and not failed
            counts[2] += failed
            if failed or any(flag != "shadow" for flag in served.flags):
                self._flagged.append(
                    {
                        "at": self._clock(),
                        "id": _short(served.id),
                        "request": _short(request),
                        "name": _short(answer.name if answer.name is not None else answer.prediction),
                        "stage": answer.stage,
                        "confidence": _finite(answer.confidence),
                        "flags": list(served.flags),
                        "error": _short(answer.error),
                    }
                )

    def refused(self, n: int) -> None:
        """*n* inputs were refused: no answer was begun."""
        with self._lock:
            self._now()[3] += n

    def alarmed(self, point: str, alarm: Alarm) -> None:
        """An alarm was raised at the operating point of that id."""
        with self._lock:
            self._alarms.append({"at": alarm.at, "point": point, **alarm_words(alarm)})

    def audited(self, point: str, audit: Audit) -> None:
        """An audit of the operating point of that id has come back. Marks are of the newest point. When they are full
        every second one is let go, so they reach back to the first, about evenly apart; the bound is asked for where
        there is a mark alone."""
        with self._lock:
            if int(point) > self._audited:
                self._audited, self._marks, self._apart = int(point), [], 1
            n = audit.n
            if int(point) < self._audited or (self._marks and n - self._marks[-1][0] < self._apart):
                return
            self._marks.append((n, audit.disagreement or 0.0, audit.bound))
            if len(self._marks) > MARKS:
                self._marks, self._apart = self._marks[::2], 2 * self._apart

    # What is read.

    def traffic(self) -> dict[str, Any]:
        """The ring, oldest place first: ``step``, the seconds of a place; ``end`` of the last one, which is not over
        yet, in seconds since 1970; and by place how many inputs were ``answered`` (failed ones as well), of them
        ``exited`` and ``failed``, and how many were ``refused``."""
        with self._lock:
            self._now()
            first = (self._place + 1) % STEPS
            columns = [list(column) for column in zip(*self._ring[first:], *self._ring[:first], strict=True)]
        names = ("answered", "exited", "failed", "refused")
        return {"step": STEP, "end": (self._place + 1) * STEP, **dict(zip(names, columns, strict=True))}

    def flagged(self) -> list[dict[str, Any]]:
        """The last answers with flags or errors, oldest first."""
        with self._lock:
            return list(self._flagged)

    def alarms(self) -> list[dict[str, Any]]:
        """The last alarms, oldest first: ``at``, ``point``, and what :func:`alarm_words` says."""
        with self._lock:
            return list(self._alarms)

    def marks(self, point: str) -> list[tuple[int, float, float]]:
        """(audits, disagreement, bound) along the way of that operating point's audit, at most 120."""
        with self._lock:
            return list(self._marks) if int(point) == self._audited else []

    def _now(self) -> list[int]:
        """The place of now, once those are cleared that time has passed; after a clock was set back, the newest."""
        place = int(self._clock() // STEP)
        if place > self._place:
            for passed in range(max(self._place, place - STEPS) + 1, place + 1):
                self._ring[passed % STEPS] = list(NONE)
            self._place = place
        return self._ring[self._place % STEPS]


def _short(text: object) -> str | None:
    return None if text is None else str(text)[:LONGEST]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
