"""The shortlist: published models ranked as savers for a published base, by the ΔC that is to be expected."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.documents import as_document
from pilotfish.errors import ModelError, UsageError, nearest
from pilotfish.plan.shortlist.estimate import FITTED_DROP, FITTED_GAP, FITTED_SAVER, estimate_exit_ratio
from pilotfish.plan.shortlist.table import PublishedTable, read_published, resolve_cost

NATIVE = "native"


@dataclass(frozen=True)
class ShortlistSaver:
    """One candidate. saver is a name that ``pilotfish record --model`` takes; exit_ratio and delta_cost are guesses.

    top1 is a fraction; cost is in the unit of the shortlist's cost (MACs, or ms per sample); delta_cost = cost_ratio -
    exit_ratio, below 0 is a saving (TinySaver Eq. 10).
    """

    saver: str
    img_size: int
    top1: float
    macs: float
    cost: float
    cost_ratio: float
    exit_ratio: float
    delta_cost: float


@dataclass(frozen=True)
class Shortlist:
    """Savers worth recording for one base, best first. ``considered`` is how many published rows cost less than it."""

    base: str
    cost: str
    device: str | None
    max_drop: float
    source: str
    savers: tuple[ShortlistSaver, ...]
    size: str
    base_img_size: int
    base_top1: float
    base_macs: float
    base_cost: float
    considered: int
    notes: tuple[str, ...] = ()

    @property
    def worthwhile(self) -> tuple[ShortlistSaver, ...]:
        """Those that are expected to save something."""
        return tuple(saver for saver in self.savers if saver.delta_cost < 0)

    def to_json(self) -> dict[str, Any]:
        """The document of ``pilotfish shortlist --json``."""
        found: dict[str, Any] = as_document(self)
        return found


def shortlist(
    base: str,
    *,
    size: str | int = NATIVE,
    cost: str | None = None,
    device: str | None = None,
    max_drop: float = 0.0,
    top: int = 10,
    per_family: int | None = 2,
    table: str | Path | None = None,
) -> Shortlist:
    """Rank published models as savers for *base* by ΔĈ = C_S/C_B - r̂, r̂ from accuracies alone (see ``estimate``).

    base        ``timm:NAME[@SIZE]``; ``timm:`` may be left out
    size        ``native``: every model at its own input size; or pixels, such as 224: rows measured at that size only
    cost        ``macs`` (the default without a device), or ``ms@DEVICE``: time per sample at the published batch size
    device      the same as ``ms@DEVICE``
    max_drop    accuracy that may be lost, a fraction >= 0
    top         how many savers at most
    per_family  how many of one family of architectures at most (None: no limit); of one architecture, only the best
    table       a table made by ``tools/make_published_table.py`` instead of the one that comes with the package

    ModelError for a base that is not in the table, UsageError for the other arguments, DataError for the table.
    """
    _check(max_drop, top, per_family)
    published = read_published(table)
    key, device, values = resolve_cost(published, cost, device)
    pixels = _pixels(size)
    at = _find_base(published, base, pixels)
    if math.isnan(values[at]):
        measured = [name for name, rate in published.samples_per_s.items() if not math.isnan(rate[at])]
        raise ModelError(
            f"{_name(published, at)} has no published speed on {device}; "
            f"measured on: {', '.join(measured) or 'no device'}; or use cost macs"
        )
    fits = published.img_size == (published.own_size if pixels is None else pixels)
    candidates = np.flatnonzero(fits & (values < values[at]))  # NaN, not measured, is not less
    exit_ratio = estimate_exit_ratio(published.top1[at], published.top1[candidates], max_drop)
    delta = values[candidates] / values[at] - exit_ratio
    order = _ranked(published, candidates, delta, top, per_family)
    savers = tuple(
        ShortlistSaver(
            saver=_name(published, int(row)),
            img_size=int(published.img_size[row]),
            top1=float(published.top1[row]),
            macs=float(published.macs[row]),
            cost=float(values[row]),
            cost_ratio=float(values[row] / values[at]),
            exit_ratio=float(exit_ratio[place]),
            delta_cost=float(delta[place]),
        )
        for place, row in zip(order, candidates[order], strict=True)
    )
    return Shortlist(
        base=_name(published, at),
        cost=key,
        device=device,
        max_drop=max_drop,
        source=published.source,
        savers=savers,
        size=NATIVE if pixels is None else str(pixels),
        base_img_size=int(published.img_size[at]),
        base_top1=float(published.top1[at]),
        base_macs=float(published.macs[at]),
        base_cost=float(values[at]),
        considered=len(candidates),
        notes=tuple(_notes(savers, float(published.top1[at]), max_drop)),
    )


def family(model: str) -> str:
    """The family of a timm name: ``tf_efficientnet_b0.ns_jft_in1k`` is efficientnet, ``resnet50d`` is resnet."""
    parts = model.partition(".")[0].removeprefix("tf_").removeprefix("legacy_").split("_")
    return re.sub(r"(?<!v)\d+[a-z]*$", "", parts[0]) or parts[0]


def _check(max_drop: float, top: int, per_family: int | None) -> None:
    if not 0 <= max_drop <= 1:
        raise UsageError(f"max_drop is a fraction between 0 and 1 (0.005 is half a point), found {max_drop}")
    if top < 1:
        raise UsageError(f"top is how many savers to list, 1 or more, found {top}")
    if per_family is not None and per_family < 1:
        raise UsageError(f"per_family is 1 or more, or None for no limit, found {per_family}")


def _pixels(size: str | int) -> int | None:
    text = str(size)
    if text == NATIVE:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10) or int(text) < 1:
        raise UsageError(f"size is {NATIVE} or a number of pixels such as 224, found {text[:40]!r}")
    return int(text)


def _find_base(table: PublishedTable, base: str, pixels: int | None) -> int:
    """Row of the base, at its ``@SIZE``, else at *pixels*, else at its own size."""
    text = base.strip().removeprefix("timm:")
    if ":" in text or "?" in text:
        raise ModelError(
            f"{base}: published results are of timm's pretrained weights; the base is timm:NAME or timm:NAME@SIZE"
        )
    match = re.fullmatch(r"(.+)@(\d+)", text)
    name, wanted = (match[1], int(match[2])) if match else (text, pixels)
    rows = [i for i, model in enumerate(table.models) if model == name]
    if not rows:
        tagged = sorted({model for model in table.models if model.partition(".")[0] == name})
        if len(tagged) != 1:
            which = f"name its weights: {', '.join(tagged)}" if tagged else nearest(name, sorted(set(table.models)))
            raise ModelError(f"no published results for timm's {name!r}; {which}")
        rows = [i for i, model in enumerate(table.models) if model == tagged[0]]
    sizes = {int(table.img_size[i]): i for i in rows}
    if wanted is None:
        return sizes[min(sizes)]
    if wanted not in sizes:
        published = ", ".join(map(str, sorted(sizes)))
        raise ModelError(f"timm:{table.models[rows[0]]} has no published result at {wanted} px, only at {published} px")
    return sizes[wanted]


def _ranked(
    table: PublishedTable, rows: NDArray[np.intp], delta: NDArray[np.float64], top: int, per_family: int | None
) -> list[int]:
    """Places in *rows*, smallest ΔĈ first, then the more accurate; the best of each architecture, few of a family.

    Two architectures of one family with the same accuracy and MACs are one net written in two ways (levit, levit_conv).
    """
    chosen: list[int] = []
    seen: set[object] = set()
    members: dict[str, int] = {}
    for place in sorted(range(len(rows)), key=lambda i: (delta[i], -table.top1[rows[i]], table.models[rows[i]])):
        row = int(rows[place])
        architecture, kin = table.models[row].partition(".")[0], family(table.models[row])
        same_net = (kin, float(table.top1[row]), float(table.macs[row]))
        if {architecture, same_net} & seen or (per_family is not None and members.get(kin, 0) >= per_family):
            continue
        seen |= {architecture, same_net}
        members[kin] = members.get(kin, 0) + 1
        chosen.append(place)
        if len(chosen) == top:
            break
    return chosen


def _name(table: PublishedTable, row: int) -> str:
    size, own = int(table.img_size[row]), int(table.own_size[row])
    return f"timm:{table.models[row]}" + ("" if size == own else f"@{size}")


def _notes(savers: tuple[ShortlistSaver, ...], base_top1: float, max_drop: float) -> list[str]:
    low, high = FITTED_SAVER
    found = []
    if outside := [s for s in savers if not low <= s.top1 <= high or base_top1 - s.top1 > FITTED_GAP]:
        fitted = f"savers of {100 * low:.0f} to {100 * high:.0f}% accuracy, at most {100 * FITTED_GAP:.0f} points below"
        found.append(f"extrapolated for {len(outside)} of these savers: the prior was fitted on {fitted}")
    if max_drop > FITTED_DROP:
        found.append(f"extrapolated: the prior was fitted on drops of at most {100 * FITTED_DROP:.0f} point")
    if better := [s.saver for s in savers if s.top1 >= base_top1]:
        more = f" and {len(better) - 2} more" if len(better) > 2 else ""
        found.append(
            f"at least as accurate as the base and cheaper, so it could be replaced: {', '.join(better[:2])}{more}"
        )
    return found
