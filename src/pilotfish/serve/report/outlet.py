"""A stream of log lines that never blocks the writer: lines for a slow reader wait in memory, and are dropped beyond a
limit."""

from __future__ import annotations

import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

MOST = 1 << 20  # bytes that may wait for a reader
ATOMIC = select.PIPE_BUF  # bytes that a ready pipe takes at once
SOON = 0.05  # seconds


class Outlet:
    """Writes lines to *stream* without blocking.

    stream  a file takes lines at once. A pipe, a socket or a terminal takes them while its reader keeps up; otherwise a
            thread writes them, and lines beyond *most* bytes are dropped
    says    returns a line about so many dropped lines, written once there is room again
    """

    def __init__(self, stream: TextIO, says: Callable[[int], str], most: int = MOST) -> None:
        self.stream, self.most, self._says = stream, most, says
        self._waiting: deque[bytes] = deque()
        self._size = self._left_out = 0
        self._lock, self._done = threading.Lock(), threading.Event()
        self._done.set()

    def write(self, line: str) -> None:
        """Write *line*, without a line end, now or later. Errors are ignored."""
        try:
            descriptor = _blocking(self.stream)
            with self._lock:
                if descriptor is None:
                    self.stream.write(line + "\n")
                    self.stream.flush()
                    return
                data = (line + "\n").encode(errors="backslashreplace")
                if self._done.is_set() and len(data) <= ATOMIC and _takes(descriptor):
                    data = data[_written(descriptor, data) :]
                if data:
                    self._wait(descriptor, data)
        except (OSError, ValueError, RuntimeError):  # no reader, a full disk; no new thread at the end of the process
            pass

    def settle(self, seconds: float) -> None:
        """Wait up to so many seconds until all lines are written."""
        self._done.wait(seconds)

    def _wait(self, descriptor: int, data: bytes) -> None:
        if self._left_out or self._size + len(data) > self.most:  # a single gap, in which a line reports it
            self._left_out += 1
            return
        self._waiting.append(data)
        self._size += len(data)
        if self._done.is_set():
            self._done.clear()
            threading.Thread(target=self._drain, args=[descriptor], name="pilotfish-log", daemon=True).start()

    def _drain(self, descriptor: int) -> None:
        while True:
            with self._lock:
                if self._waiting:
                    data = self._waiting.popleft()
                    self._size -= len(data)
                elif self._left_out:
                    data = (self._says(self._left_out) + "\n").encode()
                    self._left_out = 0
                else:
                    self._done.set()
                    return
            try:
                while data:
                    data = data[_written(descriptor, data) :]
                    if data and not _takes(descriptor):
                        time.sleep(SOON)
            except OSError:  # the reader is gone: drop what waits
                with self._lock:
                    self._waiting.clear()
                    self._size = self._left_out = 0


def _written(descriptor: int, data: bytes) -> int:
    """How many bytes of *data* were written; 0 if the descriptor does not block and is full."""
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0


def _takes(descriptor: int) -> bool:
    """Whether ATOMIC bytes can be written at once. A terminal that takes some may not take that many."""
    ready = select.poll()
    ready.register(descriptor, select.POLLOUT)
    return bool(ready.poll(0)) and not os.isatty(descriptor)


def _blocking(stream: TextIO) -> int | None:
    """The descriptor of a stream whose writes may block; None for any other."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    mode = os.fstat(descriptor).st_mode
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode) else None
