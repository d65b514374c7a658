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
"""Connections that are accepted in one turn of the event loop. libuv accepts one of each listening socket, and a turn
takes a tenth of a second where hundreds of clients ask: new ones would wait for seconds."""

Folders = str | Path | Mapping[str, str | Path]


class Server:
    """Cascades behind HTTP.

        server = Server("cascade/")           # or {"birds": "cascades/birds", "cars": "cascades/cars"}
        server.run()                          # until SIGTERM
        app.mount("/cascade", server.app)     # or in somebody else's ASGI application

    cascades  a folder, which is served by its own name, or folders by name
    options   how it answers and what it watches

    Loading happens here: what a folder or a model is at fault with is raised before anything listens. Every stage is
    run once when the server begins, and then it is ready.
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
                said = "a cascade is served by a name that can stand in an address, other than stats"
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
        self.causes = Causes()  # of refusals that concern none of the cascades
        self.exposition = Exposition(self.models.values, self.causes, self.connections, self.unwritten)
        self.draining = False
        self._begun: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._life: Life | None = None
        self._at_rest: Callable[[], None] = lambda: None  # once cascades were loaded
        self._fault: Exception | None = None  # why it cannot begin
        self._on_ready: Callable[[], None] = lambda: None
        self.address: tuple[str, int] = ("", 0)
        self.app: ASGIApp = make_app(self)

    @property
    def ready(self) -> bool:
        """Whether every cascade answers requests."""
        return not self.draining and all(hosted.state == "READY" for hosted in self.models.values())

    @property
    def notes(self) -> list[str]:
        """What the operator should know, a line each."""
        several = len(self.models) > 1
        found = [
            f"{name}: {note}" if several and not note.startswith(name) else note
            for name, one in self.models.items()
            for note in one.notes
        ]
        return found + access_notes(self.options.host, self.options.tokens)

    def hosted(self, name: str | None = None) -> Hosted:
        """The cascade called *name*; None: the only one. Refusal where there is none, or several."""
        self.wake()
        if name is None and len(self.models) == 1:
            return next(iter(self.models.values()))
        if name is None:
            raise Refusal(400, f"several cascades are served; name one of {', '.join(self.models)}", "bad_request")
        if name not in self.models:
            raise Refusal(404, f"there is no model {name[:60]!r} here; {nearest(name, self.models)}", "not_found")
        return self.models[name]

    # Its life.

    def wake(self) -> asyncio.Task[None]:
        """Begin to warm up, unless that has begun: requests and probes do, as an application in which the server is
        mounted may not enter its lifespan."""
        if self._begun is None or self._begun.cancelled():  # with its event loop, and this is another one
            self._begun = asyncio.create_task(self._warm_up())
        return self._begun

    async def begin(self) -> None:
        """Run every stage once, so that requests are answered, and watch the folders. Once is enough."""
        await asyncio.shield(self.wake())

    async def _warm_up(self) -> None:
        try:
            for hosted in self.models.values():
                await in_thread(hosted.warm_up)
        except Exception as error:  # somebody else's application goes on; here it is not ready
            self._fault = error
            self.log("error", f"{hosted.name} cannot be served, as it cannot be run: {reason(error)}", "error")
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
            said = f"{hosted.name} has changed and cannot be loaded; the one before goes on: {reason(error)}"
            self.log("reload", said, "error", model=hosted.name, operating_point=point)

    async def end(self) -> None:
        """Answer what was accepted, within the limit, and end the engines."""
        self._told_to_end()
        if self._watching is not None:
            self._watching.cancel()
        limit = self.options.drain_limit if self._life is None else self._life.left
        await asyncio.gather(*(in_thread(partial(hosted.drain, limit)) for hosted in self.models.values()))
        if self.store is not None:
            await asyncio.to_thread(self.store.close)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """What an application that mounts :attr:`app` enters at its start and leaves at its end. It is live at once,
        and ready when every stage has run."""
        task = asyncio.create_task(self.begin())
        try:
            yield
        finally:
            task.cancel()
            await self.end()

    @property
    def ready_line(self) -> str:
        """Where it can be reached."""
        host, port = self.address
        return f"ready http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Listen and answer until SIGTERM or Ctrl-C. *ready* is called when requests are answered."""
        import uvloop

        from pilotfish.serve.lifecycle import share_arenas, spare_what_stays

        if asyncio._get_running_loop() is not None:
            raise UsageError("an event loop runs here already, as in a notebook; write await server.serve() instead")
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
        """Listen and answer until :meth:`stop`, in the event loop of now; *ready* is called when it does. In the main
        thread SIGTERM and SIGINT stop it as well. ModelError, or what a stage raised, where one cannot be run."""
        from pilotfish.serve.lifecycle import Life

        if self.draining:
            raise UsageError("this server has ended and serves no more; make another")
        self._on_ready = ready
        for library in ("uvicorn.error", "asyncio"):
            relay(library, self.log)
        self._life = Life(self.app, self.options, self._told_to_end, self._refused)
        bound = self.bound()
        await self._life.serve(sockets=[bound, *(bound.dup() for _ in range(ACCEPTS - 1))])
        if self._fault is not None:
            raise self._fault

    def connections(self) -> int | None:
        """How many are open; None where somebody else listens."""
        return None if self._life is None else len(self._life.peers)

    def unwritten(self) -> bool | None:
        """Whether the state file cannot be written now; None where there is none."""
        return None if self.store is None else self.store.fault is not None

    def _refused(self, status: int) -> None:
        """A request was refused before any route saw it."""
        self.causes.refused({408: "slow", 431: "too_large", 503: "full"}.get(status, "bad_request"))

    def stop(self) -> None:
        """End :meth:`serve`, once what was accepted is answered. To be called in its event loop."""
        if self._life is not None:
            self._life.drain()

    def _told_to_end(self) -> None:
        if not self.draining:
            self.draining = True
            self.log("drain", "told to end: it is not ready any more, and answers what it has accepted")

    def bound(self) -> socket.socket:
        """A socket that listens where the options say. UsageError where it cannot."""
        import socket

        host, port = self.options.host.strip("[]"), self.options.port
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            found = socket.create_server(address[:2], family=family, backlog=2048)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
            why = (getattr(error, "strerror", None) or str(error)).partition(" (while")[0]
            raise UsageError(f"cannot listen on {host}:{port}: {why}; write another --port or --host") from None
        found.setblocking(False)
        # inherited by connections: asyncio leaves it out here, and then a second request waits 40 ms for its answer
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.address = found.getsockname()[:2]
        return found
