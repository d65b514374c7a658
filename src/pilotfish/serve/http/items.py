"""Inputs in JSON: image files in base64, and nested lists of numbers."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UnreadableSample, one_line, reason
from pilotfish.serve.http.json_body import bad, shown
from pilotfish.serve.served import Entry
from pilotfish.serve.takes import Takes

KINDS = ("b64", "text", "array")
BEFORE = ";base64,"
IN_JSON = {int: "numbers", float: "numbers", bool: "booleans", str: "strings", dict: "objects", list: "lists"}
IN_JSON[type(None)] = "null"
MOST_ID = 200
"""Characters of an id at most."""


def entries_of(instances: Any, takes: Takes, most: int) -> list[Entry]:
    """The inputs of a request from its ``"instances"``. The error of an invalid input becomes its item.

    instances  ``{"b64" | "text" | "array", "id"}`` each; ``{NAME: {"b64"}}`` and bare arrays are accepted too
    most       inputs that a request may hold
    """
    if not isinstance(instances, list):
        raise bad(f'"instances" must be a list of inputs; found {shown(instances)}')
    check_count(len(instances), most)
    return [_entry(instance, place, takes) for place, instance in enumerate(instances)]


def check_count(n: int, most: int) -> None:
    """Refusal if a request has no inputs, or too many."""
    if not n:
        raise bad("the request holds no inputs; expected at least one")
    if n > most:
        raise bad(f"the request holds {n:,} inputs, more than the {most:,} allowed; send them in several requests")


def _entry(instance: Any, place: int, takes: Takes) -> Entry:
    called = instance.get("id") if isinstance(instance, dict) else None
    texts = isinstance(called, str) and 0 < len(called) <= MOST_ID
    fine = called is None or texts or (type(called) is int and abs(called) < 2**63)
    id = str(called) if fine and called is not None else None
    item: Any
    try:
        if not fine:
            raise UnreadableSample(f'"id" must be a string of 1 to {MOST_ID} characters; found {shown(called)}')
        item = _item(instance, takes)
    except UnreadableSample as error:
        item = error
    return Entry(item, id, one_line(str(place) if id is None else id))


def _item(instance: Any, takes: Takes) -> bytes | NDArray[Any]:
    if isinstance(instance, list):
        return array_of(instance, takes)
    if not isinstance(instance, dict):
        raise UnreadableSample(f'an input must be {{"b64"}} or {{"array"}}; found {shown(instance)}')
    given = {key: value for key, value in instance.items() if key != "id"}
    if len(given) != 1:
        found = ", ".join(map(shown, sorted(given)[:5])) or "none"
        raise UnreadableSample(f'an input has exactly one of the keys "b64" and "array"; found {found}')
    ((kind, value),) = given.items()
    if isinstance(value, dict) and list(value) == ["b64"]:  # {"image_bytes": {"b64": …}}, as for TensorFlow Serving
        kind, value = "b64", value["b64"]
    if kind == "b64":
        return image_of(value, takes)
    if kind == "array":
        return array_of(value, takes)
    if kind == "text":
        raise UnreadableSample(f"the cascade takes {takes.says}, not texts")
    raise UnreadableSample(f'an input has exactly one of the keys "b64" and "array"; found {shown(kind)}')


def image_of(text: Any, takes: Takes) -> bytes:
    """The bytes of an image file from base64. UnreadableSample if it is invalid."""
    if not isinstance(text, str):
        raise UnreadableSample(f'"b64" must be an image file in base64; found {shown(text)}')
    if not takes.images:
        raise UnreadableSample(f"the cascade takes {takes.says}, not encoded images")
    return plain(text)


def plain(text: str) -> bytes:
    """The bytes of *text*, which is base64 or a data URL; line ends are ignored. UnreadableSample if it is invalid."""
    if text.startswith("data:"):  # as browsers encode files
        at = text.find(BEFORE, 0, MOST_ID)
        if at < 0:
            raise UnreadableSample(f"a data URL must have {BEFORE} before its data")
        text = text[at + len(BEFORE) :]
    if "\n" in text:  # line breaks, as mail and the command base64 insert
        text = text.replace("\r", "").replace("\n", "")
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:  # ValueError: not ASCII
        raise UnreadableSample(f"invalid base64: {reason(error)}") from None
    if not found:
        raise UnreadableSample("it is empty; expected an image file in base64")
    return found


def array_of(values: Any, takes: Takes) -> NDArray[Any]:
    """One sample from nested lists. UnreadableSample if the cascade does not take it."""
    flat, shape = flattened(values)
    return sample_of(numbers(flat, shape), takes)


def sample_of(array: NDArray[Any], takes: Takes) -> NDArray[Any]:
    """*array*, if the cascade takes it. UnreadableSample, stating what it takes, otherwise."""
    if not array.size:
        raise UnreadableSample(f"an array of shape {list(array.shape)} is empty")
    if takes.arrays:
        if takes.shape is not None and array.shape != takes.shape:
            raise UnreadableSample(f"an array of shape {list(array.shape)}; expected {list(takes.shape)}")
        return array
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))):
        raise UnreadableSample(f"an array of shape {list(array.shape)} is not an image; expected [H, W, 3] or [H, W]")
    return as_dtype(array, np.dtype(np.uint8))


def as_dtype(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """*array* as *dtype*. UnreadableSample if *dtype* cannot represent its numbers."""
    if array.dtype == dtype or not array.size:
        return array.astype(dtype, copy=False)
    with np.errstate(all="ignore"):
        found = array.astype(dtype)
    fits = np.isfinite(found).all() if dtype.kind == "f" else (array.dtype.kind == "b") == (dtype.kind == "b")
    if dtype.kind in "iu" and fits:
        limits = np.iinfo(dtype)
        fits = array.min() >= limits.min and array.max() <= limits.max and (found == array).all()
    if not fits:
        raise UnreadableSample(f"the array holds numbers that {dtype.name} cannot represent")
    return found


def flattened(values: Any) -> tuple[list[Any], tuple[int, ...]]:
    """(values in row-major order, shape) of nested lists. UnreadableSample if their lengths differ."""
    level, shape = [values], []
    while level and type(level[0]) is list:
        n = len(level[0])
        if any(type(one) is not list or len(one) != n for one in level):
            raise UnreadableSample("the lists of an array differ in length or depth")
        shape.append(n)
        level = list(chain.from_iterable(level))
    return level, tuple(shape)


def numbers(flat: Sequence[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """JSON numbers as an array: int64, uint64, float64 or bool. UnreadableSample if there is anything else: numpy would
    read strings as numbers, or numbers as strings of the longest one's length."""
    kinds = set(map(type, flat))
    if not (kinds <= {int, float} or kinds == {bool}):
        found = " and ".join(sorted({IN_JSON[kind] for kind in kinds}))
        raise UnreadableSample(f"an array must hold only numbers or only booleans; found {found}")
    try:
        array = np.array(flat)
    except OverflowError:
        array = np.array(None)
    if array.dtype.kind not in "iufb":
        raise UnreadableSample("the array holds an integer of more than 64 bits")
    try:
        return array.reshape(shape)
    except ValueError:
        raise UnreadableSample(f"an array has too many dimensions: {len(shape)}") from None
