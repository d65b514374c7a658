"""What is given to a training is of the types that it takes, or refused by the name of its parameter."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from pilotfish.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """*function*, which raises a UsageError for values of other types than its annotations name, before any work."""
    signature, hints = inspect.signature(function), get_type_hints(function)

    @functools.wraps(function)
    def called(*values: P.args, **named: P.kwargs) -> T:
        for name, value in signature.bind(*values, **named).arguments.items():
            if not _fits(value, hints[name]):
                kind = signature.parameters[name].annotation
                raise UsageError(f"{function.__name__}: {name} is {repr(value)[:60]}, expected {kind}")
        return function(*values, **named)

    return called


def _fits(value: Any, hint: Any) -> bool:
    kind, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if kind in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Sequence:
        return isinstance(value, Sequence) and not isinstance(value, str) and all(_fits(one, parts[0]) for one in value)
    if kind is not None:  # Mapping, Callable
        return isinstance(value, kind)
    if getattr(hint, "_is_protocol", False):
        members = {*inspect.get_annotations(hint), *vars(hint)}
        return all(hasattr(value, name) for name in members if not name.startswith("_"))
    if hint is int:
        return isinstance(value, int | np.integer) and not isinstance(value, bool)
    return isinstance(value, hint)
