"""KServe's protocol v1, and the description of all routes."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from pilotfish.runtime import Answer, Cascade
from pilotfish.serve import ServeOptions, Server
from support.requests import b64, infer, png, tensor
from support.server import ALLOWED, Serving, pictures

IMAGES = pictures(4, seed=7)
FILES = [png(image) for image in IMAGES]


@pytest.fixture(scope="module")
def expected(cascade_folder: Path) -> list[Answer]:
    return Cascade.load(cascade_folder, allow_python=ALLOWED).predict(list(FILES))


@pytest.mark.parametrize("path", ["/v1/models/pair", "/v1/models/pair/versions/1"])
def test_predictions(server: Serving, expected: list[Answer], path: str) -> None:
    assert server.get(path).json == {"name": "pair", "ready": True}
    instances: list[Any] = [{"b64": b64(file)} for file in FILES[:2]] + [image.tolist() for image in IMAGES[2:]]
    found = server.ask("POST", f"{path}:predict", {"instances": instances})
    assert (found.status, list(found.json)) == (200, ["predictions"])
    for said, answer in zip(found.json["predictions"], expected, strict=True):
        assert (said["prediction"], said["stage"], said["name"]) == (answer.prediction, answer.stage, answer.name)
        assert said["confidence"] == pytest.approx(answer.confidence, abs=1e-5)
    assert found.headers["pilotfish-operating-point"] == "1"


def test_a_second_request_does_not_wait_for_the_first_to_be_acknowledged(cascade_folder: Path) -> None:
    options = ServeOptions(port=0, allow_python=ALLOWED)
    with Server(cascade_folder, options).bound() as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_bad_instance_fails_alone(server: Serving, expected: list[Answer]) -> None:
    found = server.ask("POST", "/v1/models/pair:predict", {"instances": [{"b64": "%"}, {"b64": b64(FILES[1])}]})
    assert found.status == 200
    assert [one["prediction"] for one in found.json["predictions"]] == [None, expected[1].prediction]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/models/pair:predict", [], 400),
        ("POST", "/v1/models/pair:predict", {"inputs": [1]}, 400),
        ("POST", "/v1/models/pair:predict", {"instances": 5}, 400),
        ("POST", "/v1/models/pair:predict", {"instances": []}, 400),
        ("POST", "/v1/models/pair:predict", {"instances": [{"b64": "%"}]}, 400),
        ("POST", "/v1/models/other:predict", {"instances": [{"b64": ""}]}, 404),
        ("POST", "/v1/models/pair/versions/2:predict", {"instances": [{"b64": ""}]}, 404),
        ("GET", "/v1/models/other", None, 404),
    ],
)
def test_what_is_wrong_is_said(server: Serving, method: str, path: str, body: Any, status: int) -> None:
    found = server.ask(method, path, body)
    assert (found.status, next(iter(found.json))) == (status, "error")


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def fits(schema: Any, value: Any, all_of: Any) -> bool:
    """Whether *value* is what *schema* says, of the words that the document uses."""
    if "$ref" in schema:
        return fits(all_of["components"]["schemas"][schema["$ref"].split("/")[-1]], value, all_of)
    if "anyOf" in schema:
        return any(fits(one, value, all_of) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "number": (int, float),
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    named = schema.get("type", list(kinds))
    if not any(isinstance(value, kinds[kind]) for kind in ([named] if isinstance(named, str) else named)):
        return False
    if isinstance(value, dict):
        told = schema.get("properties", {})
        return set(schema.get("required", [])) <= set(value) and all(
            fits(told.get(key, {}), one, all_of) for key, one in value.items()
        )
    if isinstance(value, list):
        return all(fits(schema.get("items", {}), one, all_of) for one in value)
    return True


def test_the_description_is_whole(server: Serving) -> None:
    found = server.get("/openapi.json").json
    assert found["openapi"] == "3.1.0"
    assert {"title", "version"} <= set(found["info"])
    for reference in references(found):
        _, where, kind, name = reference.split("/")
        assert name in found[where][kind]
    operations = [(path, method, told) for path, one in found["paths"].items() for method, told in one.items()]
    assert len({told["operationId"] for _, _, told in operations}) == len(operations)
    for path, _, told in operations:
        assert {one["name"] for one in told["parameters"] if one["in"] == "path"} == set(re.findall(r"{(\w+)}", path))
        assert told["summary"].count("\n") == 0
        assert {"200", "400"} <= set(told["responses"])


def test_the_description_is_true(server: Serving) -> None:
    """Every path that it names is there, and no other method of it."""
    found = server.get("/openapi.json").json
    for path, one in found["paths"].items():
        filled = path.replace("{model}", "pair").replace("{version}", "1")
        assert "{" not in filled
        for method in ("get", "post", "put", "delete"):
            status = server.ask(method.upper(), filled, b"" if method != "get" else None).status
            assert (status not in (404, 405)) == (method in one), (method, filled, status)


def test_answers_are_as_described(server: Serving) -> None:
    found = server.get("/openapi.json").json

    def schema(path: str, method: str, kind: str = "application/json") -> Any:
        return found["paths"][path][method]["responses"]["200"]["content"][kind]["schema"]

    asked = {"instances": [{"b64": b64(FILES[0]), "id": "a"}, {"b64": "%"}]}
    body = found["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert fits(body, asked, found)
    assert not fits(body, [1], found)
    for path, filled in (("/predict", "/predict"), ("/v1/models/{model}:predict", "/v1/models/pair:predict")):
        said = server.ask("POST", filled, asked).json
        assert fits(schema(path, "post"), said, found)
        assert not fits(schema(path, "post"), {"error": "x"}, found)
    request = {"id": "1", "inputs": [tensor("BYTES", [1], data=[b64(FILES[0])])]}
    asked_for = found["paths"]["/v2/models/{model}/infer"]["post"]["requestBody"]["content"]
    assert fits(asked_for["application/json"]["schema"], request, found)
    assert fits(schema("/v2/models/{model}/infer", "post"), infer(server, request).json, found)
    assert list(found["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == ["text/plain"]
    one = "/v2/models/{model}"
    for end in (
        "/v2/health/live",
        "/v2/health/ready",
        *(f"{one}/{e}" for e in ("ready", "operating_point", "audit", "stats")),
    ):
        assert fits(schema(end, "get"), server.get(end.replace("{model}", "pair")).json, found)
