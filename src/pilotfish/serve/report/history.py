"""The recent history that the console shows: a ring of counts, the course of the audit, and the last notable events.

All of it is bounded and kept in memory only: it starts empty after a restart.
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

STEP = 5.0  # seconds per slot of the ring
STEPS = 120  # slots of the ring: ten minutes
KEPT = 20  # flagged answers and alarms kept
MARKS = 120  # marks on the course of the audit
LONGEST = 200  # characters kept of an id, a name or an error
NONE = (0, 0, 0, 0)  # answered, exited, failed, refused


class History:
    """The last ten minutes of one cascade, for display.

    clock  seconds since 1970

    Thread-safe. An update takes a microsecond or two, however long the server has run.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._ring = [list(NONE) for _ in range(STEPS)]
        self._place = int(clock() // STEP)
        self._flagged: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._alarms: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._marks: list[tuple[int, float, float]] = []
        self._audited, self._apart = 0, 1  # the operating point, and audits between two of its marks

    # Called by the server.

    def answered(self, served: Served, exited: bool, request: str) -> None:
        """Add the answer to one input. exited: whether the rule let it exit at the first stage, even if overruled;
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
        """Add *n* inputs that were refused."""
        with self._lock:
            self._now()[3] += n

    def alarmed(self, point: str, alarm: Alarm) -> None:
        """Add an alarm raised at the operating point with that id."""
        with self._lock:
            self._alarms.append({"at": alarm.at, "point": point, **alarm_words(alarm)})

    def audited(self, point: str, audit: Audit) -> None:
        """Add a finished audit of the operating point with that id. Marks are kept for the newest point. When they are
        full, every second one is dropped, so that they span all audits about evenly; the bound is computed only for
        marks."""
        with self._lock:
            if int(point) > self._audited:
                self._audited, self._marks, self._apart = int(point), [], 1
            n = audit.n
            if int(point) < self._audited or (self._marks and n - self._marks[-1][0] < self._apart):
                return
            self._marks.append((n, audit.disagreement or 0.0, audit.bound))
            if len(self._marks) > MARKS:
                self._marks, self._apart = self._marks[::2], 2 * self._apart

    # Read by the console.

    def traffic(self) -> dict[str, Any]:
        """The ring, oldest slot first: ``step``, the seconds of a slot; ``end`` of the last, which is still running, in
        seconds since 1970; and by slot the inputs ``answered`` (failed ones included), of these ``exited`` and
        ``failed``, and the inputs ``refused``."""
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
        """The last alarms, oldest first: ``at``, ``point``, and the texts of :func:`alarm_words`."""
        with self._lock:
            return list(self._alarms)

    def marks(self, point: str) -> list[tuple[int, float, float]]:
        """(audits, disagreement, bound) over the course of that operating point's audit, at most 120."""
        with self._lock:
            return list(self._marks) if int(point) == self._audited else []

    def _now(self) -> list[int]:
        """The current slot, after clearing those skipped; the newest one if the clock was set back."""
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
