"""Choices of a method beyond its name, as they are typed: ``--option diagram=survivors``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pilotfish.errors import UsageError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class NoOptions:
    """It has none."""


def read_options(kind: type[T], given: Mapping[str, Any], method: str) -> T:
    """*given* as a *kind*, a frozen dataclass of literals and numbers. UsageError lists what there is to choose."""
    hints = get_type_hints(kind)
    values = {}
    for key, value in given.items():
        if key not in hints:
            known = ", ".join(hints) or "none"
            raise UsageError(f"method {method} has no option {key!r}; it has {known}")
        values[key] = _read(value, hints[key], f"option {key} of method {method}")
    return kind(**values)


def _read(value: Any, hint: Any, what: str) -> Any:
    choices = [c for h in _parts(hint) if get_origin(h) is Literal for c in get_args(h)]
    if choices:
        if value not in choices:
            raise UsageError(f"{what} is one of {', '.join(choices)}, found {value!r}; {nearest(str(value), choices)}")
        return value
    if value is None or str(value).lower() == "none":
        if type(None) in _parts(hint):
            return None
        raise UsageError(f"{what} needs a number")
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise UsageError(f"{what} is a number, found {value!r}") from None
    if int in _parts(hint):
        if number != int(number) or number < 1:
            raise UsageError(f"{what} is a whole number of at least 1, found {value!r}")
        return int(number)
    if not 0 <= number <= 1:
        raise UsageError(f"{what} is a share from 0 to 1, such as 90%, found {value!r}")
    return number


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is not Literal and get_args(hint) else (hint,)
