"""Triton's statistics, as its client reads them from a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from support.requests import b64
from support.server import serving

KINDS = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"}


@pytest.fixture(scope="module")
def asked(cascade_folder: Path, photos: list[bytes]) -> Any:
    """(server, answers) of two cascades, of which one was asked, once with a bad image."""
    with serving({"pair": cascade_folder, "idle": cascade_folder}) as at:
        send = {"content-type": "image/png"}
        answers = [at.ask("POST", "/predict?model=pair", photo, send).json["answers"][0] for photo in photos]
        at.ask("POST", "/predict?model=pair", b"no image", send)
        yield at, answers


def check(found: Any, answers: list[Any]) -> None:
    second = sum(answer["stage"] == 1 for answer in answers)
    assert (found["name"], found["version"]) == ("pair", "1")
    assert found["inference_count"] == len(answers)
    stats = found["inference_stats"]
    assert set(stats) == KINDS
    assert all(isinstance(part["ns"], int) and part["ns"] >= 0 for part in stats.values())
    assert (stats["success"]["count"], stats["fail"]["count"]) == (len(answers), 1)
    assert 0 < stats["compute_infer"]["ns"] < stats["success"]["ns"]
    batches = {batch["batch_size"]: batch["compute_infer"] for batch in found["batch_stats"]}
    assert sum(part["count"] for part in batches.values()) == found["execution_count"]
    assert sum(size * part["count"] for size, part in batches.items()) == len(answers) + second
    assert found["last_inference"] > 1.7e12  # milliseconds since 1970


def test_statistics_of_one_and_of_all(asked: Any) -> None:
    at, answers = asked
    for path in ("/v2/models/pair/stats", "/v2/models/pair/versions/1/stats"):
        (found,) = at.get(path).json["model_stats"]
        check(found, answers)
    both = at.get("/v2/models/stats").json["model_stats"]
    assert [found["name"] for found in both] == ["pair", "idle"]
    check(both[0], answers)
    idle = both[1]
    assert (idle["inference_count"], idle["execution_count"], idle["last_inference"], idle["batch_stats"]) == (
        0,
        0,
        0,
        [],
    )


@pytest.mark.parametrize("path", ["/v2/models/none/stats", "/v2/models/pair/versions/2/stats", "/v2/models//stats"])
def test_unknown_names_are_404(asked: Any, path: str) -> None:
    response = asked[0].get(path)
    assert response.status == 404
    assert list(response.json) == ["error"]


def test_tritonclient_reads_them(asked: Any) -> None:
    at, answers = asked
    http = pytest.importorskip("tritonclient.http")
    client = http.InferenceServerClient(f"{at.host}:{at.port}")
    try:
        assert len(client.get_inference_statistics()["model_stats"]) == 2
        check(client.get_inference_statistics("pair")["model_stats"][0], answers)
        check(client.get_inference_statistics("pair", "1")["model_stats"][0], answers)
    finally:
        client.close()


def test_a_request_of_which_one_input_fails_is_answered_but_on_infer(cascade_folder: Path, photos: list[bytes]) -> None:
    with serving({"pair": cascade_folder}) as at:
        texts = [b64(photos[0]), b64(b"no image")]
        both = at.ask("POST", "/predict", {"instances": [{"b64": text} for text in texts]})
        said = {"name": "input", "datatype": "BYTES", "shape": [2], "data": texts}
        infer = at.ask("POST", "/v2/models/pair/infer", {"inputs": [said]})
        assert (both.status, infer.status) == (200, 400)
        (found,) = at.get("/v2/models/pair/stats").json["model_stats"]
    stats = found["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (1, 1)
