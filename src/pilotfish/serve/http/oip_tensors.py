"""Tensors of the Open Inference Protocol: read from JSON or from the bytes behind it, and written as both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UnreadableSample
from pilotfish.serve.http.items import as_dtype, check_count, flattened, numbers, plain, sample_of
from pilotfish.serve.http.json_body import bad, shown
from pilotfish.serve.takes import Takes

DATATYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(bool),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
}
"""Of numbers. BYTES is one more; BF16 is not read."""
INPUT = "input"
MOST_DIMENSIONS = 16


def read_input(given: Any, tail: memoryview, takes: Takes, most: int) -> tuple[list[Any], memoryview]:
    """(the inputs of a request, what is left behind them) from its tensor ``input``. An input is the bytes of an image
    file, an array, or the exception that says what is wrong with it. Refusal where the tensor itself is wrong.

    given  one entry of ``"inputs"``
    tail   the bytes behind the JSON that belong to no tensor yet
    most   inputs in a request
    """
    name, datatype, shape, parameters = _described(given)
    _check_kind(datatype, takes)
    size = parameters.get("binary_data_size")
    if (size is None) == (given.get("data") is None):
        raise bad(f'{name} has both "data" and "binary_data_size", or none; expected one of them')
    if datatype == "BYTES":
        if math.prod(shape[1:]) != 1:
            raise bad(f"{name} of BYTES has shape [N], an encoded image each; found {list(shape)}")
        check_count(shape[0], most)
    else:
        if takes.shape is not None and shape[1:] != takes.shape:
            raise bad(f"{name} has shape {list(shape)}; expected {[-1, *takes.shape]}")
        if not takes.arrays and not _are_images(shape):
            raise bad(f"{name} of UINT8 has shape [N, H, W, 3] or, of grey images, [N, H, W]; found {list(shape)}")
        check_count(shape[0], most)
    if size is None:
        return _from_json(given["data"], datatype, shape, parameters, takes), tail
    if type(size) is not int or not 0 <= size <= len(tail):
        raise bad(f"{name} has binary_data_size {shown(size)}, and {len(tail):,} bytes are left of the body")
    content, tail = tail[:size], tail[size:]
    if datatype == "BYTES":
        return _files(content, shape[0]), tail
    return _rows(_numbers(content, datatype, shape), takes), tail


def raw_input(body: bytes, takes: Takes) -> list[Any]:
    """The one input of a request whose body is that and nothing else (``Inference-Header-Content-Length: 0``)."""
    if takes.images:
        return [bytes(body)]
    if takes.shape is None:
        raise bad(f"the cascade takes {takes.says}, whose shape a raw body does not say; send JSON before it")
    return _rows(_numbers(memoryview(body), "FP32", (1, *takes.shape)), takes)


def _described(given: Any) -> tuple[str, str, tuple[int, ...], Mapping[str, Any]]:
    """(name, datatype, shape, parameters) of an input tensor."""
    if not isinstance(given, dict):
        raise bad('each of "inputs" is an object with "name", "datatype" and "shape"')
    name, datatype, shape = given.get("name"), given.get("datatype"), given.get("shape")
    if name != INPUT:
        raise bad(f"there is no input {shown(name)}; this model takes one, {INPUT!r}")
    if not isinstance(datatype, str) or datatype not in (*DATATYPES, "BYTES"):
        raise bad(f"{name} has the datatype {shown(datatype)}; expected BYTES or one of {', '.join(DATATYPES)}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= MOST_DIMENSIONS:
        raise bad(f'{name} has no "shape"; expected a list of 1 to {MOST_DIMENSIONS} numbers')
    if not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise bad(f'the "shape" of {name} holds something else than numbers from 0 on')
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad(f"the parameters of {name} are an object")
    if "shared_memory_region" in parameters:
        raise bad(f"{name} lies in shared memory, which this server does not read; send its data")
    return name, datatype, tuple(shape), parameters


def _are_images(shape: tuple[int, ...]) -> bool:
    """Whether a batch has this shape; [H, W, 3] is one image, and no batch of grey ones."""
    return (len(shape) == 4 and shape[3] in (1, 3)) or (len(shape) == 3 and shape[2] not in (1, 3))


def _check_kind(datatype: str, takes: Takes) -> None:
    if datatype == "BYTES" and not takes.images:
        raise bad(f"{INPUT} is BYTES, and the cascade takes {takes.says}; expected FP32")
    if datatype not in ("BYTES", "UINT8") and not takes.arrays:
        raise bad(f"{INPUT} is {datatype}, and the cascade takes {takes.says}; expected BYTES, or UINT8 [N, H, W, 3]")


def _from_json(
    data: Any, datatype: str, shape: tuple[int, ...], parameters: Mapping[str, Any], takes: Takes
) -> list[Any]:
    """The inputs that ``"data"`` holds, in a flat list or nested as the shape is."""
    try:
        if not isinstance(data, list):
            raise bad(f'the "data" of {INPUT} is a list; found {shown(data)}')
        flat, nested = flattened(data)
        if len(nested) > 1 and nested != shape:
            raise bad(f"{INPUT} has shape {list(shape)}, and its data {list(nested)}")
        if len(flat) != math.prod(shape):
            raise bad(f"{INPUT} of shape {list(shape)} has {math.prod(shape):,} values; found {len(flat):,}")
        if datatype == "BYTES":
            return [_text(one, parameters) for one in flat]
        return _rows(as_dtype(numbers(flat, shape), DATATYPES[datatype]), takes)
    except UnreadableSample as error:
        raise bad(f"{INPUT}: {error}") from None


def _text(text: Any, parameters: Mapping[str, Any]) -> bytes | UnreadableSample:
    """A file from a string of JSON: base64, as ``"content_type": "base64"`` says and as no image file begins, else the
    characters themselves in UTF-8."""
    if not isinstance(text, str):
        return UnreadableSample("a value of BYTES in JSON is a string")
    try:
        return plain(text)
    except UnreadableSample as error:
        if parameters.get("content_type") == "base64":
            return error
        return text.encode()


def _numbers(content: memoryview, datatype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    dtype = DATATYPES[datatype]
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise bad(
            f"{INPUT} of {datatype} and shape {list(shape)} has {math.prod(shape) * dtype.itemsize:,} bytes; found "
            f"{len(content):,}"
        )
    if datatype == "BOOL" and (np.frombuffer(content, np.uint8) > 1).any():
        raise bad(f"{INPUT} of BOOL holds bytes other than 0 and 1")
    return np.frombuffer(content, dtype).reshape(shape).copy()  # the body is let go, and models may write into it


def _rows(batch: NDArray[Any], takes: Takes) -> list[Any]:
    """The samples of a batch."""
    try:
        return [sample_of(np.asarray(one), takes) for one in batch]  # a batch [N] has scalars
    except UnreadableSample as error:  # all have one shape
        raise bad(f"{INPUT}: {error}") from None


def _files(content: memoryview, n: int) -> list[Any]:
    """The elements of a BYTES tensor: each its length in four bytes, little-endian, and so many bytes."""
    found: list[Any] = []
    at = 0
    while at < len(content) and len(found) < n:
        length = int.from_bytes(content[at : at + 4], "little")
        if at + 4 + length > len(content):
            break
        found.append(bytes(content[at + 4 : at + 4 + length]))
        at += 4 + length
    if len(found) != n or at != len(content):
        raise bad(
            f"{INPUT} of BYTES holds {len(found)} whole elements in its first {at:,} of {len(content):,} bytes; "
            f"expected {n} in all of them"
        )
    return found


def tensor(name: str, datatype: str, values: Sequence[Any], binary: bool) -> tuple[dict[str, Any], bytes]:
    """(an output of N values as the JSON has it, its bytes behind the JSON).

    values  texts for BYTES; None among numbers is NaN, and null in JSON
    """
    described: dict[str, Any] = {"name": name, "datatype": datatype, "shape": [len(values)]}
    if not binary:
        return {**described, "data": list(values)}, b""
    if datatype == "BYTES":
        texts = [text.encode() for text in values]
        content = b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))
    else:
        content = np.array(values, DATATYPES[datatype]).tobytes()
    return {**described, "parameters": {"binary_data_size": len(content)}}, content
