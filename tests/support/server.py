"""Real servers for tests: a small cascade without torch, on real sockets in a thread of its own, or as a process."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import pilotfish
from pilotfish.data import load_data
from pilotfish.plan import tune
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from support.pair_module import CLASSES, MODULE

NAME = "served_pair"
ALLOWED = (f"{NAME}:saver", f"{NAME}:base")
SIDE = 8
TOKENS = {"a-token-of-the-tests": "tests"}
OPERATOR = {"Authorization": "Bearer a-token-of-the-tests"}
LONG = 60  # seconds: what takes longer has failed


def pictures(n: int, seed: int = 1) -> np.ndarray:
    """uint8 (n, 8, 8, 3), as the cascade takes them."""
    return np.random.default_rng(seed).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)


def small_cascade(folder: Path, max_drop: float = 0.05, holdout: float = 0.5) -> Path:
    """A cascade folder over small pictures, about half of which exit; its code is allowed by ``ALLOWED`` and lies in
    *folder*, which is put on the path of this process."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.py").write_text(MODULE)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    images = pictures(300)
    options = RecordOptions(timing=False, batch_size=16, workers=1)
    stages = (f"python:{ALLOWED[0]}", f"python:{ALLOWED[1]}")
    names = np.array(CLASSES)
    np.savez(folder / "first.npz", x=images)
    record(load_data(f"arrays:{folder / 'first.npz'}"), stages[1], Run(folder / "first"), options=options)
    answers = Run(folder / "first").read(stages[1]).outputs.prediction
    noise = np.random.default_rng(2).random(len(answers)) < 0.1
    labels = np.where(noise, (answers + 1) % len(CLASSES), answers)
    np.savez(folder / "data.npz", x=images, y=labels, class_names=names)
    run = Run(folder / "run")
    for stage, macs in zip(stages, (1e6, 1e7), strict=True):
        data = load_data(f"arrays:{folder / 'data.npz'}")
        record(data, stage, run, options=replace(options, costs={"macs": macs}))
    tuning = tune(run, list(stages), max_drop=max_drop, holdout=holdout, seed=0)
    return tuning.save(folder / "cascade")


@dataclass
class Answered:
    """A response: its status, headers in lower case and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Serving:
    """A server that runs in a thread. server: None where it is a process; headers: sent with every request."""

    host: str
    port: int
    server: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def as_operator(self) -> Serving:
        """The same, asked with the token of ``TOKENS``."""
        return replace(self, headers=OPERATOR)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answered:
        """One request on a connection of its own. A body that is no bytes is sent as JSON."""
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
        connection = http.client.HTTPConnection(self.host, self.port, timeout=LONG)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            return Answered(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answered:
        return self.ask("GET", path, headers=headers)


@contextlib.contextmanager
def serving(cascades: Any, **options: Any) -> Iterator[Serving]:
    """A server in a thread, on a port of its own, once it is ready. options: of ``ServeOptions``."""
    from pilotfish.serve import ServeOptions, Server

    server = Server(cascades, ServeOptions(**{"port": 0, "allow_python": ALLOWED, **options}))
    is_ready = threading.Event()
    loop_of: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        loop_of.append(asyncio.get_running_loop())
        await server.serve(is_ready.set)

    thread = threading.Thread(target=asyncio.run, args=(main(),), name="server", daemon=True)
    thread.start()
    try:
        assert is_ready.wait(LONG), "the server did not get ready"
        yield Serving(*server.address, server)
    finally:
        loop_of[0].call_soon_threadsafe(server.stop)
        thread.join(LONG)
        assert not thread.is_alive(), "the server did not end"


@contextlib.contextmanager
def serve_process(
    *arguments: str, module_folder: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], Serving]]:
    """``pilotfish serve ARGUMENTS --port 0`` as a process of its own, once it is ready. It is killed at the end."""
    paths = [str(Path(pilotfish.__file__).parent.parent), *([str(module_folder)] if module_folder else [])]
    allowed = [part for name in ALLOWED for part in ("--allow-python", name)] if module_folder else []
    process = subprocess.Popen(
        [sys.executable, "-m", "pilotfish.cli", "serve", *arguments, "--port", "0", *allowed],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("ready http://"):
                host, port = line.split("//")[1].strip().rsplit(":", 1)
                yield process, Serving(host, int(port))
                return
        raise AssertionError(f"the server ended with {process.wait()}: {''.join(said)}")
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
