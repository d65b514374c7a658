"""Image files as people have them, and as attackers make them: by every protocol the answer is that of
``Cascade.predict``, or the input's own error."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.errors import one_line
from pilotfish.runtime import Answer, Cascade
from support.requests import b64, form, in_bytes, infer, png, tensor
from support.server import ALLOWED, Serving, pictures

PICTURE = pictures(1, seed=4)[0]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.fromarray(PICTURE), "JPEG", exif=exif, quality=95)


RGB = Image.fromarray(PICTURE)
GOOD: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(RGB, "JPEG"),
    "WEBP": lambda: saved(RGB, "WEBP", lossless=True),
    "CMYK": lambda: saved(RGB.convert("CMYK"), "JPEG"),
    "grey": lambda: saved(RGB.convert("L"), "PNG"),
    "16 bits": lambda: saved(Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 257), "PNG"),
    "palette": lambda: saved(RGB.convert("P"), "GIF"),
    "alpha": lambda: saved(RGB.convert("RGBA"), "PNG"),
    "animated": lambda: saved(RGB, "GIF", save_all=True, append_images=[RGB.rotate(90)]),
    "EXIF": rotated,
    "1 x 1": lambda: png(PICTURE[:1, :1]),
    "1 x 9000": lambda: png(np.broadcast_to(PICTURE[:1, :1], (9000, 1, 3)).copy()),
}


def claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


BAD: dict[str, bytes] = {
    "nothing": b"",
    "a cut JPEG": saved(RGB, "JPEG")[:-30],
    "a cut PNG": png(PICTURE)[:-30],
    "a bomb": claims(60_000, 60_000),
    "a wide bomb": claims(2**31 - 1, 1),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "PDF": b"%PDF-1.7\n%%EOF",
    "ICO": saved(RGB, "ICO"),
    "HTML": b"<!doctype html>",
    "zeros": bytes(1000),
    "escapes": b"\x1b[2J\x1b]0;x\x07",
}


@pytest.fixture(scope="module")
def cascade(cascade_folder: Path) -> Cascade:
    return Cascade.load(cascade_folder, allow_python=ALLOWED)


@pytest.fixture(scope="module")
def expected(cascade: Cascade) -> dict[str, Answer]:
    found = cascade.predict([make() for make in GOOD.values()])
    assert all(answer.error is None for answer in found)
    return dict(zip(GOOD, found, strict=True))


@pytest.mark.parametrize("name", GOOD)
def test_every_protocol_reads_them(server: Serving, expected: dict[str, Answer], name: str) -> None:
    content, answer = GOOD[name](), expected[name]
    asked = [
        server.ask("POST", "/predict", content, {"Content-Type": "image/jpeg"}).json["answers"],
        server.ask("POST", "/predict", {"b64": b64(content)}).json["answers"],
        server.ask("POST", "/predict", *form([("file", "a", content)])).json["answers"],
        server.ask("POST", "/v1/models/pair:predict", {"instances": [{"b64": b64(content)}]}).json["predictions"],
    ]
    for [said] in asked:
        assert (said["prediction"], said["stage"], said["error"]) == (answer.prediction, answer.stage, None)
        assert said["confidence"] == pytest.approx(answer.confidence, abs=1e-5)
    outputs = infer(server, {"inputs": [tensor("BYTES", [1])]}, in_bytes([content])).json["outputs"]
    assert outputs[0]["data"] == [answer.prediction]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_costs_itself_alone(server: Serving, expected: dict[str, Answer], name: str) -> None:
    bad, good = BAD[name], GOOD["JPEG"]()
    found = server.ask("POST", "/predict", *form([("file", "a", good), ("file", "b", bad), ("file", "c", good)]))
    assert found.status == 200
    answers = found.json["answers"]
    right = expected["JPEG"].prediction
    assert [one["prediction"] for one in answers] == [right, None, right]
    assert one_line(answers[1]["error"]) == answers[1]["error"]
    alone = server.ask("POST", "/predict", bad, {"Content-Type": "image/jpeg"})
    assert alone.status == 400
    many = infer(server, {"inputs": [tensor("BYTES", [2])]}, in_bytes([good, bad]))
    assert many.status == 400
    assert many.json["error"] == f"input[1]: {answers[1]['error']}"
