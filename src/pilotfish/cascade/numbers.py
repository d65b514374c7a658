"""Numbers in JSON: JSON has no infinities, thresholds do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from pilotfish.errors import ArtefactError


def to_json(value: float | None) -> float | str | None:
    """A finite number as it is; infinities as the strings "inf" and "-inf"; NaN as null."""
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(value)


def document(value: Any) -> Any:
    """*value* as JSON: a dataclass as an object of its fields, tuples and arrays as lists, floats by to_json."""
    if is_dataclass(value):
        return {field.name: document(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): document(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [document(entry) for entry in value]
    return to_json(value) if isinstance(value, float) else value


def from_json(value: Any) -> float:
    """The inverse of :func:`to_json`; ArtefactError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ArtefactError(f"expected a number or one of the strings inf, -inf; found {str(value)[:60]!r}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if math.isnan(number) or (isinstance(value, str) and not math.isinf(number)):
        shown = str(value)[:60] if isinstance(value, float | str) else "an integer beyond float64"
        raise ArtefactError(f"expected a number or one of the strings inf, -inf; found {shown!r}")
    return number
