"""``POST /predict``: whatever form the body has, the answers are those of ``Cascade.predict``."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from pilotfish.runtime import Answer, Cascade
from support.requests import b64, form, infer, png, tensor
from support.server import ALLOWED, Answered, Serving, pictures, serving

IMAGES = pictures(6, seed=7)
FILES = [png(image) for image in IMAGES]


class Held:
    """An input that is read when *release* is set, and is none."""

    def __init__(self, release: threading.Event) -> None:
        self.release = release

    def __array__(self, *_: Any, **__: Any) -> Any:
        self.release.wait(60)
        raise ValueError("it is no array")


@pytest.fixture(scope="module")
def expected(cascade_folder: Path) -> list[Answer]:
    return Cascade.load(cascade_folder, allow_python=ALLOWED).predict(list(FILES))


def check(found: Answered, expected: list[Answer]) -> list[dict[str, Any]]:
    assert found.status == 200, found.body
    said = found.json
    assert (said["model"], said["operating_point"]) == ("pair", "1")
    for one, answer in zip(said["answers"], expected, strict=True):
        assert (one["prediction"], one["name"], one["stage"]) == (answer.prediction, answer.name, answer.stage)
        assert one["confidence"] == pytest.approx(answer.confidence, abs=1e-5)
        assert (one["error"], one["flags"]) == (None, [])
    return list(said["answers"])


@pytest.mark.parametrize("kind", ["image/png", "image/*", "IMAGE/PNG; q=1"])
def test_an_image_as_it_is(server: Serving, expected: list[Answer], kind: str) -> None:
    found = server.ask("POST", "/predict", FILES[0], {"Content-Type": kind})
    check(found, expected[:1])
    assert found.headers["pilotfish-stages"] == str(expected[0].stage)
    assert float(found.headers["pilotfish-confidences"]) == pytest.approx(expected[0].confidence, abs=1e-5)


def test_an_image_has_its_id_in_the_address(server: Serving, expected: list[Answer]) -> None:
    found = server.ask("POST", "/predict?id=photo%207&model=pair", FILES[0], {"Content-Type": "image/png"})
    [answer] = check(found, expected[:1])
    assert (answer["id"], answer["input"]) == ("photo 7", "photo 7")
    for id in ("", "x" * 201):
        assert server.ask("POST", f"/predict?id={id}", FILES[0], {"Content-Type": "image/png"}).status == 400


def test_instances(server: Serving, expected: list[Answer]) -> None:
    instances: list[Any] = [{"b64": b64(FILES[0]), "id": "a"}, {"array": IMAGES[1].tolist(), "id": 7}]
    instances += [{"b64": b64(FILES[2])}, IMAGES[3].tolist(), {"image_bytes": {"b64": b64(FILES[4])}}]
    lines = b64(FILES[5])
    instances[2] = {"b64": f"data:image/png;base64,{b64(FILES[2])}"}
    instances.append({"b64": "\r\n".join(lines[i : i + 76] for i in range(0, len(lines), 76))})
    answers = check(server.ask("POST", "/predict", {"instances": instances}), expected)
    assert [one["id"] for one in answers] == ["a", "7", None, None, None, None]
    assert [one["input"] for one in answers] == ["a", "7", "2", "3", "4", "5"]


def test_one_object_alone(server: Serving, expected: list[Answer]) -> None:
    [answer] = check(server.ask("POST", "/predict?model=pair", {"b64": b64(FILES[0]), "id": "x"}), expected[:1])
    assert answer["id"] == "x"
    check(server.ask("POST", "/predict", {"array": IMAGES[1].tolist()}), expected[1:2])


def test_forms(server: Serving, expected: list[Answer]) -> None:
    files = [("file", f"{i}.png", file) for i, file in enumerate(FILES[:3])]
    answers = check(server.ask("POST", "/predict", *form(files)), expected[:3])
    assert [one["input"] for one in answers] == ["0.png", "1.png", "2.png"]
    mixed = [("id", None, b"one"), ("b64", None, b64(FILES[0]).encode()), files[1], ("id", None, b"two")]
    answers = check(server.ask("POST", "/predict", *form(mixed)), expected[:2])
    assert [one["id"] for one in answers] == ["one", "two"]


BAD: dict[str, tuple[Any, str]] = {
    "not base64": ({"b64": "%%%%"}, "invalid base64"),
    "not ASCII": ({"b64": "ééé"}, "invalid base64"),
    "cut base64": ({"b64": b64(FILES[0])[:-1]}, "invalid base64"),
    "empty": ({"b64": ""}, "empty"),
    "an empty data URL": ({"b64": "data:image/png;base64,"}, "empty"),
    "a data URL of text": ({"b64": "data:image/svg+xml,<svg/>"}, ";base64,"),
    "a number": ({"b64": 5}, "found 5"),
    "no image": ({"b64": b64(b"hello")}, ""),
    "a cut image": ({"b64": b64(FILES[0][:-20])}, "cut short"),
    "a text": ({"text": "/etc/passwd"}, "not texts"),
    "a path": ("/etc/passwd", "an input must be"),
    "no keys": ({}, "none"),
    "two keys": ({"b64": b64(FILES[0]), "array": [[1]]}, "one of"),
    "an unknown key": ({"url": "file:///etc/passwd"}, "'url'"),
    "a ragged array": ({"array": [[1, 2], [3]]}, "differ"),
    "an array of texts": ({"array": [["1"]]}, "found strings"),
    "a long text among numbers": ({"array": ["x" * 10_000] + [1] * 10_000}, "found numbers and strings"),
    "nulls": ({"array": [[None]]}, "found null"),
    "floats": ({"array": [[[0.5, 0.5, 0.5]]]}, "uint8"),
    "large numbers": ({"array": [[[256, 0, 0]]]}, "uint8"),
    "huge numbers": ({"array": [[[2**70, 0, 0]]]}, "64 bits"),
    "an empty array": ({"array": [[], []]}, "empty"),
    "a scalar": ({"array": 5}, "not an image"),
    "four channels": ({"array": [[[1, 2, 3, 4]]]}, "[H, W, 3]"),
    "many dimensions": ({"array": [[[[[[1]]]]]]}, "not an image"),
    "an odd id": ({"b64": b64(FILES[0]), "id": [1]}, '"id"'),
    "a flag for an id": ({"b64": b64(FILES[0]), "id": True}, '"id"'),
    "a huge id": ({"b64": b64(FILES[0]), "id": 10**300}, '"id"'),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_item_fails_alone(server: Serving, expected: list[Answer], name: str) -> None:
    item, words = BAD[name]
    good = [{"b64": b64(file)} for file in FILES[:2]]
    found = server.ask("POST", "/predict", {"instances": [good[0], item, good[1]]})
    assert found.status == 200
    answers = found.json["answers"]
    assert [one["prediction"] for one in answers] == [expected[0].prediction, None, expected[1].prediction]
    assert words in answers[1]["error"]
    assert "\n" not in answers[1]["error"]
    assert found.headers["pilotfish-stages"].split(",")[1] == "-"


def test_alone_it_is_the_clients_fault(server: Serving) -> None:
    for found in (
        server.ask("POST", "/predict", b"GIF89a", {"Content-Type": "image/gif"}),
        server.ask("POST", "/predict", {"instances": [{"b64": "%"}]}),
        server.ask("POST", "/predict", *form([("file", "a", b"")])),
    ):
        assert found.status == 400
        assert found.json["error"] == found.json["answers"][0]["error"]
    found = server.ask("POST", "/predict", {"instances": [{"b64": "%"}, {"b64": "?"}]})
    assert (found.status, len(found.json["answers"])) == (400, 2)
    assert "no input has an answer" in found.json["error"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (None, "no Content-Type"),
        ("", "Content-Type"),
        ("text/html", "text/html"),
        ("application/x-www-form-urlencoded", "--data-binary"),
        ("text/plain", "not texts"),
        ("multipart/mixed; boundary=x", "multipart/form-data"),
        ("multipart/form-data" + ";a" * 5000, "longer"),
    ],
)
def test_other_types_are_415(server: Serving, kind: str | None, words: str) -> None:
    found = server.ask("POST", "/predict", FILES[0], {} if kind is None else {"Content-Type": kind})
    assert found.status == 415
    assert words in found.json["error"]


GOOD_FORM, FORM = form([("file", "a.png", FILES[0])])


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", "image/png", "empty"),
        (b"", "application/json", "empty"),
        (b"{", "application/json", "not valid JSON"),
        (b"[]", "application/json", "instances"),
        (b'{"images": []}', "application/json", "'images'"),
        (b'{"instances": []}', "application/json", "no inputs"),
        (b'{"instances": {"b64": ""}}', "application/json", "list"),
        (b'{"instances": [{"b64": ""}], "threshold": 1}', "application/json", "'threshold'"),
        (json.dumps({"instances": [0] * 129}).encode(), "application/json", "129"),
        (b'{"instances": [' + b"0," * 1_000_000 + b"0]}", "application/json", "1,000,002 values"),
        (b'{"instances": [{' + b'"a":0,' * 30_000 + b'"b":0}]}', "application/json", "keys"),
        (b"", FORM["Content-Type"], "empty"),
        (GOOD_FORM[:-10], FORM["Content-Type"], "cut"),
        (GOOD_FORM, "multipart/form-data", "boundary"),
        (GOOD_FORM, "multipart/form-data; boundary=other", "begin with --other"),
        (GOOD_FORM, f"multipart/form-data; boundary={'x' * 300}", "begin with --xxx"),
        (form([("file", "a" * 65_536, FILES[0])])[0], FORM["Content-Type"], "broken"),
        (form([("note", None, b"x")])[0], FORM["Content-Type"], "'note'"),
        (form([])[0], FORM["Content-Type"], "no inputs"),
        (form([("file", "a", b"x")] * 129)[0], FORM["Content-Type"], "129"),
        (form([("id", None, b"x")] * 300)[0], FORM["Content-Type"], "256 parts"),
        (form([("file", "a", FILES[0]), ("id", None, b"1"), ("id", None, b"2")])[0], FORM["Content-Type"], "2 fields"),
        (form([("file", "a", FILES[0]), ("id", None, b"\xff")])[0], FORM["Content-Type"], '"id"'),
    ],
)
def test_bodies_that_are_not_what_they_say(server: Serving, body: bytes, kind: str, words: str) -> None:
    found = server.ask("POST", "/predict", body, {"Content-Type": kind})
    assert found.status == 400, found.body
    assert words in found.json["error"]
    assert len(found.json["error"]) < 500


def test_large_answers_are_compressed_for_whoever_takes_them(server: Serving) -> None:
    asked = {"instances": [{"b64": b64(file)} for file in FILES * 3]}
    large = server.ask("POST", "/predict", asked, {"Accept-Encoding": "gzip, deflate, br"})
    assert large.headers["content-encoding"] == "gzip"
    small = server.ask("POST", "/predict", {"b64": b64(FILES[0])}, {"Accept-Encoding": "gzip, deflate, br"})
    assert "content-encoding" not in small.headers


def test_of_several_cascades_one_is_named(cascade_folder: Path) -> None:
    with serving({"a": cascade_folder, "b": cascade_folder}) as running:
        item = {"b64": b64(FILES[0])}
        assert running.ask("POST", "/predict", item).status == 400
        assert running.ask("POST", "/predict?model=c", item).status == 404
        assert running.ask("POST", "/predict?model=b", item).json["model"] == "b"
        assert running.get("/v1/models").json == {"models": ["a", "b"]}


def test_a_full_queue_is_503_and_more_than_it_ever_takes_400(cascade_folder: Path) -> None:
    items = [{"b64": b64(file)} for file in FILES]
    with serving({"pair": cascade_folder}, queue=4) as running:
        engine = running.server.hosted("pair").engine
        release = threading.Event()
        held = [engine.submit(Held(release)) for _ in range(2)]
        full = running.ask("POST", "/predict", {"instances": items[:3]})
        assert (full.status, list(full.json)) == (503, ["error"])
        assert int(full.headers["retry-after"]) >= 1
        request = {"inputs": [tensor("BYTES", [3], data=[b64(file) for file in FILES[:3]])]}
        assert infer(running, request).status == 503
        release.set()
        assert all(future.result(60).error is not None for future in held)
        assert running.ask("POST", "/predict", {"instances": items[:4]}).status == 200
        never = running.ask("POST", "/predict", {"instances": items[:5]})
        assert never.status == 400
        assert "more than the 4 allowed" in never.json["error"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(server: Serving, expected: list[Answer], tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for path, content in zip(files, FILES, strict=False):
        path.write_bytes(content)
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps({"instances": [{"b64": b64(file)} for file in FILES[:2]]}))
    forms = [part for path in files for part in ("-F", f"file=@{path}")]
    for arguments, n in [
        (["-H", "Content-Type: image/png", "--data-binary", f"@{files[0]}"], 1),
        (forms, 2),
        (["-H", "Content-Type: application/json", "-d", f"@{asked}"], 2),
        (["-H", "Content-Type: image/png", "-H", "Transfer-Encoding: chunked", "-T", str(files[0]), "-X", "POST"], 1),
    ]:
        said = subprocess.run(["curl", "-sS", *arguments, f"{server.url}/predict"], capture_output=True, timeout=60)
        check(Answered(200, {}, said.stdout), expected[:n])
