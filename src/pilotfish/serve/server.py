"""The server: cascades by name, as an ASGI application and as a program."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotfish.errors import UsageError, nearest, needs, reason
from pilotfish.serve.hosted import Hosted
from pilotfish.serve.http.access import Access, access_notes
from pilotfish.serve.options import ServeOptions
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.reload import watch
from pilotfish.serve.report.logs import Log, relay
from pilotfish.serve.report.metrics import Causes
from pilotfish.serve.report.prometheus import Exposition
from pilotfish.serve.resume import keep_state
from pilotfish.serve.threads import in_thread
from pilotfish.serve.watch.store import Store

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

    from pilotfish.serve.lifecycle import Life

ACCEPTS = 16
"""Connections accepted in one turn of the event loop. libuv accepts one per listening socket, and with hundreds of
clients a turn takes a tenth of a second, so new clients would wait for seconds."""

Folders = str | Path | Mapping[str, str | Path]


class Server:
    """Cascades behind HTTP.

        server = Server("cascade/")           # or {"birds": "cascades/birds", "cars": "cascades/cars"}
        server.run()                          # until SIGTERM
        app.mount("/cascade", server.app)     # or inside another ASGI application

    cascades  a folder, served by its own name, or folders by name
    options   how it answers and what it monitors

    The cascades are loaded here, so a faulty folder or model raises before anything listens. When the server starts it
    runs every stage once, and then it is ready.
    """

    def __init__(self, cascades: Folders, options: ServeOptions | None = None) -> None:
        with needs("starlette", "serve", "pilotfish serve"):
            from pilotfish.serve.http.app import make_app
        self.options = options or ServeOptions()
        named = cascades if isinstance(cascades, Mapping) else {Path(cascades).resolve().name: cascades}
        if not named:
            raise UsageError("there is no cascade to serve; give a folder, or NAME=FOLDER")
        for name in named:
            if not name or not name.isprintable() or set(name) & set("/?#%\\") or name in (".", "..", "stats"):
                said = "a cascade needs a name that is valid in a URL and is not stats"
                raise UsageError(f"{said}; found {name!r}; write NAME=FOLDER")
        self.access = Access(self.options.tokens, self.options.trusted_proxy)
        self.log = Log(self.options.log_format, access=self.options.access_log)
        self.store = None if self.options.state is None else Store(self.options.state)
        try:
            self.models = {name: Hosted(name, Path(folder), self.options, self.log) for name, folder in named.items()}
            if self.store is not None:
                for hosted in self.models.values():
                    hosted.notes += tuple(keep_state(hosted, self.store))
        except BaseException:
            if self.store is not None:
                self.store.close()
            raise
        self.causes = Causes()  # of refusals that belong to no cascade
        self.exposition = Exposition(self.models.values, self.causes, self.connections, self.unwritten)
        self.draining = False
        self._begun: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._life: Life | None = None
        self._at_rest: Callable[[], None] = lambda: None  # called after cascades were loaded
        self._fault: Exception | None = None  # why it cannot start
        self._on_ready: Callable[[], None] = lambda: None
        self.address: tuple[str, int] = ("", 0)
        self.app: ASGIApp = make_app(self)

    @property
    def ready(self) -> bool:
        """Whether every cascade answers requests."""
        return not self.draining and all(hosted.state == "READY" for hosted in self.models.values())

    @property
    def notes(self) -> list[str]:
        """What the operator should know, one line each."""
        several = len(self.models) > 1
        found = [
            f"{name}: {note}" if several and not note.startswith(name) else note
            for name, one in self.models.items()
            for note in one.notes
        ]
        return found + access_notes(self.options.host, self.options.tokens)

    def hosted(self, name: str | None = None) -> Hosted:
        """The cascade called *name*; None: the only one. Raises Refusal if there is no such cascade, or several."""
        self.wake()
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        if name is None:
            raise Refusal(400, f"several cascades are served; name one of {', '.join(self.models)}", "bad_request")
        if name not in self.models:
            raise Refusal(404, f"there is no model {name[:60]!r} here; {nearest(name, self.models)}", "not_found")
        return self.models[name]

    # Lifecycle

    def wake(self) -> asyncio.Task[None]:
        """Start the warm-up if it has not started. Requests and probes call it too, as an application that mounts the
        server may not enter its lifespan."""
        if self._begun is None or self._begun.cancelled():  # together with an earlier event loop
            self._begun = asyncio.create_task(self._warm_up())
        return self._begun

    async def begin(self) -> None:
        """Warm up every stage, then take requests and watch the folders. Later calls do nothing more."""
        await asyncio.shield(self.wake())

    async def _warm_up(self) -> None:
        try:
            for hosted in self.models.values():
                await in_thread(hosted.warm_up)
        except Exception as error:  # an application that mounts it goes on, and the server is not ready
            self._fault = error
            self.log("error", f"{hosted.name} cannot be served, as it fails to run: {reason(error)}", "error")
            self.stop()
        if self._fault is not None or self.draining:
            return
        if self.options.reload:
            self._watching = asyncio.create_task(watch(list(self.models.values()), self._reloaded))
        self._at_rest()
        if self.address[1]:
            self.log("ready", self.ready_line)
        self._on_ready()

    def _reloaded(self, hosted: Hosted, error: Exception | None) -> None:
        point = hosted.point.id
        hosted.meter.reloaded(error is None)
        if error is None:
            self._at_rest()
            self.log("reload", f"{hosted.name} was loaded again", model=hosted.name, operating_point=point)
        else:
            said = f"{hosted.name} has changed and cannot be loaded; the old one stays in use: {reason(error)}"
            self.log("reload", said, "error", model=hosted.name, operating_point=point)

    async def end(self) -> None:
        """Answer accepted requests within the limit, and end the engines."""
        self._told_to_end()
        if self._watching is not None:
            self._watching.cancel()
        limit = self.options.drain_limit if self._life is None else self._life.left
        await asyncio.gather(*(in_thread(partial(hosted.drain, limit)) for hosted in self.models.values()))
        if self.store is not None:
            await asyncio.to_thread(self.store.close)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """The lifespan for an application that mounts :attr:`app`. The server is live at once, and ready when every
        stage has run."""
        task = asyncio.create_task(self.begin())
        try:
            yield
        finally:
            task.cancel()
            await self.end()

    @property
    def ready_line(self) -> str:
        """The line that says where the server listens."""
        host, port = self.address
        return f"ready http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or Ctrl-C. *ready* is called once the server takes requests."""
        import uvloop

        from pilotfish.serve.lifecycle import share_arenas, spare_what_stays

        if asyncio._get_running_loop() is not None:
            raise UsageError("an event loop is already running, as in a notebook; write await server.serve() instead")
        self._at_rest = spare_what_stays  # the process is the server's own
        share_arenas()
        logging.captureWarnings(True)
        for library in ("pilotfish", "py.warnings"):
            relay(library, self.log)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self.serve(ready))
        finally:
            self.log.settle(1.0)

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve in the current event loop until :meth:`stop`; *ready* is called once the server takes requests. In the
        main thread SIGTERM and SIGINT stop it as well. Raises ModelError, or what a stage raised, if one cannot run."""
        from pilotfish.serve.lifecycle import Life

        if self.draining:
            raise UsageError("this server has ended; make a new one")
        self._on_ready = ready
        for library in ("uvicorn.error", "asyncio"):
            relay(library, self.log)
        self._life = Life(self.app, self.options, self._told_to_end, self._refused)
        bound = self.bound()
        await self._life.serve(sockets=[bound, *(bound.dup() for _ in range(ACCEPTS - 1))])
        if self._fault is not None:
            raise self._fault

    def connections(self) -> int | None:
        """How many are open; None if another server listens."""
        return None if self._life is None else len(self._life.peers)

    def unwritten(self) -> bool | None:
        """Whether the state file cannot be written now; None if there is none."""
        return None if self.store is None else self.store.fault is not None

    def _refused(self, status: int) -> None:
        """Count a request that was refused before any route saw it."""
        self.causes.refused({408: "slow", 431: "too_large", 503: "full"}.get(status, "bad_request"))

    def stop(self) -> None:
        """End :meth:`serve` once accepted requests are answered. Call it in the server's event loop."""
        if self._life is not None:
            self._life.drain()

    def _told_to_end(self) -> None:
        if not self.draining:
            self.draining = True
            self.log("drain", "told to end: no longer ready; accepted requests are still answered")

    def bound(self) -> socket.socket:
        """A socket that listens on the host and port of the options. Raises UsageError if it cannot."""
        import socket

        host, port = self.options.host.strip("[]"), self.options.port
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            found = socket.create_server(address[:2], family=family, backlog=2048)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
            why = (getattr(error, "strerror", None) or str(error)).partition(" (while")[0]
            raise UsageError(f"cannot listen on {host}:{port}: {why}; write another --port or --host") from None
        found.setblocking(False)
        # Connections inherit this. asyncio does not set it here, and a second request would wait 40 ms for its answer.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = found.getsockname()[:2]
        return found
