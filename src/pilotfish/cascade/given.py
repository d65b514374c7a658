"""Drops and shares as people write them."""

from __future__ import annotations

import math
from typing import overload

from pilotfish.errors import UsageError


@overload
def given_drop(value: None, name: str = ...) -> None: ...
@overload
def given_drop(value: float | str, name: str = ...) -> float: ...
def given_drop(value: float | str | None, name: str = "max_drop") -> float | None:
    """A drop as a fraction: 0.005 and ``"0.5%"`` are half a point. None stays None.

    A bare number of 0.1 or more (1, 0.5, ``"2"``) is refused: it nearly always means percent. Write ``"50%"``.
    """
    if value is None:
        return None
    number, percent = _as_number(value, name, "0.005 or '0.5%'")
    if not percent and abs(number) >= 0.1:
        q = "" if name.startswith("--") else "'"  # an option is typed without quotes
        shown = repr(value) if isinstance(value, str) else f"{number:g}"
        if abs(number) > 100:  # in percent as well
            raise UsageError(
                f"{name}={shown} is not a drop; give a fraction such as 0.005 or {q}0.5%{q}, {q}100%{q} at most"
            )
        bare = f" (or {number / 100:.6g})" if abs(number) < 10 else ""
        meant = f", or {q}{100 * number:g}%{q} if that is meant" if abs(number) <= 1 else ""
        raise UsageError(
            f"{name}={shown} is read as a fraction, which is {100 * number:g} points; write {q}{number:g}%{q}{bare}"
            f"{meant}"
        )
    return number / 100 if percent else number


@overload
def given_class_drop(value: None, name: str) -> None: ...
@overload
def given_class_drop(value: float | str, name: str) -> float: ...
def given_class_drop(value: float | str | None, name: str) -> float | None:
    """What a class may lose, from 0 to 1, written as for :func:`given_drop`. None stays None."""
    if value is None:
        return None
    number, _ = _as_number(value, name, "0.01 or '1%'")
    if number >= 0:
        number = given_drop(value, name)
    if not 0 <= number <= 1:
        raise UsageError(f"{name}={value} is out of range: a class may lose from 0% to 100%")
    return number


@overload
def given_share(value: None, name: str) -> None: ...
@overload
def given_share(value: float | str, name: str) -> float: ...
def given_share(value: float | str | None, name: str) -> float | None:
    """An accuracy or a confidence as a fraction: 0.95 and ``"95%"``. None stays None."""
    if value is None:
        return None
    number, percent = _as_number(value, name, "0.95 or '95%'")
    if not percent and 1 < number <= 100:
        q = "" if name.startswith("--") else "'"
        shown = repr(value) if isinstance(value, str) else f"{number:g}"
        raise UsageError(f"{name}={shown} is read as a fraction; write {q}{number:g}%{q} (or {number / 100:g})")
    return number / 100 if percent else number


@overload
def given_metric(value: None, name: str = ...) -> None: ...
@overload
def given_metric(value: float | str, name: str = ...) -> float: ...
def given_metric(value: float | str | None, name: str = "min_metric") -> float | None:
    """The least value of a metric, as for :func:`given_share`. Text below ``"1%"`` is refused: ``"0.9%"`` nearly always
    means ``"90%"``, and every cascade meets it."""
    found = given_share(value, name)
    if isinstance(value, str) and value.strip().endswith("%") and found is not None and 0 < found < 0.01:
        q = "" if name.startswith("--") else "'"
        raise UsageError(
            f"{name}={value.strip()} is less than one in a hundred; write {q}{10000 * found:g}%{q}, "
            f"or {found:g} if that is meant"
        )
    return found


def _as_number(value: float | str, name: str, example: str) -> tuple[float, bool]:
    text = value.strip() if isinstance(value, str) else None
    try:
        number = math.nan if isinstance(value, bool) else float(value if text is None else text.removesuffix("%"))
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{name}={value!r} is not a number, such as {example}")
    return number, text is not None and text.endswith("%")
