"""Make the table of published results that ``pilotfish shortlist`` reads, from a folder of timm's results files.

    python tools/make_published_table.py pytorch-image-models/results src/pilotfish/plan/shortlist/published.csv

DIR holds ``results-imagenet.csv`` (model, img_size, top1, param_count, …) and any number of
``benchmark-infer-PRECISION-LAYOUT-ptXYZ-cuNNN-DEVICE[-dynamo].csv`` (model without its weights' tag, infer_img_size,
infer_samples_per_sec, infer_gmacs, …). Of one device the file of the newest PyTorch counts. Rows are joined by
architecture and input size; a row without MACs is left out and counted. The same files give the same bytes. To use a
table without building the package anew: ``pilotfish shortlist --table OUT``.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from pilotfish.errors import DataError, PilotfishError
from pilotfish.plan.shortlist.table import write_published

ACCURACY = "results-imagenet.csv"
SOURCE = "accuracy and speed published by PyTorch Image Models (huggingface/pytorch-image-models, Apache-2.0)"
NAME = re.compile(
    r"benchmark-infer-(?P<precision>[a-z0-9]+)-(?P<layout>nchw|nhwc)-pt(?P<torch>\d{3,})-"
    r"(?P<where>cpu|cu\d{3}|rocm\d+)-(?P<device>.+?)(?P<compiled>-dynamo)?\.csv"
)
Key = tuple[str, int]  # architecture, input size


@dataclass(frozen=True)
class Benchmark:
    """One benchmark file. speed and gmacs by architecture and size, as published."""

    name: str
    device: str
    torch: tuple[int, int, int]
    told: str
    speed: Mapping[Key, Decimal]
    gmacs: Mapping[Key, Decimal]


def build(folder: Path) -> tuple[bytes, int, int]:
    """(the table, rows in it, rows left out for want of MACs) from the files of *folder*."""
    benchmarks = [read_benchmark(path) for path in sorted(folder.glob("benchmark-infer-*.csv"))]
    if not benchmarks:
        raise DataError(f"{folder}: no benchmark-infer-*.csv, so no MACs; name the folder of timm's results files")
    newest_first = sorted(benchmarks, key=lambda b: (tuple(-part for part in b.torch), b.name))
    devices: dict[str, Benchmark] = {}
    gmacs: dict[Key, Decimal] = {}
    for benchmark in newest_first:
        devices.setdefault(benchmark.device, benchmark)
        for key, value in benchmark.gmacs.items():
            gmacs.setdefault(key, value)
    rows, left_out = [], 0
    for cells in read_csv(folder / ACCURACY, ("model", "img_size", "top1", "param_count")):
        key = (cells["model"].partition(".")[0], int(cells["img_size"]))
        if key not in gmacs:
            left_out += 1
            continue
        facts = [number(cells["top1"]), number(cells["param_count"])]
        speeds = [short(devices[name].speed[key]) if key in devices[name].speed else "" for name in sorted(devices)]
        millions = Decimal(1_000_000)
        counts = [short(gmacs[key] * 1000 * millions), short(facts[1] * millions)]
        rows.append([cells["model"], str(key[1]), short(facts[0]), *counts, *speeds])
    told = {name: f"{b.told}; {b.name}" for name, b in devices.items()}
    return write_published(rows, told, f"{SOURCE}; {ACCURACY}", sorted(devices)), len(rows), left_out


def read_benchmark(path: Path) -> Benchmark:
    match = NAME.fullmatch(path.name)
    if match is None:
        raise DataError(f"{path.name}: cannot read precision, PyTorch and device from this name; it must look like "
                        "benchmark-infer-amp-nchw-pt291-cu128-4090-dynamo.csv")  # fmt: skip
    speed, gmacs, batches = {}, {}, []
    for cells in read_csv(path, ("model", "infer_img_size", "infer_samples_per_sec", "infer_batch_size")):
        key = (cells["model"], int(cells["infer_img_size"]))
        speed[key] = number(cells["infer_samples_per_sec"])
        batches.append(int(cells["infer_batch_size"]))
        if cells.get("infer_gmacs") and number(cells["infer_gmacs"]) > 0:
            gmacs[key] = number(cells["infer_gmacs"])
    digits = match["torch"]
    torch = (int(digits[0]), int(digits[1:-1]), int(digits[-1]))
    largest, how = max(batches, default=0), "compiled" if match["compiled"] else "eager"
    batch = f"batch {largest}" if min(batches, default=0) == largest else f"batches up to {largest}"
    told = f"{match['precision']} {match['layout']}, PyTorch {'.'.join(map(str, torch))} {how}, {batch}"
    return Benchmark(path.name, device_name(match), torch, told, speed, gmacs)


def device_name(match: re.Match[str]) -> str:
    """``rtx4090``, ``rtx4090-compiled``, ``cpu-i7-12700h``: what differs from the usual of a device is in its name.

    Usual is amp and eager on a GPU, fp32 and compiled on a CPU (timm publishes no others there), and nchw.
    """
    on_cpu, name = match["where"] == "cpu", match["device"].replace("_", "-").lower()
    name = f"cpu-{name}" if on_cpu else f"rtx{name}" if re.fullmatch(r"\d{4}", name) else name
    parts = [name, match["precision"] if match["precision"] != ("fp32" if on_cpu else "amp") else ""]
    parts += ["nhwc" if match["layout"] == "nhwc" else "", "compiled" if match["compiled"] and not on_cpu else ""]
    parts += ["eager" if on_cpu and not match["compiled"] else ""]
    return "-".join(part for part in parts if part)


def read_csv(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    missing = [name for name in needed if not rows or name not in rows[0]]
    if missing:
        raise DataError(f"{path.name}: without rows, or without the columns {', '.join(missing)}")
    return rows


def number(text: str) -> Decimal:
    """``1,013.01`` as timm writes it."""
    try:
        return Decimal(text.replace(",", ""))
    except InvalidOperation as error:
        raise DataError(f"{text!r} is no number") from error


def short(value: Decimal) -> str:
    """The same number in the fewest characters: 4110000000 as ``4.11e9``, 188343.61 as it is."""
    plain = f"{value.normalize():f}"
    digits = plain.rstrip("0")
    if "." in plain or len(plain) - len(digits) < 4:
        return plain
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{len(plain) - 1}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of timm's results files")
    parser.add_argument("out", type=Path, metavar="OUT", help="the table to write")
    given = parser.parse_args()
    try:
        table, rows, left_out = build(given.folder)
    except PilotfishError as error:
        sys.exit(f"make_published_table: error: {error}")
    given.out.write_bytes(table)
    print(f"{given.out}: {rows:,} rows, {len(table):,} bytes; {left_out:,} rows left out for want of MACs")


if __name__ == "__main__":
    main()
