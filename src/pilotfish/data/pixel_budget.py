"""One budget of pixels for all threads that decode: large images wait for each other, small ones hardly ever do."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator

TOTAL = 180_000_000
"""Pixels that are decoded, or held after it, at once: 8 bytes a pixel while it is decoded, 4 after it."""


HUGE = 2**24
"""Pixels from which what was freed is handed back to the system at once."""


class PixelBudget:
    """Pixels for all threads; who asks first is served first."""

    def __init__(self, total: int = TOTAL) -> None:
        self.total = total
        self.free = total
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._own = threading.local()

    @contextlib.contextmanager
    def decoding(self, pixels: int) -> Iterator[None]:
        """Wait until *pixels* are free, and take them; within ``in_hand`` they stay taken until it ends.

        A thread that already holds some never waits, so that two threads cannot wait for each other.
        """
        pixels = min(pixels, self.total)
        held = getattr(self._own, "held", None)
        if held:
            with self._changed:
                self.free -= pixels
        else:
            with self._turn, self._changed:
                self._changed.wait_for(lambda: self.free >= pixels)
                self.free -= pixels
        try:
            yield
        finally:
            if held is None:
                self._give_back(pixels)
            else:
                held.append(pixels)

    @contextlib.contextmanager
    def in_hand(self) -> Iterator[None]:
        """What this thread decodes counts until the end of the block: while it is resized and cropped, too."""
        if getattr(self._own, "held", None) is not None:
            yield
            return
        self._own.held = []
        try:
            yield
        finally:
            taken = sum(self._own.held)
            self._own.held = None
            self._give_back(taken)

    def _give_back(self, pixels: int) -> None:
        if pixels >= HUGE:
            _trim()
        if pixels:
            with self._changed:
                self.free += pixels
                self._changed.notify_all()


def _trim() -> None:
    """Each thread's allocator keeps what it freed for itself; after a huge image that is a gigabyte a thread."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


PIXELS = PixelBudget()
"""The budget of this process."""
