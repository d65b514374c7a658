"""Requests as bytes: images as files, and tensors of the Open Inference Protocol."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from support.server import Answered, Serving


def png(image: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as a file: no pixel is lost."""
    held = io.BytesIO()
    Image.fromarray(image).save(held, "PNG")
    return held.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def in_bytes(elements: Sequence[bytes]) -> bytes:
    """A BYTES tensor on the wire."""
    return b"".join(len(one).to_bytes(4, "little") + one for one in elements)


def tensor(datatype: str, shape: Sequence[int], **more: Any) -> dict[str, Any]:
    return {"name": "input", "datatype": datatype, "shape": list(shape), **more}


def binary(request: Mapping[str, Any], content: bytes) -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a request with *content* behind its JSON; the tensor is told its size where it is not."""
    [given] = request["inputs"]
    given.setdefault("parameters", {}).setdefault("binary_data_size", len(content))
    text = json.dumps(request).encode()
    return text + content, {"Inference-Header-Content-Length": str(len(text))}


def infer(server: Serving, request: Mapping[str, Any], content: bytes | None = None, **headers: str) -> Answered:
    """One request to the model ``pair``, as tritonclient sends it."""
    path = "/v2/models/pair/infer"
    if content is None:
        return server.ask("POST", path, json.dumps(request).encode(), headers)
    body, length = binary(request, content)
    return server.ask("POST", path, body, {**length, **headers})


def form(parts: Sequence[tuple[str, str | None, bytes]], boundary: str = "b0undary") -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a form of (name, file name, content)."""
    body = b""
    for name, file, content in parts:
        named = "" if file is None else f'; filename="{file}"'
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}
