"""JSON documents and the dataclasses that they stand for: read by their type hints, written by their fields.

One reader for everything that Pilotfish writes and reads again. What a hint says is checked, and nothing else is let
through: a bool is no number, a number is finite, ``tuple[float, float]`` is a list of two. Limits stand in the hint::

    n: Annotated[int, Within(0)]                 a whole number of at least 0
    thresholds: tuple[Unbounded, ...]            numbers, or "inf" and "-inf": JSON has no infinities
    groups: int | None = field(default=None, metadata=OFF_DEFAULT)   written only where it is not None

A type whose values must fit together has ``validate()``, which raises ValueError in words. One that was once written in
other words has ``modern(document)``, which gives them in those of its fields, and ``to_json()`` where it still is.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from pilotfish.errors import PilotfishError
from pilotfish.text import quantity

T = TypeVar("T")


@dataclass(frozen=True)
class Within:
    """Limits of a number, or of each number of an array, both included. infinities: "inf" and "-inf" as well."""

    low: float = -math.inf
    high: float = math.inf
    infinities: bool = False

    def __str__(self) -> str:
        if self.high < 2**53:
            return f" from {self.low:,g} to {self.high:,g}"
        either = ", inf or -inf" if self.infinities else ""
        return f" of at least {self.low:,g}" if self.low > -math.inf else either


Unbounded = Annotated[float, Within(infinities=True)]
Share = Annotated[float, Within(0, 1)]
Count = Annotated[int, Within(0, 2**53)]
OFF_DEFAULT: Mapping[str, Any] = {"written": "off its default"}
"""Metadata of a field that stands in a document only where it is not its default."""
ALWAYS: Mapping[str, Any] = {"written": "always"}
"""Metadata of a field with a default that a document must have all the same."""

_ANY = Within()
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


class _MisfitError(ValueError):
    """What is wrong with a value, and where in the document."""


def read_as(
    kind: type[T],
    document: Any,
    where: str,
    error: type[PilotfishError],
    *,
    at: str = "",
    advice: str = "",
    unknown: Literal["refuse", "ignore"] = "refuse",
    given: Mapping[str, Any] | None = None,
) -> T:
    """*document* as a *kind*: a dataclass, or any hint that its fields may have.

    document  what :func:`pilotfish.files.parse_json` found
    where     begins the message: the file, and what of it
    at        what the document is of a larger one: ``scores``
    advice    ends the message: what to do
    unknown   what becomes of keys, at any depth, that are no fields
    given     fields of *kind* that are ready, whatever the document says of them

    Raises *error* with one line: ``cascade.json: stages[1].name is 3, expected a text``.
    """
    try:
        ignore = unknown == "ignore"
        found: T = _object(kind, document, at, ignore, given) if given else _read(kind, document, at, ignore)
        return found
    except _MisfitError as wrong:
        raise error(f"{where}: {wrong}{advice and f'; {advice}'}") from wrong


def check_fields(value: Any, where: str, error: type[PilotfishError]) -> None:
    """Hold a dataclass that was made in Python to its hints, as :func:`read_as` does; for ``__post_init__``."""
    kind: Any = type(value)
    try:
        for name, (hint, _) in _fields(kind).items():
            object.__setattr__(value, name, _read(hint, getattr(value, name), name, False))
    except _MisfitError as wrong:
        raise error(f"{where}: {wrong}") from wrong


def as_document(value: Any, without: Collection[str] = ()) -> Any:
    """*value* as JSON: dataclasses as objects, tuples and arrays as lists, infinities as texts, NaN as null.

    without  fields of *value*, a dataclass, that are left out
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: f for f in dataclasses.fields(value) if f.name not in without}
        held = {name: getattr(value, name) for name in fields}
        return {
            name: each.to_json() if hasattr(each, "to_json") else as_document(each)
            for name, each in held.items()
            if fields[name].metadata != OFF_DEFAULT or each != fields[name].default
        }
    if isinstance(value, Mapping):
        return {str(key): as_document(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_document(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return as_document(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _read(hint: Any, value: Any, path: str, ignore: bool, limits: Within = _ANY) -> Any:
    """*value* as *hint* says; _MisfitError with its place otherwise."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _read(args[0], value, path, ignore, next((a for a in args[1:] if isinstance(a, Within)), limits))
    if hint is Any or hint is object:
        return value
    if origin in (Union, types.UnionType):
        return _one_of(args, value, path, ignore, limits)
    if dataclasses.is_dataclass(hint):
        return _object(hint, value, path, ignore, {})
    if origin is Literal:
        if any(type(value) is type(each) and value == each for each in args):
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple):
            return _list(args, value, path, ignore, limits)
    elif origin is np.ndarray:
        return _array(value, path, limits)
    elif origin is not None and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            each = args[1] if args else Any
            return {str(k): _read(each, v, f"{path}[{_shown(k)}]", ignore, limits) for k, v in value.items()}
    elif hint in (int, float):
        if (number := _number(hint, value, limits)) is not None:
            return number
    elif type(value) is hint:
        return value
    raise _misfit(path, value, _expected(hint, limits))


def _one_of(args: Sequence[Any], value: Any, path: str, ignore: bool, limits: Within) -> Any:
    if value is None and type(None) in args:
        return None
    rest = [arg for arg in args if arg is not type(None)]
    for arg in rest[:-1]:
        try:
            return _read(arg, value, path, ignore, limits)
        except _MisfitError:
            continue
    try:
        return _read(rest[-1], value, path, ignore, limits)
    except _MisfitError:
        if isinstance(value, dict | list):  # deeper inside: say where
            raise
        raise _misfit(path, value, " or ".join(_expected(arg, limits) for arg in args)) from None


def _object(kind: Any, value: Any, path: str, ignore: bool, given: Mapping[str, Any]) -> Any:
    if not isinstance(value, Mapping):
        raise _misfit(path, value, "an object")
    fields, start = _fields(kind), f"{path}." if path else ""
    if hasattr(kind, "modern"):
        try:
            value = kind.modern(value)
        except ValueError as error:
            raise _MisfitError(f"{path}: {error}" if path else str(error)) from error
    found = dict(given)
    for name, (hint, required) in fields.items():
        if name in given:
            continue
        if name in value:
            found[name] = _read(hint, value[name], start + name, ignore)
        elif required:
            raise _MisfitError(f"{start}{name} is missing, expected {_expected(hint, _ANY)}")
    if not ignore and (unknown := [key for key in value if key not in fields]):
        inside = f" in {path}" if path else ""
        raise _MisfitError(f"unknown key {_shown(unknown[0])}{inside} (written by a newer Pilotfish?)")
    try:
        made = kind(**found)
        if hasattr(made, "validate"):
            made.validate()
    except (PilotfishError, ValueError, OverflowError) as error:
        raise _MisfitError(f"{path}: {error}" if path else str(error)) from error
    return made


def _list(args: tuple[Any, ...], value: Sequence[Any], path: str, ignore: bool, limits: Within) -> tuple[Any, ...]:
    if len(args) == 2 and args[1] is Ellipsis:
        if args[0] is str and all(type(each) is str for each in value):  # the names of 21,000 classes
            return tuple(value)
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise _MisfitError(f"{path} has {quantity(len(value), 'value')}, expected {len(args)}")
    pairs = zip(args, value, strict=True)
    return tuple(_read(arg, each, f"{path}[{i}]", ignore, limits) for i, (arg, each) in enumerate(pairs))


def _array(value: Any, path: str, limits: Within) -> Any:
    """float64 of any shape from lists in lists; an empty list has the shape (0,)."""
    if not isinstance(value, list | tuple):
        raise _misfit(path, value, "a list of numbers")
    try:
        return np.array(_numbers(value, path, limits), np.float64)
    except _MisfitError:
        raise
    except (ValueError, OverflowError) as error:
        raise _MisfitError(f"{path} has rows of different lengths") from error


def _numbers(value: Sequence[Any], path: str, limits: Within) -> list[Any]:
    found: list[Any] = []
    for i, each in enumerate(value):
        if isinstance(each, list | tuple):
            found.append(_numbers(each, f"{path}[{i}]", limits))
        elif (number := _number(float, each, limits)) is not None:
            found.append(number)
        else:
            raise _misfit(f"{path}[{i}]", each, _expected(float, limits))
    return found


def _number(hint: type[float], value: Any, limits: Within) -> float | None:
    """A number of the kind within the limits; None for anything else."""
    if limits.infinities and value in ("inf", "-inf", math.inf, -math.inf):
        return float(value)
    if type(value) is not int and (hint is int or type(value) is not float):
        return None
    try:
        return hint(value) if math.isfinite(value) and limits.low <= value <= limits.high else None
    except OverflowError:  # a whole number beyond float64
        return None


@functools.cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """(hint, whether it must be there) of each field."""
    hints, missing = get_type_hints(kind, include_extras=True), dataclasses.MISSING
    fields = [f for f in dataclasses.fields(kind) if f.init]
    bare = {f.name: f.default is missing and f.default_factory is missing for f in fields}
    return {f.name: (hints[f.name], bare[f.name] or f.metadata == ALWAYS) for f in fields}


def _expected(hint: Any, limits: Within) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _expected(args[0], next((a for a in args[1:] if isinstance(a, Within)), limits))
    if origin in (Union, types.UnionType):
        return " or ".join(_expected(arg, limits) for arg in args)
    if origin is Literal:
        return f"{'one of ' if len(args) > 1 else ''}{', '.join(map(str, args))}"
    if hint in (int, float):
        return f"{_WORDS[hint]}{limits}"
    return _WORDS.get(hint) or ("a list" if origin in (tuple, np.ndarray) else "an object")


def _misfit(path: str, value: Any, expected: str) -> _MisfitError:
    return _MisfitError(
        f"{path} is {_shown(value)}, expected {expected}" if path else f"expected {expected}, found {_shown(value)}"
    )


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        return repr(value[:60] if isinstance(value, str) else value)[:64]
    except ValueError:  # an integer of more digits than Python prints
        return "a number beyond float64"
