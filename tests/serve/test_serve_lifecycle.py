"""How a server ends: it drains and loses nothing; a second signal ends it at once. Real processes and sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pilotfish
from pilotfish.errors import ModelError
from pilotfish.serve.hosted import Hosted
from pilotfish.serve.lifecycle import Life
from pilotfish.serve.options import ServeOptions
from support.pair_module import MODULE
from support.requests import b64
from support.server import ALLOWED, NAME, serve_process, serving
from support.web import LONG, called, ended, error_of, read_response, rest, statuses

PROGRAM = """
import asyncio, os, signal, socket, subprocess, sys, threading, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests run under
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from pilotfish.serve.lifecycle import Life
from pilotfish.serve.options import ServeOptions

delay, limit, work = map(float, sys.argv[1:4])
ready = True

async def answer(request):
    await request.body()
    await asyncio.sleep(work)
    return PlainTextResponse("answered")

async def is_ready(request):
    return PlainTextResponse("ready", 200 if ready else 503)

def told():
    global ready
    ready = False

sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
child = subprocess.Popen(["sleep", "100"])
threading.Thread(target=time.sleep, args=(100,)).start() if "thread" in sys.argv else None
print(sock.getsockname()[1], child.pid, flush=True)
routes = [Route("/answer", answer, methods=["GET", "POST"]), Route("/ready", is_ready)]
Life(Starlette(routes=routes), ServeOptions(drain_delay=delay, drain_limit=limit), told).run([sock])
child.kill()
print("ended", flush=True)
"""


@contextlib.contextmanager
def program(delay: float, limit: float, work: float, *more: str) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """The web layer as a process: it, its port, and the id of its child."""
    paths = str(Path(pilotfish.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(delay), str(limit), str(work), *more],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        assert process.stdout is not None
        port, child = map(int, process.stdout.readline().split())
        yield process, port, child
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def request(path: str = "/answer") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: here\r\n\r\n".encode()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LONG)


def ask(port: int, path: str) -> int:
    with connect(port) as peer:
        peer.sendall(request(path))
        return read_response(peer)[0]


def test_a_server_that_is_told_to_end_loses_nothing() -> None:
    """Under load: it is not ready at once, goes on for the delay, answers what it accepted, and ends with 0."""
    with program(0.5, 20, 0.01) as (process, port, _):
        partly, idle, silent = connect(port), connect(port), connect(port)
        for peer in (partly, idle):
            peer.sendall(request())
            assert read_response(peer)[0] == 200
        assert ask(port, "/ready") == 200
        callers = called(port, request(), 32, 200)
        partly.sendall(b"POST /answer HTTP/1.1\r\nhost: here\r\ncontent-length: 6\r\n\r\nabc")
        process.send_signal(signal.SIGTERM)
        while ask(port, "/ready") == 200:
            time.sleep(0.01)
        with connect(port) as peer:  # a new connection, whose answer is its last
            peer.sendall(request())
            status, headers, body = read_response(peer)
            assert (status, body, headers["connection"]) == (200, b"answered", "close")
        assert process.poll() is None
        assert rest(idle) == b""
        assert rest(silent) == b""
        partly.sendall(b"def")  # a request that was partly there when the server stopped listening
        status, headers, body = read_response(partly)
        assert (status, body, headers["connection"]) == (200, b"answered", "close")
        answered, lost = ended(callers)
        assert answered >= 200
        assert lost == 0
        assert process.wait(LONG) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "ended\n"
        with pytest.raises(OSError):
            connect(port)


def test_a_server_that_is_told_to_end_does_not_warm_up_any_longer(cascade_folder: Path) -> None:
    hosted = Hosted("pair", cascade_folder, ServeOptions(allow_python=ALLOWED))
    hosted.drain()
    hosted.warm_up()
    assert hosted.state == "DRAINING"
    assert "told to end" in hosted.notes[-1]


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGHUP, signal.SIGHUP]], ids=["SIGINT", "SIGHUP"])
def test_the_drain_has_a_limit(signals: list[signal.Signals]) -> None:
    """A terminal that closes sends SIGHUP twice."""
    with program(0, 0.3, 100) as (process, port, _), connect(port) as peer:
        peer.sendall(request())
        time.sleep(0.1)
        for one in signals:
            process.send_signal(one)
            time.sleep(0.02)
        assert process.wait(LONG) == 0


def test_requests_and_engines_share_one_limit(cascade_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a request has waited for in vain, its engine is given no time for; it is told so."""
    begun, held, limits = threading.Event(), threading.Event(), list[float | None]()

    class Held:
        name = "held"

        def step(self, inputs: object, carry: object = None) -> object:
            begun.set()
            held.wait(LONG)
            raise ModelError("it is over")

    with contextlib.ExitStack() as peers:
        with serving({"pair": cascade_folder}, drain_limit=0.3) as running:
            hosted = running.server.hosted()
            hosted.engine.stages[0] = replace(hosted.engine.stages[0], backend=Held(), alone=None)
            drain = hosted.drain

            def drained(limit: float | None = None) -> None:
                limits.append(limit)
                held.set()
                drain(limit)

            monkeypatch.setattr(hosted, "drain", drained)
            peer = peers.enter_context(connect(running.port))
            body = json.dumps({"instances": [np.zeros((4, 4, 3), int).tolist()] * 2})
            head = "POST /predict HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\n"
            peer.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
            assert begun.wait(LONG)
        answer = rest(peer)
    assert limits == [0.0]
    assert statuses(answer) == [503]
    assert {cause: n for cause, n in hosted.meter.causes.shed.items() if n} == {"cut_off": 2}
    assert "shutting down" in error_of(answer)


def test_signals_of_programs_that_rotate_logs_change_nothing() -> None:
    with program(0, 20, 0) as (process, port, _):
        assert ask(port, "/answer") == 200
        for one in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
            process.send_signal(one)
            assert ask(port, "/answer") == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0


def test_a_second_signal_ends_everything_at_once() -> None:
    with program(100, 100, 100, "thread") as (process, port, child):
        with connect(port) as peer:
            peer.sendall(request())
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            while ask(port, "/ready") == 200:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LONG) == 128 + signal.SIGTERM
            assert rest(peer) == b""
        with pytest.raises(OSError):
            connect(port)
        status = Path(f"/proc/{child}/status")
        assert not status.exists() or "Z (zombie)" in status.read_text()


def test_a_signal_waits_for_no_lock() -> None:
    """It comes amid what the main thread does, such as a line of its log: who waits for that there waits for ever."""
    lock = threading.Lock()

    def told() -> None:
        with lock:
            pass

    life = Life(lambda *_: None, ServeOptions(), told)  # type: ignore[arg-type, return-value]
    with lock:
        handler = threading.Thread(target=life.handle_exit, args=(signal.SIGTERM, None), daemon=True)
        handler.start()
        handler.join(LONG)
        assert not handler.is_alive()


def test_a_process_that_began_without_streams_ends_as_any_other(cascade_folder: Path) -> None:
    """Sockets and files would else be taken for them."""
    allowed = [part for name in ALLOWED for part in ("--allow-python", name)]
    paths = os.pathsep.join([str(Path(pilotfish.__file__).parent.parent), str(cascade_folder.parent)])
    started = [sys.executable, "-m", "pilotfish.cli", "serve", str(cascade_folder), "--port", "0", *allowed]
    process = subprocess.Popen(
        ["bash", "-c", 'exec "$@" <&- >&-', "bash", *started],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("ready http://")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


HANGS = """
import pathlib, time
SOON, BEGUN, ENDED = (pathlib.Path({folder!r}, name) for name in ("soon", "begun", "ended"))
sound = base

def base(batch):
    if SOON.exists():
        seconds = float(SOON.read_text())
        SOON.unlink()
        BEGUN.touch()
        time.sleep(seconds)
        ENDED.touch()
    return sound(batch)

vars(base).update(vars(sound))
"""


@pytest.fixture
def hanging(cascade_folder: Path, tmp_path: Path) -> Path:
    """A copy of the cascade, whose base hangs once when there is a file ``soon`` beside it, for as many seconds as it
    says, and makes the files ``begun`` and ``ended``."""
    (tmp_path / f"{NAME}.py").write_text(MODULE + HANGS.format(folder=str(tmp_path)))
    return Path(shutil.copytree(cascade_folder, tmp_path / "cascade"))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("during", ["a batch of the one before", "the warm-up"])
def test_a_reload_that_hangs_does_not_keep_the_process(hanging: Path, photos: list[bytes], during: str) -> None:
    soon, begun = hanging.parent / "soon", hanging.parent / "begun"
    arguments = (f"pair={hanging}", "--drain-limit", "0.5")
    with serve_process(*arguments, module_folder=hanging.parent) as (process, running):

        def ask_all() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):  # it ends before it has answered
                running.ask("POST", "/predict", {"instances": [{"b64": b64(photo)} for photo in photos]})

        soon.write_text("1000")
        if during != "the warm-up":
            threading.Thread(target=ask_all, daemon=True).start()
            wait_for(begun.exists)
        os.utime(hanging / "cascade.json")
        if during != "the warm-up":
            wait_for(lambda: running.get("/v2/models/pair/operating_point").json["id"] == "2")
        wait_for(begun.exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0


@contextlib.contextmanager
def warming(hanging: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """``pilotfish serve`` as a process, whose base hangs in the warm-up."""
    allowed = [part for name in ALLOWED for part in ("--allow-python", name)]
    started = [sys.executable, "-m", "pilotfish.cli", "serve", str(hanging), "--port", "0", *arguments]
    paths = os.pathsep.join([str(Path(pilotfish.__file__).parent.parent), str(hanging.parent)])
    process = subprocess.Popen([*started, *allowed], env={**os.environ, "PYTHONPATH": paths})
    try:
        wait_for((hanging.parent / "begun").exists)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_warm_up_that_hangs_does_not_keep_the_process(hanging: Path) -> None:
    (hanging.parent / "soon").write_text("1000")
    with warming(hanging, "--drain-limit", "0.5") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0


def test_a_warm_up_ends_after_its_batch(hanging: Path) -> None:
    """Libraries abort a process that ends while its threads compute."""
    (hanging.parent / "soon").write_text("2")
    with warming(hanging) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0
    assert (hanging.parent / "ended").exists()


def test_a_reload_ends_after_its_batch(hanging: Path) -> None:
    with serve_process(f"pair={hanging}", module_folder=hanging.parent) as (process, _):
        (hanging.parent / "soon").write_text("2")
        os.utime(hanging / "cascade.json")
        wait_for((hanging.parent / "begun").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0
    assert (hanging.parent / "ended").exists()


ARENAS = """
import ctypes, sys, threading
from pilotfish.serve.lifecycle import share_arenas

libc = ctypes.CDLL(None)
libc.fopen.restype = libc.malloc.restype = ctypes.c_void_p
share_arenas()
gate = threading.Barrier(9)

def hold():
    libc.malloc(5000)
    gate.wait()
    gate.wait()

threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads:
    thread.start()
gate.wait()
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
gate.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's memory")
@pytest.mark.parametrize(("given", "arenas"), [(None, 2), ("3", 3)])
def test_threads_share_what_they_have_freed(tmp_path: Path, given: str | None, arenas: int) -> None:
    """Else a server holds what large bodies took, once for each thread."""
    environment = {key: value for key, value in os.environ.items() if key != "MALLOC_ARENA_MAX"}
    if given is not None:
        environment["MALLOC_ARENA_MAX"] = given
    subprocess.run([sys.executable, "-c", ARENAS, str(tmp_path / "info")], env=environment, check=True, timeout=60)
    assert (tmp_path / "info").read_text().count("<heap nr=") == arenas
