"""The table of published results that the package carries: reading and writing its format.

A CSV file in UTF-8. Its first line names format and version; lines ``# source: …`` and ``# device NAME: …`` say where
the numbers come from; then a header and one row per model and input size, sorted by both:

    model, img_size, top1_percent, macs, params, one column ``samples_per_s@DEVICE`` per device

``macs`` counts a multiply-add as 1. Numbers are as published (MACs to 0.01 G); a device's cell is empty where the model
was not measured.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import DataError, UsageError, nearest

FIRST_LINE = "# pilotfish published results, version 1"
COLUMNS = ("model", "img_size", "top1_percent", "macs", "params")
RATE = "samples_per_s@"
MACS, MS = "macs", "ms"
NO_QUOTES = set(',"\r\n')


@dataclass(frozen=True)
class PublishedTable:
    """One row per (model, img_size). Arrays have shape (rows,).

    top1           accuracy on ImageNet-1k, a fraction
    macs, params   counts, float64
    samples_per_s  per device, NaN where not measured
    own_size       input size that the model has when none is asked for: the smallest of its published ones
    """

    models: tuple[str, ...]
    img_size: NDArray[np.int64]
    top1: NDArray[np.float64]
    macs: NDArray[np.float64]
    params: NDArray[np.float64]
    samples_per_s: Mapping[str, NDArray[np.float64]]
    own_size: NDArray[np.int64]
    source: str
    devices: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.models)


def read_published(path: str | Path | None = None) -> PublishedTable:
    """The table in *path*, or the one that comes with the package. DataError for a file that is no such table."""
    if path is None:
        return _packaged()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError(f"{path}: cannot read the table of published results ({reason})") from error
    return _parse(text, str(path))


def resolve_cost(
    table: PublishedTable, cost: str | None, device: str | None
) -> tuple[str, str | None, NDArray[np.float64]]:
    """What a published model costs: (cost key, device or None, cost of every row).

    ``macs`` without a device, ``ms@DEVICE``, or ``ms`` (or nothing) with a device. ms are milliseconds per sample on a
    device that was benchmarked, NaN where not measured. UsageError for anything else.
    """
    kind, _, named = (cost or (MS if device else MACS)).partition("@")
    if kind not in (MACS, MS) or (kind == MACS and named):
        raise UsageError(
            f"cost {cost!r} is not published; valid are macs, and ms@DEVICE with DEVICE of {_names(table)}"
        )
    if kind == MACS:
        if device:
            raise UsageError(
                f"MACs are the same on {device} as anywhere; leave the device out, or use cost ms@{device}"
            )
        return MACS, None, table.macs
    if named and device and named != device:
        raise UsageError(f"cost {cost} and device {device} name two devices; give one of them")
    chosen = named or device
    if not chosen:
        raise UsageError(f"cost ms needs a device: ms@DEVICE with DEVICE of {_names(table)}")
    if chosen not in table.samples_per_s:
        raise UsageError(f"no published speeds for device {chosen!r}; {nearest(chosen, table.samples_per_s)}")
    return f"{MS}@{chosen}", chosen, 1000 / table.samples_per_s[chosen]


def _names(table: PublishedTable) -> str:
    return ", ".join(table.samples_per_s) or "no device"


def write_published(
    rows: Sequence[Sequence[str]], devices: Mapping[str, str], source: str, device_names: Sequence[str]
) -> bytes:
    """The bytes of a table. rows: cells in the order of the header, as text; device_names: its last columns."""
    header = [*COLUMNS, *(RATE + name for name in device_names)]
    told = [f"# device {name}: {devices[name]}" for name in device_names]
    lines = [FIRST_LINE, f"# source: {source}", *told, ",".join(header)]
    for row in sorted(rows, key=lambda cells: (cells[0], int(cells[1]))):
        if len(row) != len(header) or any(NO_QUOTES & set(cell) for cell in row):
            raise DataError(f"row {row[0]!r} has {len(row)} cells of {len(header)}, or a cell with a comma or a quote")
        lines.append(",".join(row))
    return ("\n".join(lines) + "\n").encode()


@cache
def _packaged() -> PublishedTable:
    file = resources.files("pilotfish") / "plan" / "shortlist" / "published.csv"
    return _parse(file.read_text(encoding="utf-8"), "published.csv")


def _parse(text: str, where: str) -> PublishedTable:
    lines = text.splitlines()
    if not lines or lines[0].strip() != FIRST_LINE:
        raise DataError(
            f"{where} is no table of published results: its first line is not {FIRST_LINE!r}; "
            "make one with tools/make_published_table.py"
        )
    told = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
    body = [line for line in lines if line and not line.startswith("#")]
    reader = csv.reader(io.StringIO("\n".join(body)))
    header = next(reader, [])
    if tuple(header[: len(COLUMNS)]) != COLUMNS or not all(c.startswith(RATE) for c in header[len(COLUMNS) :]):
        raise DataError(
            f"{where}: the columns must be {', '.join(COLUMNS)} and {RATE}DEVICE…, found {', '.join(header)}"
        )
    rows = list(reader)
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise DataError(f"{where}: row {number} has {len(row)} cells, the header has {len(header)}")
    return _from_columns(header, rows, told, where)


def _from_columns(header: list[str], rows: list[list[str]], told: list[str], where: str) -> PublishedTable:
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    if not columns:
        raise DataError(f"{where}: the table has no rows")
    numbers = {name: _numbers(name, columns[name], where) for name in header[1:]}
    models, size = tuple(columns["model"]), numbers["img_size"].astype(np.int64)
    seen = set(zip(models, size.tolist(), strict=True))
    if len(seen) != len(models):
        raise DataError(f"{where}: a model appears twice at one size; each (model, img_size) may have one row")
    if np.any(numbers["top1_percent"] > 100):
        raise DataError(f"{where}: top1_percent goes to 100, found {numbers['top1_percent'].max():g}")
    smallest: dict[str, int] = {}
    for model, pixels in seen:
        smallest[model] = min(pixels, smallest.get(model, pixels))
    prefix = "device "
    devices = dict(
        line.removeprefix(prefix).split(": ", 1) for line in told if line.startswith(prefix) and ": " in line
    )
    return PublishedTable(
        models=models,
        img_size=size,
        top1=np.round(numbers["top1_percent"] / 100, 9),  # 0.88406, not 0.8840600000000001
        macs=numbers["macs"],
        params=numbers["params"],
        samples_per_s={name.removeprefix(RATE): numbers[name] for name in header[len(COLUMNS) :]},
        own_size=np.array([smallest[model] for model in models], np.int64),
        source=next((line.removeprefix("source: ") for line in told if line.startswith("source: ")), where),
        devices=devices,
    )


def _numbers(name: str, cells: Sequence[str], where: str) -> NDArray[np.float64]:
    """Positive numbers; an empty cell is allowed for a speed and means that it was not measured."""
    try:
        values = np.array([float(cell) if cell or not name.startswith(RATE) else math.nan for cell in cells])
    except ValueError as error:
        raise DataError(f"{where}: column {name} holds something that is no number ({error})") from error
    written = np.array([bool(cell) for cell in cells])
    if not np.all(np.isfinite(values[written])) or np.any(values[written] <= 0):
        raise DataError(f"{where}: column {name} must hold positive numbers")
    return values
