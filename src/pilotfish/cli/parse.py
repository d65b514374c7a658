"""Parsing of arguments: numbers with units, lists of models."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import typer

from pilotfish.cascade import given_class_drop, given_drop, given_metric, given_share
from pilotfish.errors import UsageError

_LISTED = re.compile(r"[?&](mean|std)=[^&]*$")  # ends in an option that takes a number per channel
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*(&|$)", re.IGNORECASE)


def fraction(text: str | None, option: str) -> float | None:
    """``0.5%`` or ``0.005`` as 0.005, as :func:`pilotfish.cascade.given_drop` reads it."""
    return _given(given_drop, text, option)


def class_drop(text: str | None, option: str) -> float | None:
    """A drop of a class, as :func:`pilotfish.cascade.given_class_drop` reads it."""
    return _given(given_class_drop, text, option)


def share(text: str | None, option: str) -> float | None:
    """``95%`` or ``0.95`` as 0.95, as :func:`pilotfish.cascade.given_share` reads it."""
    return _given(given_share, text, option)


def least(given: Sequence[str] | None) -> float | None:
    """The value of ``--min-metric`` or its alias ``--min-accuracy``; several different values are refused."""
    found = {_given(given_metric, text, "--min-metric") for text in given or ()}
    if len(found) > 1:
        typed = " and ".join(given or ())
        raise typer.BadParameter(f"--min-metric and --min-accuracy are one option, given as {typed}; keep one")
    return found.pop() if found else None


def one_budget(
    max_drop: str | None,
    max_cost: str | None,
    min_metric: Sequence[str] | None = None,
    takes: Sequence[str] = ("--max-drop", "--max-cost"),
) -> dict[str, Any]:
    """The budget by its name in Python; exactly one must be given."""
    budget = {
        "max_drop": fraction(max_drop, "--max-drop"),
        "max_cost": cost_limit(max_cost),
        "min_metric": least(min_metric),
    }
    found = {name: value for name, value in budget.items() if value is not None}
    if len(found) != 1:
        raise typer.BadParameter(f"give exactly one of {', '.join(takes)}")
    return found


def confidence(text: str | None, option: str) -> float | None:
    """``90%`` or ``0.9`` as 0.9; strictly between 0 and 1."""
    value = share(text, option)
    if value is not None and not 0 < value < 1:
        raise typer.BadParameter(f"{text!r} is not a confidence, such as 90%", param_hint=option)
    return value


def cost_limit(text: str | None) -> str | None:
    """A number in the cost's unit, or a share such as ``40%`` of the base's."""
    if text is not None:
        _number(text.strip().removesuffix("%"), "--max-cost", text)
    return text


def name_list(given: list[str]) -> list[str]:
    """Names from options that may be repeated or comma-separated.

    A number that follows ``mean=`` or ``std=`` belongs to the model before it: ``onnx:a?mean=0.5,0.4,0.3,onnx:b``.
    """
    names: list[str] = []
    for entry in given:
        for k, part in enumerate(entry.split(",")):
            if k and _LISTED.search(names[-1] if names else "") and _NUMBER.match(part):
                names[-1] += f",{part.rstrip()}"
            elif part.strip():
                names.append(part.strip())
    return names


def key_values(given: list[str], option: str) -> dict[str, float]:
    """``KEY=X`` pairs."""
    found = {}
    for entry in given:
        key, equals, value = entry.rpartition("=")
        if not equals or not key:
            raise typer.BadParameter(f"expected KEY=NUMBER, such as usd=0.0004, found {entry!r}", param_hint=option)
        found[key] = _number(value, option, entry)
    return found


def class_drops(given: list[str], option: str) -> dict[str, float]:
    """``NAME=DROP`` pairs."""
    return {name: class_drop(drop, option) or 0.0 for name, drop in class_limits(given, option).items()}


def class_limits(given: list[str], option: str) -> dict[str, str]:
    """``NAME=DROP`` pairs, drops as typed, split at the last ``=``: names of classes may contain it."""
    found: dict[str, str] = {}
    for entry in given:
        name, equals, drop = entry.rpartition("=")
        if not equals or not name or not drop.strip():
            raise typer.BadParameter(f"expected NAME=DROP, such as fire=1%, found {entry!r}", param_hint=option)
        if name in found:
            raise typer.BadParameter(f"class {name!r} is given twice", param_hint=option)
        class_drop(drop, option)
        found[name] = drop
    return found


def choices(given: list[str], option: str) -> dict[str, str]:
    """``KEY=VALUE`` pairs as text."""
    found = {}
    for entry in given:
        key, equals, value = entry.partition("=")
        if not equals or not key or not value:
            raise typer.BadParameter(
                f"expected KEY=VALUE, such as diagram=survivors, found {entry!r}", param_hint=option
            )
        found[key] = value
    return found


def _given(read: Callable[[str, str], float], text: str | None, option: str) -> float | None:
    try:
        return None if text is None else read(text, option)
    except UsageError as error:
        raise typer.BadParameter(str(error).removeprefix(option).lstrip("= "), param_hint=option) from error


def _number(text: str, option: str, typed: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise typer.BadParameter(f"{typed!r} is not a number, such as 0.5%", param_hint=option)
    return value
