"""The Open Inference Protocol v2: every route, binary and JSON tensors, and what a client is told that says something
wrong."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import one_line
from pilotfish.runtime import Answer, Cascade
from support.requests import b64, binary, in_bytes, infer, png, tensor
from support.server import ALLOWED, CLASSES, SIDE, Answered, Serving, pictures

IMAGES = pictures(6, seed=7)
FILES = [png(image) for image in IMAGES]
MODEL = "/v2/models/pair"


@pytest.fixture(scope="module")
def expected(cascade_folder: Path) -> list[Answer]:
    found = Cascade.load(cascade_folder, allow_python=ALLOWED).predict(list(FILES))
    assert {a.stage for a in found} == {0, 1}
    return found


def data_of(answer: Answered) -> dict[str, list[Any]]:
    """The outputs by name, from JSON or from behind it."""
    length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
    said, behind = json.loads(answer.body[:length]), answer.body[length:]
    found: dict[str, list[Any]] = {}
    for output in said["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = output["data"]
        elif output["datatype"] == "BYTES":
            part, texts = behind[:size], []
            while part:
                n = int.from_bytes(part[:4], "little")
                texts.append(part[4 : 4 + n].decode())
                part = part[4 + n :]
            found[output["name"]] = texts
        else:
            dtype = {"INT64": "<i8", "FP32": "<f4"}[output["datatype"]]
            found[output["name"]] = np.frombuffer(behind[:size], dtype).tolist()
        assert len(found[output["name"]]) == output["shape"][0]
        behind = behind[size or 0 :]
    assert not behind
    return found


def check(found: Answered, expected: list[Answer]) -> None:
    assert found.status == 200, found.body
    outputs = data_of(found)
    assert outputs["prediction"] == [a.prediction for a in expected]
    assert outputs["stage"] == [a.stage for a in expected]
    assert outputs["name"] == [CLASSES[a.prediction] for a in expected]
    assert outputs["flags"] == [""] * len(expected)
    assert outputs["confidence"] == pytest.approx([a.confidence for a in expected], abs=1e-5)


@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1"])
def test_a_model_is_described(server: Serving, path: str) -> None:
    assert server.get(f"{path}/ready").json == {"name": "pair", "ready": True}
    said = server.get(path).json
    assert (said["name"], said["versions"]) == ("pair", ["1"])
    assert said["inputs"] == [{"name": "input", "datatype": "BYTES", "shape": [-1]}]
    assert {o["name"]: (o["datatype"], o["shape"]) for o in said["outputs"]} == {
        "prediction": ("INT64", [-1]),
        "confidence": ("FP32", [-1]),
        "stage": ("INT64", [-1]),
        "name": ("BYTES", [-1]),
        "flags": ("BYTES", [-1]),
    }
    config = server.get(f"{path}/config").json
    assert [one["data_type"] for one in config["input"]] == ["TYPE_STRING"]
    assert [one["name"] for one in config["output"]] == [o["name"] for o in said["outputs"]]


def test_the_server_is_described(server: Serving) -> None:
    said = server.get("/v2").json
    assert said["name"] == "pilotfish"
    assert "binary_tensor_data" in said["extensions"]
    index = server.ask("POST", "/v2/repository/index", b"")
    assert [(one["name"], one["version"], one["state"]) for one in index.json] == [("pair", "1", "READY")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/other"),
        ("GET", "/v2/models/other/ready"),
        ("POST", "/v2/models/other/infer"),
        ("GET", f"{MODEL}/versions/2"),
        ("GET", f"{MODEL}/versions/2/ready"),
        ("POST", f"{MODEL}/versions/x/infer"),
        ("GET", "/v2/trace/setting"),
        ("POST", f"{MODEL}/trace/setting"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("POST", "/v2/cudasharedmemory/region/x/register"),
        ("POST", "/v2/repository/models/pair/load"),
        ("POST", "/v2/repository/models/pair/unload"),
        ("POST", "/v2/logging"),
    ],
)
def test_what_is_not_here_is_404(server: Serving, method: str, path: str) -> None:
    found = server.ask(method, path, b"{}" if method == "POST" else None)
    assert (found.status, list(found.json)) == (404, ["error"])


@pytest.mark.parametrize("path", ["/%1b[2J", "/v2/models/%1b", f"{MODEL}/versions/%0a", "/v2/systemsharedmemory/%1b"])
def test_errors_are_plain_text(server: Serving, path: str) -> None:
    found = server.get(path)
    assert found.status == 404
    assert one_line(found.json["error"]) == found.json["error"]


@pytest.mark.parametrize("n", [1, 3, 6])
@pytest.mark.parametrize("path", [MODEL, f"{MODEL}/versions/1"])
def test_images_behind_the_json(server: Serving, expected: list[Answer], n: int, path: str) -> None:
    request = {"inputs": [tensor("BYTES", [n])], "parameters": {"binary_data_output": True}}
    body, headers = binary(request, in_bytes(FILES[:n]))
    found = server.ask("POST", f"{path}/infer", body, headers)
    check(found, expected[:n])
    assert found.headers["content-type"] == "application/octet-stream"


def test_pixels_behind_the_json(server: Serving, expected: list[Answer]) -> None:
    check(infer(server, {"inputs": [tensor("UINT8", IMAGES.shape)]}, IMAGES.tobytes()), expected)


@pytest.mark.parametrize("channel", [False, True], ids=["[N, H, W]", "[N, H, W, 1]"])
def test_grey_pixels(server: Serving, cascade_folder: Path, channel: bool) -> None:
    grey = IMAGES[..., 0].copy()
    expected = Cascade.load(cascade_folder, allow_python=ALLOWED).predict([png(one) for one in grey])
    batch = grey[..., None] if channel else grey
    check(infer(server, {"inputs": [tensor("UINT8", batch.shape)]}, batch.tobytes()), expected)
    check(infer(server, {"inputs": [tensor("UINT8", batch.shape, data=batch.tolist())]}), expected)
    said = server.ask("POST", "/predict", {"instances": [{"array": one} for one in batch.tolist()]}).json["answers"]
    assert [(one["prediction"], one["stage"]) for one in said] == [(a.prediction, a.stage) for a in expected]


def test_one_image_is_no_batch_of_grey_ones(server: Serving) -> None:
    found = infer(server, {"inputs": [tensor("UINT8", [SIDE, SIDE, 3])]}, IMAGES[0].tobytes())
    assert (found.status, "[N, H, W, 3]" in found.json["error"]) == (400, True)


@pytest.mark.parametrize(
    "data",
    [
        lambda: tensor("BYTES", [6], data=[b64(one) for one in FILES], parameters={"content_type": "base64"}),
        lambda: tensor("BYTES", [6], data=[b64(one) for one in FILES]),
        lambda: tensor("BYTES", [6, 1], data=[[b64(one)] for one in FILES]),
        lambda: tensor("UINT8", IMAGES.shape, data=IMAGES.ravel().tolist()),
        lambda: tensor("UINT8", IMAGES.shape, data=IMAGES.tolist()),
    ],
    ids=["base64", "base64 unsaid", "nested texts", "flat numbers", "nested numbers"],
)
def test_data_in_the_json(server: Serving, expected: list[Answer], data: Callable[[], dict[str, Any]]) -> None:
    found = infer(server, {"inputs": [data()]})
    check(found, expected)
    assert found.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in found.headers


def test_a_file_alone_is_the_input(server: Serving, expected: list[Answer]) -> None:
    for file, answer in zip(FILES, expected, strict=True):
        check(server.ask("POST", f"{MODEL}/infer", file, {"Inference-Header-Content-Length": "0"}), [answer])


def test_the_answer_names_its_request_model_and_point(server: Serving) -> None:
    request = {"id": "é 1", "inputs": [tensor("BYTES", [2], data=[b64(one) for one in FILES[:2]])]}
    found = infer(server, request)
    said = found.json
    assert (said["id"], said["model_name"], said["model_version"]) == ("é 1", "pair", "1")
    assert said["parameters"]["operating_point"] == found.headers["pilotfish-operating-point"] == "1"
    stages = data_of(found)["stage"]
    assert found.headers["pilotfish-stages"] == ",".join(map(str, stages))
    assert "id" not in infer(server, {"inputs": request["inputs"]}).json


def test_outputs_are_chosen_one_by_one(server: Serving, expected: list[Answer]) -> None:
    request = {
        "inputs": [tensor("BYTES", [6])],
        "outputs": [
            {"name": "stage", "parameters": {"binary_data": True}},
            {"name": "name", "parameters": {"binary_data": False}},
            {"name": "prediction", "parameters": {"classification": 3}},
        ],
    }
    found = infer(server, request, in_bytes(FILES))
    outputs = data_of(found)
    assert list(outputs) == ["stage", "name", "prediction"]
    assert outputs["stage"] == [a.stage for a in expected]
    assert outputs["prediction"] == [f"{a.confidence:.6f}:{a.prediction}:{a.name}" for a in expected]


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_answers_are_compressed_on_demand(server: Serving, coding: str, compress: Callable[[bytes], bytes]) -> None:
    request = {"inputs": [tensor("BYTES", [2], data=[b64(one) for one in FILES[:2]])]}
    plain = infer(server, request)
    asked = infer(server, request, **{"Accept-Encoding": coding})
    assert asked.headers["content-encoding"] == coding
    assert (gzip.decompress if coding == "gzip" else zlib.decompress)(asked.body) == plain.body
    assert "content-encoding" not in infer(server, request, **{"Accept-Encoding": f"br, {coding}"}).headers
    assert "content-encoding" not in infer(server, request, **{"Accept-Encoding": f"{coding};q=0"}).headers


def test_a_deadline_that_passes_is_503(server: Serving) -> None:
    request = {"inputs": [tensor("BYTES", [1], data=[b64(FILES[0])])], "parameters": {"timeout": 1}}
    found = infer(server, request)
    assert (found.status, list(found.json)) == (503, ["error"])
    assert int(found.headers["retry-after"]) >= 1
    request["parameters"]["timeout"] = 50_000_000
    assert infer(server, request).status == 200


ONE = {"inputs": [tensor("BYTES", [1], data=[b64(FILES[0])])]}
BAD_JSON: dict[str, tuple[Any, str]] = {
    "no object": ([1], "JSON object"),
    "no inputs": ({}, '"inputs"'),
    "no tensor": ({"inputs": []}, "found 0"),
    "two tensors": ({"inputs": ONE["inputs"] * 2}, "found 2"),
    "no name": ({"inputs": [{"shape": [1], "datatype": "BYTES", "data": [""]}]}, "no input null"),
    "unknown input": ({"inputs": [{**ONE["inputs"][0], "name": "INPUT0"}]}, "'INPUT0'"),
    "unknown datatype": ({"inputs": [tensor("FP99", [1], data=[1])]}, "'FP99'"),
    "another datatype": ({"inputs": [tensor("FP32", [1, 8, 8, 3], data=[0.5] * 192)]}, "expected BYTES"),
    "no shape": ({"inputs": [{"name": "input", "datatype": "BYTES", "data": ["x"]}]}, "shape"),
    "negative shape": ({"inputs": [tensor("BYTES", [-1], data=["x"])]}, "shape"),
    "huge shape": ({"inputs": [tensor("UINT8", [2**70, 8, 8, 3], data=[1])]}, "shape"),
    "overflowing shape": ({"inputs": [tensor("UINT8", [2, 2**39, 2**39, 3], data=[1])]}, "values"),
    "flag for a shape": ({"inputs": [tensor("BYTES", [True], data=["x"])]}, "shape"),
    "nothing": ({"inputs": [tensor("BYTES", [0], data=[])]}, "no inputs"),
    "too many": ({"inputs": [tensor("BYTES", [129], data=["x"] * 129)]}, "129"),
    "fewer values": ({"inputs": [tensor("BYTES", [2], data=["x"])]}, "found 1"),
    "more values": ({"inputs": [tensor("BYTES", [1], data=["x", "y"])]}, "found 2"),
    "ragged": ({"inputs": [tensor("UINT8", [1, 2, 1, 3], data=[[[1, 2, 3], [4]]])]}, "differ"),
    "texts for numbers": ({"inputs": [tensor("UINT8", [1, 1, 1, 3], data=["1", "2", "3"])]}, "found strings"),
    "a size of 0": ({"inputs": [tensor("UINT8", [1, 0, 8, 3], data=[])]}, "is empty"),
    "data no list": ({"inputs": [tensor("BYTES", [1], data="x")]}, "a list; found 'x'"),
    "data of another shape": ({"inputs": [tensor("BYTES", [1], data=[["x"]])]}, "shape [1, 1]"),
    "a byte too large": ({"inputs": [tensor("UINT8", [1, 1, 1, 3], data=[1, 2, 256])]}, "uint8"),
    "half a byte": ({"inputs": [tensor("UINT8", [1, 1, 1, 3], data=[1, 2, 0.5])]}, "uint8"),
    "an image without a batch": ({"inputs": [tensor("UINT8", [8, 8, 3], data=[0] * 192)]}, "[N, H, W, 3]"),
    "data and a size": (
        {"inputs": [tensor("BYTES", [1], data=["x"], parameters={"binary_data_size": 0})]},
        "either",
    ),
    "no data": ({"inputs": [tensor("BYTES", [1])]}, "either"),
    "shared memory": ({"inputs": [tensor("BYTES", [1], parameters={"shared_memory_region": "r"})]}, "shared memory"),
    "bad base64": (
        {"inputs": [tensor("BYTES", [2], data=[b64(FILES[0]), "%%"], parameters={"content_type": "base64"})]},
        "input[1]",
    ),
    "a number for a text": ({"inputs": [tensor("BYTES", [1], data=[5])]}, "input[0]"),
    "unknown output": ({**ONE, "outputs": [{"name": "logits"}]}, "'logits'"),
    "an output twice": ({**ONE, "outputs": [{"name": "stage"}] * 2}, "twice"),
    "outputs no list": ({**ONE, "outputs": {"name": "stage"}}, "list"),
    "an odd flag": ({**ONE, "parameters": {"binary_data_output": 1}}, "true or false"),
    "classification of stages": ({**ONE, "outputs": [{"name": "stage", "parameters": {"classification": 1}}]}, "class"),
    "classification 0": (
        {**ONE, "outputs": [{"name": "prediction", "parameters": {"classification": 0}}]},
        "1 or more",
    ),
    "an odd timeout": ({**ONE, "parameters": {"timeout": -1}}, "microseconds"),
    "a timeout in text": ({**ONE, "parameters": {"timeout": "1s"}}, "microseconds"),
    "parameters no object": ({**ONE, "parameters": [1]}, "object"),
    "an id that is a number": ({**ONE, "id": 5}, '"id"'),
    "a long id": ({**ONE, "id": "x" * 1000}, '"id"'),
    "an image that is none": ({"inputs": [tensor("BYTES", [2], data=[b64(FILES[0]), b64(b"GIF89a")])]}, "input[1]"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_what_is_wrong_is_named(server: Serving, name: str) -> None:
    request, words = BAD_JSON[name]
    found = infer(server, request)
    assert found.status == 400, found.body
    assert words in found.json["error"]
    assert "\n" not in found.json["error"]


def cut(body: bytes, headers: dict[str, str]) -> tuple[bytes, dict[str, str]]:
    return body[:-1], headers


def length(text: str) -> Callable[[bytes, dict[str, str]], tuple[bytes, dict[str, str]]]:
    return lambda body, headers: (body, {"Inference-Header-Content-Length": text})


@pytest.mark.parametrize(
    ("change", "size", "words"),
    [
        (cut, None, "binary_data_size"),
        (lambda body, headers: (body + b"xy", headers), None, "2 bytes follow"),
        (length("99999999"), None, "Content-Length"),
        (length("-1"), None, "Content-Length"),
        (length("1e3"), None, "Content-Length"),
        (length("²"), None, "Content-Length"),
        (length("9" * 400), None, "Content-Length"),
        (length("10"), None, "not valid JSON"),
        (length(" "), None, "Content-Length"),
        (None, -1, "binary_data_size"),
        (None, True, "binary_data_size"),
        (None, "5", "binary_data_size"),
        (None, 2**63, "binary_data_size"),
        (None, 5, "bytes follow"),
    ],
)
def test_lengths_that_do_not_fit(server: Serving, change: Any, size: Any, words: str) -> None:
    parameters = {} if size is None else {"binary_data_size": size}
    request = {"inputs": [tensor("UINT8", [2, 1, 1, 3], parameters=parameters)]}
    body, headers = binary(request, bytes(6))
    if size == 5:
        words = "6 bytes; found 5"
    body, headers = change(body, headers) if change else (body, headers)
    found = server.ask("POST", f"{MODEL}/infer", body, {k: v.encode("latin-1") for k, v in headers.items()})
    assert found.status == 400
    assert words in found.json["error"]


@pytest.mark.parametrize(
    ("content", "n"),
    [
        (in_bytes([b"a"]), 2),
        (in_bytes([b"a", b"b"]), 1),
        (in_bytes([b"a", b"b"])[:-1], 2),
        (in_bytes([b"a"]) + b"\x01", 2),
        ((2**32 - 1).to_bytes(4, "little") + b"a", 1),
        (b"", 1),
    ],
)
def test_elements_that_do_not_fit(server: Serving, content: bytes, n: int) -> None:
    found = infer(server, {"inputs": [tensor("BYTES", [n])]}, content)
    assert found.status == 400
    assert "whole elements" in found.json["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"inputs": [], "inputs": []}',
        b'{"inputs": NaN}',
        b'{"inputs": 1e999}',
        b'{"id": "\\ud800"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 10_000,
        b"[" + b"{}," * 1_000_000 + b"1]",
        b'{"inputs": ' + b"9" * 5000 + b"}",
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda body: body[:12].decode("latin-1"),
)
def test_json_that_is_none(server: Serving, body: bytes) -> None:
    found = server.ask("POST", f"{MODEL}/infer", body)
    assert (found.status, list(found.json)) == (400, ["error"])
    assert len(found.json["error"]) < 500
    assert "\n" not in found.json["error"]


def test_a_large_request_is_read_in_a_thread(server: Serving) -> None:
    many = pictures(128, seed=3)
    assert len(json.dumps(many.tolist())) > 64 << 10
    found = infer(server, {"inputs": [tensor("UINT8", many.shape, data=many.tolist())]})
    assert (
        data_of(found)["prediction"]
        == data_of(infer(server, {"inputs": [tensor("UINT8", many.shape)]}, many.tobytes()))["prediction"]
    )
    assert many.shape == (128, SIDE, SIDE, 3)
