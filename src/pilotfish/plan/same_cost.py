"""Whether costs can be compared: times of different machines, multiply-adds beside FLOPs, GMACs typed as MACs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pilotfish.cascade import Performance
from pilotfish.errors import RecordsError
from pilotfish.plan.costs import base_cost, common_keys, stage_costs
from pilotfish.records import RecordsMeta, Table
from pilotfish.text import examples, listed

Metas = Mapping[str, RecordsMeta]
FACTS = ("backend", "threads", "cores")
LIBRARIES = ("torch", "onnxruntime")
BATCHES_APART = 16


def check_cost(metas: Metas, names: Sequence[str], cost: str, base: str | None = None) -> list[str]:
    """What to know before models *names* are compared by *cost*: notes, a line each.

    base  the model that the others are held against; the last of *names* by default

    RecordsError when *cost* is a time that was measured on different devices or machines.
    """
    having = [name for name in names if cost in metas[name].costs]
    if is_time(cost):
        if (clash := _clash(metas, having, cost, base)) is not None:
            one, other = clash
            raise RecordsError(
                f"{cost} of {one} was measured on {_said(metas[one], cost)} and of {other} on "
                f"{_said(metas[other], cost)}: times of different machines cannot be compared; record both on one "
                "(pilotfish record --overwrite), or use another --cost such as macs"
            )
        return _time_notes(metas, having, cost)
    return macs_notes(metas, having) if cost == "macs" else []


def refuse_unknown(metas: Metas, names: Sequence[str], cost: str) -> None:
    """RecordsError when *cost* was asked for, is not in the records of all of *names*, and is not the default."""
    lacking = [name for name in names if cost not in metas[name].costs]
    if lacking and cost != "macs":
        known = common_keys(metas, tuple(names))
        raise RecordsError(
            f"{' and '.join(lacking)}: no cost {cost!r} in the records; {cost_keys(cost, known)}; record or import "
            f"with --cost {cost}=X to add it"
        )


def cost_keys(wanted: str, known: Iterable[str], most: int = 8) -> str:
    """A clause for error messages: the cost keys there are, those that are spelled like *wanted* first."""
    keys = sorted(known)
    like = difflib.get_close_matches(wanted, keys, n=3, cutoff=0.6)
    ordered = [*like, *(key for key in keys if key not in like)]
    return f"there are {examples(ordered, most)}" if ordered else "there are none"


def side_keys(metas: Metas, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """(costs of running that all of *names* have and that can be compared, a note on those that cannot)."""
    kept, left_out = [], []
    for key in common_keys(metas, tuple(names)):
        clash = _clash(metas, names, key, None) if is_time(key) else None
        if clash is None:
            kept.append(key)
        else:
            left_out.append((key, clash))
    if not left_out:
        return kept, []
    key, (one, other) = left_out[0]
    places = f"{one} was timed on {_said(metas[one], key)}, {other} on {_said(metas[other], key)}"
    return kept, [f"{', '.join(k for k, _ in left_out)} left out, as they cannot be compared: {places}"]


def is_time(key: str) -> bool:
    """Whether a cost key is a time: ``ms``, ``ms@cpu``, ``ms@cuda-b8``."""
    return key == "ms" or key.startswith("ms@")


def _clash(metas: Metas, names: Sequence[str], key: str, base: str | None) -> tuple[str, str] | None:
    """Two models whose *key* was measured in different places; None where nothing says so."""
    known = [name for name in names if _place(metas[name], key) is not None]
    against = base if base in known else (known[-1] if known else None)
    for name in known:
        here, there = _place(metas[name], key), _place(metas[against or name], key)
        if here is None or there is None:
            continue
        if here[0] != there[0] or (None not in (here[1], there[1]) and here[1] != there[1]):
            return name, str(against)
    return None


def _timing(meta: RecordsMeta, key: str) -> Mapping[str, Any] | None:
    """How *key* was measured: the records' own timing, or that of a device whose times were added later."""
    asked = re.sub(r"-b\d+$", "", key.partition("@")[2])
    first = str(meta.timing.get("device") or "").partition(":")[0]
    if not first:
        return None
    if asked in ("", first):
        return meta.timing
    later = meta.timing.get("also")
    found = later.get(asked) if isinstance(later, Mapping) else None
    return found if isinstance(found, Mapping) else {"device": asked}


def _place(meta: RecordsMeta, key: str) -> tuple[str, str | None] | None:
    """(kind of device, machine); None where the records do not say. Cores are no part of it: see the notes."""
    timing = _timing(meta, key)
    if timing is None:
        return None
    machine = timing.get("machine")
    kind = str(timing["device"]).partition(":")[0]
    return kind, None if machine is None else re.sub(r", \d+ cores$", "", str(machine))


def _said(meta: RecordsMeta, key: str) -> str:
    timing = _timing(meta, key) or {}
    return str(timing.get("machine") or timing.get("device") or "an unknown machine")


def _time_notes(metas: Metas, names: Sequence[str], cost: str) -> list[str]:
    """Times of one machine that were measured differently, or of nobody knows where."""
    timings = {name: _timing(metas[name], cost) for name in names}
    known = {name: timing for name, timing in timings.items() if timing is not None}
    notes = []
    if (by_hand := [name for name in names if name not in known]) and known:
        one = next(iter(known))
        notes.append(
            f"{cost} of {listed(by_hand, 4)} was given by hand, that of {one} was measured on {_said(metas[one], cost)}"
            ": they compare only if they are of the same machine and batch size"
        )
    if len(together := {timing.get("together") for timing in known.values()}) == 1 and None not in together:
        return notes  # in turn, each by what runs it fastest
    for fact in FACTS:
        notes += _differing(cost, fact, {name: t[fact] for name, t in known.items() if fact in t})
    for library in LIBRARIES:
        ran = [name for name, t in known.items() if str(t.get("backend", "")).startswith(library)]
        found = {name: v for name in ran if (v := metas[name].versions.get(library)) is not None}
        notes += _differing(cost, f"{library} version", found)
    best = {n: int(b) for n, t in known.items() if isinstance(b := t.get("best_batch_size"), int) and b > 0}
    if not re.search(r"-b\d+$", cost) and best and max(best.values()) >= BATCHES_APART * min(best.values()):
        notes += _differing(
            cost,
            "batch size",
            {max(best, key=best.__getitem__): max(best.values()), min(best, key=best.__getitem__): min(best.values())},
        )
    return notes


def _differing(cost: str, fact: str, found: Mapping[str, Any]) -> list[str]:
    first: dict[str, str] = {}
    for name, value in found.items():
        first.setdefault(str(value), name)
    if len(first) < 2:
        return []
    shown = ", ".join(f"{name} {value}" for value, name in first.items())
    return [f"{cost} was measured with different {fact}: {shown}"]


def macs_notes(metas: Metas, names: Sequence[str]) -> list[str]:
    """Imported ``macs`` that seem to be typed in another unit than those beside them."""
    given = [name for name in names if metas[name].source.startswith("imported")]
    macs = {name: metas[name].costs["macs"] for name in names if "macs" in metas[name].costs}
    notes, doubled = [], {}
    for name in (n for n in given if n in macs):
        largest = max(macs, key=macs.__getitem__)
        if macs[name] == 0:
            notes.append(f"macs of {name} are 0: leave --macs out of the import where they are not known")
        elif macs[name] < 1e5 and macs[largest] > 1e7:
            unit, scale = ("GMACs", 1e9) if macs[name] < 1000 else ("MMACs", 1e6)
            notes.append(
                f"macs of {name} are {macs[name]:g}, of {largest} {macs[largest]:.3g}: were {unit} typed? write --macs "
                f"{macs[name] * scale:.4g}"
            )
        elif (twice := _twice(name, metas, macs)) is not None:
            doubled[name] = twice
    if len(doubled) < len(macs):  # all in FLOPs: alike, and their ratios are right
        notes += [
            f"macs of {name}, {macs[name]:.4g}, are {macs[name] / value:.2f} times those of {other} ({value:.4g}), the "
            f"same network: FLOPs count a multiply-add as 2, MACs as 1; write --macs {macs[name] / 2:.4g}"
            for name, (other, value) in doubled.items()
        ]
    return notes


def _twice(name: str, metas: Metas, macs: Mapping[str, float]) -> tuple[str, float] | None:
    """(whose, MACs) of the same network, where *name* has about twice as many."""
    mine = macs[name]
    others = [
        (other, value) for other, value in macs.items() if other != name and _same_network(metas[name], metas[other])
    ]
    published = [("published results", value) for value in _published(metas[name])]
    found = [*others, *published]
    if any(0.94 <= mine / value <= 1.06 for _, value in found if value):
        return None
    return next(((other, value) for other, value in found if value and 1.9 <= mine / value <= 2.1), None)


def _same_network(a: RecordsMeta, b: RecordsMeta) -> bool:
    if a.weights_hash and a.weights_hash == b.weights_hash:
        return True
    mine, theirs = a.costs.get("params"), b.costs.get("params")
    named = bool(_stems(a) & _stems(b))
    sizes = _sizes(a), _sizes(b)
    if all(sizes) and not sizes[0] & sizes[1]:
        return False
    return named or bool(mine and theirs and abs(mine / theirs - 1) < 1e-3)


def _stems(meta: RecordsMeta) -> set[str]:
    """Names of the architecture: ``resnet50`` of ``timm:resnet50.a1_in1k@224?x=y``."""
    return {_stem(name) for name in (meta.model, meta.spec) if name} - {""}


def _stem(name: str) -> str:
    plain = re.sub(r"^[a-z0-9]+:", "", name.lower()).partition("?")[0].rpartition("/")[2].partition("@")[0]
    return re.sub(r"[^a-z0-9]+", "_", plain.partition(".")[0]).strip("_")


def _sizes(meta: RecordsMeta) -> set[int]:
    return {int(size) for name in (meta.model, meta.spec) for size in re.findall(r"@(\d+)", name or "")}


def _published(meta: RecordsMeta) -> Iterable[float]:
    """Published MACs of the network that the records are named after, at its sizes."""
    from pilotfish.plan.shortlist.table import read_published

    table, stems, sizes = read_published(), _stems(meta), _sizes(meta)
    rows = [k for k, model in enumerate(table.models) if _stem(model) in stems]
    return [float(table.macs[k]) for k in rows if not sizes or int(table.img_size[k]) in sizes]


def all_costs(
    table: Table, stages: Sequence[str], judged: Performance
) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Mean cost and base cost by every key that all stages have, and a note on those that cannot be compared."""
    found = {}
    keys, left_out = side_keys(table.meta, stages)
    for key in keys:
        costs, base = stage_costs(table, stages, key), base_cost(table, stages[-1], key)
        if costs is not None and base is not None:
            found[key] = (float(np.dot(judged.exit_ratio, np.cumsum(costs))), base)
    return found, left_out
