"""Reads JSON requests within limits of time and memory, off the event loop if they are large."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pilotfish.errors import one_line, reason
from pilotfish.files import parse_json
from pilotfish.serve.refusal import Refusal

MOST_VALUES = 1_000_000
"""Values in one body: a million numbers take a third of a second and some 50 MB."""
MOST_LISTS, MOST_KEYS = 350_000, 20_000
LARGE = 64 << 10
"""Bytes of JSON from which on a thread reads it."""
T = TypeVar("T")

_WRITER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_READERS = ThreadPoolExecutor(2, "pilotfish-json")  # two at a time, which limits their total too


def bad(text: str) -> Refusal:
    """The refusal of an invalid request."""
    return Refusal(400, text, "bad_request")


def shown(value: Any, most: int = 60) -> str:
    """A value of a request for an error message: one line of about *most* characters."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return one_line(repr(value[:most] if isinstance(value, str) else value)[: most + 2])


async def read_aside(size: int, read: Callable[[], T]) -> T:
    """The result of *read*, which reads *size* bytes of JSON; in a thread if that is much, so that other requests are
    answered meanwhile."""
    if size < LARGE:
        return read()
    return await asyncio.get_running_loop().run_in_executor(_READERS, read)


def json_of(body: bytes) -> Any:
    """Parse the JSON of a request. Refusal, one line, if it is invalid or would be slow to read: repeated keys, NaN,
    numbers beyond float64, deep nesting, lone surrogates, millions of values."""
    if not body.strip():
        raise bad("the body is empty; expected JSON")
    lists, keys = body.count(b"[") + body.count(b"{"), body.count(b":")
    values = body.count(b",") + lists
    if values > MOST_VALUES or lists > MOST_LISTS or keys > MOST_KEYS:
        raise bad(
            f"the JSON holds some {values:,} values, {lists:,} lists and {keys:,} keys, more than {MOST_VALUES:,}, "
            f"{MOST_LISTS:,} or {MOST_KEYS:,}; send fewer inputs at once, images as files or base64, and arrays as "
            "binary tensors"
        )
    try:
        return parse_json(body, yielding=len(body) >= LARGE)
    except ValueError as error:
        raise bad(f"the body is not valid JSON: {reason(error)}") from None


def to_json(document: Any) -> bytes:
    """*document* as JSON, in ASCII. NaN and infinities become null."""
    try:
        return _WRITER.encode(document).encode()
    except ValueError:
        return _WRITER.encode(_finite(document)).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
