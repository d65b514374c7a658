"""A deadline that is set for every request and rarely reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LATE = 0.02  # seconds of grace to read what has arrived: the event loop may be late itself


class Deadline:
    """Calls *then* shortly after the time that was set last.

    Setting a later time, or clearing it, leaves the event loop's timer in place; when that fires, it checks whether
    the time has come. So a connection with a hundred requests a second needs two timers a minute.
    """

    __slots__ = ("_at", "_grace", "_loop", "_then", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
        self._loop, self._then = loop, then
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._grace = False

    @property
    def is_set(self) -> bool:
        """Whether a time is set."""
        return self._at is not None

    def set(self, seconds: float) -> None:
        """Set it to so many seconds from now."""
        at = self._loop.time() + seconds
        self._at, self._grace = at, False
        if self._timer is None or at < self._timer.when():
            self._arm(at)

    def clear(self) -> None:
        """Unset it."""
        self._at = None

    def close(self) -> None:
        """Unset it for good."""
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
