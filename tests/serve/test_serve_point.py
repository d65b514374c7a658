"""The operating point moves under load: every answer is that of the one point that it names."""

from __future__ import annotations

import dataclasses
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.cascade import OperatingPoint
from pilotfish.runtime import Cascade
from support.server import ALLOWED, LONG, Serving, pictures, serving

MOVES, CLIENTS, SEVERAL = 1000, 4, 8
DROPS = (0.0, 0.002, 0.01, 0.05, 0.2, 0.5)
NEAR = 1e-5  # of a confidence: batches of other sizes round differently


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return pictures(200, seed=11)


@pytest.fixture(scope="module")
def first_says(cascade_folder: Path, images: np.ndarray) -> np.ndarray:
    """Confidences of the first stage for *images*."""
    cascade = Cascade.load(cascade_folder, allow_python=ALLOWED)
    cascade.artefact = dataclasses.replace(cascade.artefact, operating_point=OperatingPoint((-np.inf,)))
    return np.array([answer.confidence for answer in cascade.predict(list(images))])


def tensor(images: np.ndarray) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a request for inference."""
    parameters = {"binary_data_size": images.nbytes}
    given = {"name": "input", "datatype": "UINT8", "shape": list(images.shape), "parameters": parameters}
    text = json.dumps({"inputs": [given]}).encode()
    return text + images.tobytes(), {"Inference-Header-Content-Length": str(len(text))}


def asked(running: Serving, images: np.ndarray, rows: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, Any]]:
    """(rows, answer) of one request after the other, on one connection."""
    connection = http.client.HTTPConnection(running.host, running.port, timeout=LONG)
    try:
        for chosen in rows:
            connection.request("POST", "/v2/models/pair/infer", *tensor(images[chosen]))
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            yield chosen, json.loads(body)
    finally:
        connection.close()


def test_no_answer_mixes_two_points(cascade_folder: Path, images: np.ndarray, first_says: np.ndarray) -> None:
    with serving({"pair": cascade_folder}) as running:
        hosted, ended = running.server.hosted(), threading.Event()
        points = {hosted.point.id: hosted.point}

        def client(seed: int) -> list[tuple[np.ndarray, Any]]:
            chance = np.random.default_rng(seed)
            rows = (chance.integers(0, len(images), SEVERAL) for _ in iter(ended.is_set, True))
            return list(asked(running, images, rows))

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(client, seed) for seed in range(CLIENTS)]
            try:
                for place in np.random.default_rng(0).integers(0, len(DROPS), MOVES).tolist():
                    found = hosted.move(max_drop=DROPS[place] if DROPS[place] < 0.1 else f"{100 * DROPS[place]:g}%")
                    assert found.moved == (found.point.id not in points)
                    points[found.point.id] = found.point
            finally:
                ended.set()
            answers = [answer for one in clients for answer in one.result()]

    assert sorted(map(int, points)) == list(range(1, len(points) + 1))
    assert len(points) > MOVES / 4  # some moves are to the point in force, and change nothing
    named, stages_seen = set(), set()
    for chosen, said in answers:
        name = said["parameters"]["operating_point"]
        (threshold,) = points[name].artefact.shown_thresholds
        [stages] = [np.array(one["data"]) for one in said["outputs"] if one["name"] == "stage"]
        sure = abs(first_says[chosen] - threshold) > NEAR
        expected = np.where(first_says[chosen] >= threshold, 0, 1)
        np.testing.assert_array_equal(stages[sure], expected[sure])
        named.add(name)
        stages_seen |= set(stages.tolist())
    assert len(named) > CLIENTS
    assert stages_seen == {0, 1}
