"""Numbers as people read them: shares, points, thresholds, costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MINUS = "−"
NOTHING = "–"


@dataclass(frozen=True)
class Unit:
    """How a cost is written: value / divisor, then the name."""

    name: str
    divisor: float = 1.0


def percent(share: float | None, decimals: int = 2) -> str:
    """0.9593 as "95.93%"."""
    return NOTHING if share is None or math.isnan(share) else _minus(f"{100 * share:.{decimals}f}%")


def signed_percent(share: float | None, decimals: int = 2) -> str:
    """A change: -0.553 as "−55.30%", 0.01 as "+1.00%"."""
    return NOTHING if share is None or math.isnan(share) else _minus(f"{100 * share:+.{decimals}f}%")


def points(fraction: float | None, decimals: int = 2) -> str:
    """A drop of 0.0012 as "0.12 points"."""
    return NOTHING if fraction is None else f"{plain_points(fraction, decimals)} points"


def plain_points(fraction: float, decimals: int = 2) -> str:
    """A drop of 0.0012 as "0.12", for a sentence that says "points" once."""
    text = f"{100 * fraction:.{decimals}f}"
    return _minus(text if float(text) else text.removeprefix("-"))


def format_count(n: int) -> str:
    """10000 as "10,000"."""
    return f"{n:,}"


def format_threshold(threshold: float | None) -> str:
    """Four decimals; more where a probability would round to 1; what the infinities mean."""
    if threshold is None or math.isnan(threshold):
        return NOTHING
    if math.isinf(threshold):
        return "∞ (nobody exits)" if threshold > 0 else f"{MINUS}∞ (everybody exits)"
    if abs(threshold) >= 1000:
        return _minus(f"{threshold:,.6g}")
    decimals = 4
    while decimals < 9 and threshold < 1 <= round(threshold, decimals):
        decimals += 1
    if threshold < 1 <= round(threshold, decimals):
        return f"1{MINUS}{1 - threshold:.0e}"
    return _minus(f"{threshold:.{decimals}f}")


def cost_name(key: str) -> str:
    """What a cost key measures: "MACs", "ms at cpu-b8"."""
    kind, _, where = key.partition("@")
    name = {"macs": "MACs", "params": "parameters", "ms": "time"}.get(kind, kind)
    return f"{name} at {where}" if where else name


def cost_unit(key: str, largest: float) -> Unit:
    """One unit for a whole column or axis whose largest value is *largest*."""
    kind = key.partition("@")[0]
    if kind == "macs":
        if largest >= 1e8:
            return Unit("GMACs", 1e9)
        return Unit("MMACs", 1e6) if largest >= 1e4 else Unit("MACs")
    if kind == "params":
        return Unit("M params", 1e6) if largest >= 1e4 else Unit("params")
    return Unit(kind)


def format_cost(key: str | None, value: float | None, unit: Unit | None = None) -> str:
    """390000000 MACs as "0.39 GMACs", 1.234 ms as "1.23 ms"; *unit* fixes the unit of a column."""
    if key is None or value is None:
        return NOTHING
    unit = unit or cost_unit(key, value)
    return f"{cost_number(value, unit)} {unit.name}"


def cost_number(value: float | None, unit: Unit) -> str:
    """The number alone: two decimals, or two significant digits below 0.1."""
    if value is None:
        return NOTHING
    scaled = value / unit.divisor
    if scaled and abs(scaled) < 0.1:
        return f"{scaled:.2g}"
    return f"{scaled:,.0f}" if unit.divisor == 1 and scaled == int(scaled) else f"{scaled:,.2f}"


def milliseconds(value: float | None) -> str:
    """1.234 as "1.23 ms"."""
    return NOTHING if value is None else f"{value:,.2f} ms"


def short_hash(digest: str | None) -> str:
    """The first 12 digits of a hash."""
    return NOTHING if not digest else digest.removeprefix("sha256:")[:12]


def shorten(name: str, most: int = 28, before: float = 0.6) -> str:
    """A long name without its middle. before: the share of what is kept that stands before it."""
    if len(name) <= most:
        return name
    head = int((most - 1) * before)
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def shorten_all(names: Sequence[str], most: int = 28) -> dict[str, str]:
    """Names without their middles by name, which stay as distinct as they are: where they differ in the middle, another
    part is left out, or less than *most* asks for."""
    longest = max(map(len, names), default=0)
    for length in range(most, longest, 4):
        for before in (0.6, 0.2, 0.85):
            found = {name: shorten(name, length, before) for name in names}
            if len(set(found.values())) == len(found):
                return found
    return {name: name for name in names}


def capital(text: str) -> str:
    """*text* with a capital first, as a heading begins; mAP and mIoU stay as they are written."""
    first = text.partition(" ")[0]
    return text if first != first.lower() else text[:1].upper() + text[1:]


def _minus(text: str) -> str:
    return text.replace("-", MINUS)
