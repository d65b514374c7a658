"""Fractions as people give them: 0.005, "0.5%" or "0.005"."""

from __future__ import annotations

import math

from pilotfish.errors import UsageError


def given_drop(value: float | str | None, name: str = "max_drop") -> float | None:
    """A drop as a fraction: 0.005 and ``"0.5%"`` are half a point. None stays None.

    A bare number of 0.1 or more (1, 0.5, ``"2"``) is refused: it is nearly always meant as percent. Write ``"50%"``.
    """
    if value is None:
        return None
    number, percent = _number(value, name, "0.005 or '0.5%'")
    if not percent and abs(number) >= 0.1:
        shown = repr(value) if isinstance(value, str) else f"{number:g}"
        raise UsageError(
            f"{name}={shown} is read as a fraction, which is {100 * number:g} points; write {number / 100:.6g} or "
            f"'{number:g}%', or '{100 * number:g}%' where that is meant"
        )
    return number / 100 if percent else number


def given_share(value: float | str | None, name: str) -> float | None:
    """An accuracy or a confidence as a fraction: 0.95 and ``"95%"``. None stays None."""
    if value is None:
        return None
    number, percent = _number(value, name, "0.95 or '95%'")
    if not percent and 1 < number <= 100:
        shown = repr(value) if isinstance(value, str) else f"{number:g}"
        raise UsageError(f"{name}={shown} is read as a fraction; write {number / 100:g} or '{number:g}%'")
    return number / 100 if percent else number


def _number(value: float | str, name: str, example: str) -> tuple[float, bool]:
    text = value.strip() if isinstance(value, str) else None
    try:
        number = math.nan if isinstance(value, bool) else float(value if text is None else text.removesuffix("%"))
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{name} is a number such as {example}, found {value!r}")
    return number, text is not None and text.endswith("%")
