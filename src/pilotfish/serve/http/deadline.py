"""A deadline that is set with every request and seldom reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LATE = 0.02  # seconds after a deadline in which what has arrived is still read: the event loop may be late itself


class Deadline:
    """Calls *then* once the time that was set last is over, and a moment more.

    Setting it later, or clearing it, leaves the timer of the event loop as it is; when that runs, it looks whether it
    is time. So a connection with a hundred requests a second has two timers a minute.
    """

    __slots__ = ("_at", "_grace", "_loop", "_then", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
        self._loop, self._then = loop, then
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._grace = False

    @property
    def is_set(self) -> bool:
        """Whether it may be reached."""
        return self._at is not None

    def set(self, seconds: float) -> None:
        """From now."""
        at = self._loop.time() + seconds
        self._at, self._grace = at, False
        if self._timer is None or at < self._timer.when():
            self._arm(at)

    def clear(self) -> None:
        """It is not reached any more."""
        self._at = None

    def close(self) -> None:
        """For good."""
        self._at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._at is None:
            return
        if self._loop.time() < self._at:
            self._arm(self._at)
        elif not self._grace:
            self._grace = True
            self._arm(self._loop.time() + LATE)
        else:
            self._at = None
            self._then()
