"""Bodies made to break the reader: whatever they hold, it is read, or refused in one line, with little memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import one_line
from pilotfish.serve.http.json_body import LARGE, json_of
from pilotfish.serve.http.kserve_v1 import read_instances
from pilotfish.serve.http.oip_infer import Asked, read_infer
from pilotfish.serve.http.predict_bodies import read_predict
from pilotfish.serve.refusal import Refusal
from pilotfish.serve.takes import Takes
from support.requests import b64, binary, form, in_bytes, tensor

TAKES = [Takes(True, False), Takes(False, True), Takes(False, True, (2, 3)), Takes(True, True)]
ODD = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**64,
    1e308,
    0.5,
    "",
    "x",
    "é\ud800",
    "\0",
    [],
    {},
    [[]],
    [{}],
    {"b64": "%"},
    "BYTES",
]
WORDS = [
    "input",
    "inputs",
    "shape",
    "data",
    "datatype",
    "parameters",
    "binary_data_size",
    "outputs",
    "b64",
    "array",
    "id",
]


def changed(value: Any, rng: np.random.Generator) -> Any:
    """*value* with one of its parts replaced, left out, renamed or repeated."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = list(value)[rng.integers(len(value))]
        what = rng.integers(4)
        if what == 0:
            return {k: v for k, v in value.items() if k != key}
        if what == 1:
            return {**value, WORDS[rng.integers(len(WORDS))]: value[key]}
        return {**value, key: changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.integers(len(value))
        if rng.random() < 0.3:
            return value * int(rng.integers(2, 4))
        return [changed(one, rng) if i == place else one for i, one in enumerate(value)]
    return ODD[rng.integers(len(ODD))]


def garbled(body: bytes, rng: np.random.Generator) -> bytes:
    """*body* with some bytes changed, cut out or repeated."""
    found = bytearray(body)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(found) + 1))
        what = rng.integers(3)
        if what == 0:
            found[at : at + 1] = bytes([rng.integers(256)])
        elif what == 1:
            del found[at : at + int(rng.integers(1, 20))]
        else:
            found[at:at] = found[at : at + int(rng.integers(1, 20))]
    return bytes(found)


def refused(read: Callable[[], Any]) -> str | None:
    """Why it is refused; None where it is read."""
    try:
        read()
    except Refusal as refusal:
        found = refusal
    else:
        return None
    assert found.status in (400, 415)
    assert one_line(str(found)) == str(found)
    assert len(str(found)) < 1000
    return str(found)


INFER = [
    ({"id": "1", "inputs": [tensor("BYTES", [2])], "outputs": [{"name": "stage"}]}, in_bytes([b"a", b"bc"])),
    ({"inputs": [tensor("UINT8", [1, 2, 2, 3])], "parameters": {"binary_data_output": True}}, bytes(12)),
    ({"inputs": [tensor("FP32", [2, 2, 3])], "parameters": {"timeout": 5}}, bytes(48)),
    ({"inputs": [tensor("BYTES", [1], data=[b64(b"image")], parameters={"content_type": "base64"})]}, b""),
    ({"inputs": [tensor("FP32", [1, 2, 3], data=[[[1, 2, 3], [4, 5, 6.5]]])]}, b""),
]


def test_requests_for_inference() -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for case in range(1500):
        request, content = INFER[case % len(INFER)]
        request = json.loads(json.dumps(request))
        for _ in range(rng.integers(1, 3)):
            request = changed(request, rng)
        try:
            body, headers = binary(request, content) if content else (json.dumps(request).encode(), {})
        except (TypeError, ValueError, AttributeError, KeyError):  # no tensor is left to say a size of
            body, headers = json.dumps(request).encode() + content, {}
        if rng.random() < 0.3:
            body = garbled(body, rng)
        length = headers.get("Inference-Header-Content-Length")
        length = str(rng.integers(-2, len(body) + 3)) if rng.random() < 0.2 else length
        takes = TAKES[rng.integers(len(TAKES))]

        def read(body: bytes = body, length: str | None = length, takes: Takes = takes) -> Asked:
            asked = read_infer(body, length, takes, 8)
            assert 1 <= len(asked.items) <= 8
            assert asked.outputs
            asked.entries()
            return asked

        outcomes.add(refused(read))
    assert None in outcomes
    assert len(outcomes) > 60


def test_requests_for_predictions() -> None:
    rng = np.random.default_rng(1)
    good = {"instances": [{"b64": b64(b"image"), "id": "a"}, {"array": [[1, 2], [3, 4]]}, [[1, 2, 3], [4, 5, 6]]]}
    body_of_form, headers = form([("file", "a.png", b"image"), ("b64", None, b64(b"x").encode()), ("id", None, b"i")])
    outcomes = set()
    for case in range(1500):
        takes = TAKES[rng.integers(len(TAKES))]
        if case % 3 == 0:
            body, kind = garbled(body_of_form, rng), headers["Content-Type"]
        else:
            body, kind = json.dumps(changed(good, rng)).encode(), "application/json"
            body = garbled(body, rng) if case % 3 == 1 else body
        if rng.random() < 0.1:
            kind = garbled(kind.encode(), rng).decode("latin-1")

        def read(body: bytes = body, kind: str = kind, takes: Takes = takes) -> None:
            for entry in read_predict(body, kind, takes, 8):
                assert isinstance(entry.item, bytes | np.ndarray | Exception)
                assert "\n" not in entry.name

        outcomes.add(refused(read))
        outcomes.add(refused(lambda body=body, takes=takes: read_instances(json_of(body), takes, 8)))  # type: ignore[misc]
    assert None in outcomes
    assert len(outcomes) > 60


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [' + b"{}," * 1_000_000 + b"{}]}",
        b'{"instances": [' + b"[]," * 1_000_000 + b"[]]}",
        b"[" * 3_000_000,
        b'{"a":' * 600_000,
        b'{"instances": ["' + b"\\u0041" * 500_000,
        b'{"instances": [' + b"1e1," * 2_000_000 + b"1]}",
        b'{"instances": [{"array": [' + b"1," * 20_000 + b'"' + b"x" * 1_000_000 + b'"]}]}',
    ],
    ids=lambda body: body[:20].decode(),
)
def test_memory_is_bounded(body: bytes) -> None:
    tracemalloc.start()
    try:
        why = refused(lambda: read_predict(body, "application/json", TAKES[2], 128))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert why is not None or b"array" in body
    assert peak < 8 * len(body)


def test_a_form_of_many_parts_is_refused_early() -> None:
    one, headers = form([("file", "a", b"")], boundary="x")
    body = one.removesuffix(b"--x--\r\n") * 100_000
    assert "more than 256 parts" in str(refused(lambda: read_predict(body, headers["Content-Type"], TAKES[0], 128)))


def test_large_json_says_what_small_json_says() -> None:
    """Large bodies are read so that other threads run meanwhile."""
    values: list[Any] = [0, -7, 1.5, -1e-300, 2**62, [True, None, "é", {}]]
    small, padding = {"instances": values}, " " * LARGE
    assert json_of(json.dumps(small).encode()) == json_of((json.dumps(small) + padding).encode()) == small
    for text in ('{"a": 1e999}', '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": "\\ud800"}', "9" * 5000, "[" * 60 + "]" * 60):
        whys = {refused(lambda body=body: json_of(body.encode())) for body in (text, text + padding)}  # type: ignore[misc]
        assert None not in whys
        assert len(whys) == 1
