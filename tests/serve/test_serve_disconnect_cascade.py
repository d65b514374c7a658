"""Clients that leave a cascade, and deadlines that pass: what was sent is in no further batch, before its escalation
or after."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pilotfish.runtime import Cascade
from support.server import ALLOWED, LONG, Serving, pictures, serving
from support.web import read_response


class Gate:
    """A model that computes nothing until it is opened. rows: inputs of all its batches."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.opened, self.rows = inner, threading.Event(), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def step(self, inputs: Any, carry: Any = None) -> Any:
        self.rows += len(inputs)
        assert self.opened.wait(LONG)
        return self.inner.step(inputs, carry)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def encoded() -> list[bytes]:
    found = []
    for image in pictures(20, seed=5):
        held = io.BytesIO()
        Image.fromarray(image).save(held, "PNG")
        found.append(held.getvalue())
    return found


@pytest.fixture(scope="module")
def escalated(cascade_folder: Path) -> bytes:
    """An image that goes on to the base."""
    images = encoded()
    answers = Cascade.load(cascade_folder, allow_python=ALLOWED).predict(list(images))
    return next(image for image, answer in zip(images, answers, strict=True) if answer.stage == 1)


@contextlib.contextmanager
def gated(folder: Path, stage: int) -> Iterator[tuple[Serving, Gate]]:
    """A server one of whose stages computes nothing until its gate is opened; the other goes on beside it."""
    with serving({"pair": folder}, reload=False) as at:
        engine = at.server.hosted().engine
        gate = Gate(engine.stages[stage].backend)
        engine.stages[stage] = replace(engine.stages[stage], backend=gate, alone=None)
        engine._lanes.lanes = 2
        try:
            yield at, gate
        finally:
            gate.opened.set()


def ask(at: Serving, image: bytes, n: int) -> list[socket.socket]:
    head = b"POST /predict HTTP/1.1\r\ncontent-type: image/png\r\ncontent-length: %d\r\n\r\n" % len(image)
    peers = [socket.create_connection((at.host, at.port), timeout=LONG) for _ in range(n)]
    for peer in peers:
        peer.sendall(head + image)
    return peers


@pytest.mark.parametrize("stage", [0, 1])
def test_what_clients_sent_who_left_is_in_no_further_batch(cascade_folder: Path, escalated: bytes, stage: int) -> None:
    with gated(cascade_folder, stage) as (at, gate):
        engine = at.server.hosted().engine
        [stays] = ask(at, escalated, 1)
        until(lambda: gate.rows == 1)
        leave = ask(at, escalated, 5)
        until(lambda: engine.depths()[stage].waiting == 5)
        for peer in leave[:4]:
            peer.close()
        until(lambda: engine.depths()[stage].waiting == 1)
        assert engine.under_way == 2
        gate.opened.set()
        for peer in (stays, leave[4]):
            status, _, body = read_response(peer)
            assert (status, b'"stage":1' in body) == (200, True)
            peer.close()
        assert gate.rows == 2
        assert engine.under_way == 0
        shed = at.server.hosted().meter.causes.shed
        assert {cause: n for cause, n in shed.items() if n} == {"gone": 4}


@pytest.mark.parametrize("stage", [0, 1])
def test_deadlines_pass_in_the_queue_and_between_stages(cascade_folder: Path, escalated: bytes, stage: int) -> None:
    """With 503, while the batch before is still computed; the input is in no batch after."""
    data = [base64.b64encode(escalated).decode()]
    request = {"inputs": [{"name": "input", "datatype": "BYTES", "shape": [1], "data": data}]}
    with gated(cascade_folder, stage) as (at, gate):
        [stays] = ask(at, escalated, 1)
        until(lambda: gate.rows == 1)
        late = at.ask("POST", "/v2/models/pair/infer", {**request, "parameters": {"timeout": 100_000}})
        assert (late.status, list(late.json)) == (503, ["error"])
        assert "retry-after" in late.headers
        gate.opened.set()
        assert read_response(stays)[0] == 200
        stays.close()
        assert gate.rows == 1
