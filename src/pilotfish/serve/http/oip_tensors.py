"""Tensors of the Open Inference Protocol: read and written as JSON or as the bytes after it."""

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
"""Datatypes of numbers. BYTES is supported too; BF16 is not."""
INPUT = "input"
MOST_DIMENSIONS = 16


def read_input(given: Any, tail: memoryview, takes: Takes, most: int) -> tuple[list[Any], memoryview]:
    """(inputs, rest of *tail*) from the tensor ``input``. An input is the bytes of an image file, an array, or the
    exception that tells why it is invalid. Refusal if the tensor itself is invalid.

    given  one entry of ``"inputs"``
    tail   the bytes after the JSON that belong to no tensor yet
    most   inputs that a request may hold
    """
    name, datatype, shape, parameters = _described(given)
    _check_kind(datatype, takes)
    size = parameters.get("binary_data_size")
    if (size is None) == (given.get("data") is None):
        raise bad(f'{name} must have either "data" or "binary_data_size"')
    if datatype == "BYTES":
        if math.prod(shape[1:]) != 1:
            raise bad(f"{name} of BYTES must have shape [N], one encoded image each; found {list(shape)}")
        check_count(shape[0], most)
    else:
        if takes.shape is not None and shape[1:] != takes.shape:
            raise bad(f"{name} has shape {list(shape)}; expected {[-1, *takes.shape]}")
        if not takes.arrays and not _are_images(shape):
            raise bad(f"{name} of UINT8 must have shape [N, H, W, 3], or [N, H, W] for grey; found {list(shape)}")
        check_count(shape[0], most)
    if size is None:
        return _from_json(given["data"], datatype, shape, parameters, takes), tail
    if type(size) is not int or not 0 <= size <= len(tail):
        raise bad(f"{name} has binary_data_size {shown(size)}, but {len(tail):,} bytes are left of the body")
    content, tail = tail[:size], tail[size:]
    if datatype == "BYTES":
        return _files(content, shape[0]), tail
    return _rows(_numbers(content, datatype, shape), takes), tail


def raw_input(body: bytes, takes: Takes) -> list[Any]:
    """The input of a request whose body is only that input (``Inference-Header-Content-Length: 0``)."""
    if takes.images:
        return [bytes(body)]
    if takes.shape is None:
        raise bad(f"the cascade takes {takes.says}, and a raw body does not state a shape; put JSON before it")
    return _rows(_numbers(memoryview(body), "FP32", (1, *takes.shape)), takes)


def _described(given: Any) -> tuple[str, str, tuple[int, ...], Mapping[str, Any]]:
    """(name, datatype, shape, parameters) of an input tensor."""
    if not isinstance(given, dict):
        raise bad('each entry of "inputs" must be an object with "name", "datatype" and "shape"')
    name, datatype, shape = given.get("name"), given.get("datatype"), given.get("shape")
    if name != INPUT:
        raise bad(f"there is no input {shown(name)}; this model takes one, {INPUT!r}")
    if not isinstance(datatype, str) or datatype not in (*DATATYPES, "BYTES"):
        raise bad(f"{name} has the datatype {shown(datatype)}; expected BYTES or one of {', '.join(DATATYPES)}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= MOST_DIMENSIONS:
        raise bad(f'the "shape" of {name} must be a list of 1 to {MOST_DIMENSIONS} numbers')
    if not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise bad(f'the "shape" of {name} must hold whole numbers, 0 or more')
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad(f"the parameters of {name} must be an object")
    if "shared_memory_region" in parameters:
        raise bad(f"{name} is in shared memory, which this server does not support; send its data")
    return name, datatype, tuple(shape), parameters


def _are_images(shape: tuple[int, ...]) -> bool:
    """Whether this is the shape of a batch of images; [H, W, 3] is one image, not a batch of grey ones."""
    return (len(shape) == 4 and shape[3] in (1, 3)) or (len(shape) == 3 and shape[2] not in (1, 3))


def _check_kind(datatype: str, takes: Takes) -> None:
    if datatype == "BYTES" and not takes.images:
        raise bad(f"{INPUT} is BYTES, but the cascade takes {takes.says}; expected FP32")
    if datatype not in ("BYTES", "UINT8") and not takes.arrays:
        raise bad(f"{INPUT} is {datatype}, but the cascade takes {takes.says}; expected BYTES, or UINT8 [N, H, W, 3]")


def _from_json(
    data: Any, datatype: str, shape: tuple[int, ...], parameters: Mapping[str, Any], takes: Takes
) -> list[Any]:
    """The inputs in ``"data"``, a list that is flat or nested like the shape."""
    try:
        if not isinstance(data, list):
            raise bad(f'the "data" of {INPUT} must be a list; found {shown(data)}')
        flat, nested = flattened(data)
        if len(nested) > 1 and nested != shape:
            raise bad(f"{INPUT} has shape {list(shape)}, but its data has shape {list(nested)}")
        if len(flat) != math.prod(shape):
            raise bad(f"{INPUT} of shape {list(shape)} has {math.prod(shape):,} values; found {len(flat):,}")
        if datatype == "BYTES":
            return [_text(one, parameters) for one in flat]
        return _rows(as_dtype(numbers(flat, shape), DATATYPES[datatype]), takes)
    except UnreadableSample as error:
        raise bad(f"{INPUT}: {error}") from None


def _text(text: Any, parameters: Mapping[str, Any]) -> bytes | UnreadableSample:
    """A file from a JSON string: base64, as ``"content_type": "base64"`` may state (no image file looks like it), else
    its characters in UTF-8."""
    if not isinstance(text, str):
        return UnreadableSample("a value of BYTES in JSON must be a string")
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
    return np.frombuffer(content, dtype).reshape(shape).copy()  # frees the body; models may write into it


def _rows(batch: NDArray[Any], takes: Takes) -> list[Any]:
    """Split a batch into its samples."""
    try:
        return [sample_of(np.asarray(one), takes) for one in batch]  # a batch [N] holds scalars
    except UnreadableSample as error:  # the same for all
        raise bad(f"{INPUT}: {error}") from None


def _files(content: memoryview, n: int) -> list[Any]:
    """The elements of a BYTES tensor: each is its length in four bytes, little-endian, and that many bytes."""
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
    """(an output of N values as JSON, its bytes after the JSON).

    values  strings for BYTES; None among numbers becomes NaN, and null in JSON
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
