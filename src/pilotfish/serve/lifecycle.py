"""The server as a process: how it starts, and how it ends without losing accepted requests."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from pilotfish.serve.http.connection import bounded
from pilotfish.serve.http.peers import MOST, Peers
from pilotfish.serve.options import ServeOptions

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from starlette.types import ASGIApp

M_ARENA_MAX, ARENAS = -8, 2  # from malloc.h; one for the event loop and one for all other threads
KEEP_ALIVE = 75  # seconds; longer than load balancers, so that they close connections first


class Life(uvicorn.Server):
    """uvicorn's server, with a graceful end in three steps.

    app       the application
    options   host, limits, ``drain_delay`` and ``drain_limit``
    draining  called once, when the server is told to end; from then on it is not ready
    refused   called with the status of every request that is refused before *app* sees it

    On SIGTERM, SIGINT, SIGHUP or :meth:`drain` the server stops being ready and keeps answering for ``drain_delay``
    seconds; each answer closes its connection. Then it accepts no more connections, and waits up to ``drain_limit``
    seconds for accepted requests. The exit code is 0. A second signal ends the process at once, with its threads and
    children, except SIGHUP, which a closing terminal sends twice. SIGUSR1 and SIGUSR2, which ask a program to reopen
    its log files, are ignored: there are none.
    """

    def __init__(
        self,
        app: ASGIApp,
        options: ServeOptions,
        draining: Callable[[], None],
        refused: Callable[[int], None] = lambda status: None,
    ) -> None:
        self.options, self._tell = options, draining
        self.peers = Peers(MOST if options.trusted_proxy else options.limits.connections, refused=refused)
        super().__init__(
            uvicorn.Config(
                app,
                http=bounded(options.limits, self.peers),  # type: ignore[arg-type]
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=options.drain_limit,  # type: ignore[arg-type]
            )
        )
        self._told: float | None = None
        self._ends: float | None = None  # when the wait is over
        self._signalled = False

    def drain(self) -> None:
        """Begin to end; from any thread. Later calls do nothing."""
        if self._told is None:
            self._told = time.monotonic()
            self.peers.draining = True
            self._tell()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Runs amid main-thread code, which may hold locks such as a log's, so the event loop does the rest."""
        if (self._signalled or self._told is not None) and sig != signal.SIGHUP:
            end_at_once(128 + sig)
        self._signalled = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise the signal again at the end, and the exit code would not be 0."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        ending = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # the terminal closed; nohup ignores it
            ending.append(signal.SIGHUP)
        before = {sig: signal.signal(sig, self.handle_exit) for sig in ending}
        for sig in (signal.SIGUSR1, signal.SIGUSR2):
            if signal.getsignal(sig) is signal.SIG_DFL:
                before[sig] = signal.signal(sig, _nothing)  # child processes would inherit SIG_IGN
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    async def on_tick(self, counter: int) -> bool:
        if self._signalled:
            self.drain()
        if self._told is not None and time.monotonic() >= self._told + self.options.drain_delay:
            self.should_exit = True
        return await super().on_tick(counter)

    @property
    def left(self) -> float:
        """Seconds left of ``drain_limit``, which requests and engines share."""
        limit = self.options.drain_limit
        return limit if self._ends is None else max(0.0, min(limit, self._ends - time.monotonic()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ends = time.monotonic() + self.options.drain_limit
        for _ in range(3):  # take the connections that the kernel has accepted
            await asyncio.sleep(0)
        await super().shutdown(sockets)


def _nothing(sig: int, frame: FrameType | None) -> None:
    """The handler of signals that are ignored."""


def spare_what_stays() -> None:
    """Exclude everything that exists now from garbage collection: a cascade and its libraries are hundreds of thousands
    of objects. Call it again after a cascade was replaced."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def share_arenas() -> None:
    """Let all threads share freed memory. By default glibc keeps it per thread, which adds up to hundreds of MB after
    requests with large bodies. ``MALLOC_ARENA_MAX`` takes precedence if it is set."""
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):  # of another C library
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def end_at_once(code: int) -> None:
    """End the process with all its threads and children, without waiting."""
    for child in _children():
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(Exception):  # a line may be half written
        sys.stderr.flush()
    os._exit(code)


def _children() -> list[int]:
    """Child processes, on systems that list them."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            found += map(int, path.read_text().split())
    return found
