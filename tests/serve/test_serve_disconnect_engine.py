"""Clients that leave a cascade: what they sent is in no further batch, before its escalation or after."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pilotfish.runtime import Cascade
from support.server import ALLOWED, LONG, pictures, serving
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


@pytest.mark.parametrize("stage", [0, 1])
def test_what_clients_sent_who_left_is_in_no_further_batch(cascade_folder: Path, stage: int) -> None:
    images = encoded()
    answers = Cascade.load(cascade_folder, allow_python=ALLOWED).predict(list(images))
    image = next(image for image, answer in zip(images, answers, strict=True) if answer.stage == 1)
    head = b"POST /predict HTTP/1.1\r\ncontent-type: image/png\r\ncontent-length: %d\r\n\r\n" % len(image)
    with serving({"pair": cascade_folder}, reload=False) as at:
        hosted = at.server.hosted()
        engine, stages = hosted.engine, hosted.engine.stages
        gate = Gate(stages[stage].backend)
        stages[stage] = replace(stages[stage], backend=gate, alone=None)
        engine._lanes.lanes = 2  # the saver goes on beside the base

        def ask(n: int) -> list[socket.socket]:
            peers = [socket.create_connection((at.host, at.port), timeout=LONG) for _ in range(n)]
            for peer in peers:
                peer.sendall(head + image)
            return peers

        [stays] = ask(1)
        until(lambda: gate.rows == 1)
        leave = ask(5)
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
