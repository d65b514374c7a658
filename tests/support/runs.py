"""Small runs on disk, and where the real data may be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pilotfish.records import NO_LABEL, Outputs, Records, RecordsMeta, Run
from pilotfish.records.records import string_ids
from support.pairs import Pair

REAL_DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def records(
    model: str = "m",
    prediction: Sequence[int] = (0, 1, 2),
    *,
    ids: Sequence[Any] | pa.Array | None = None,
    label: Sequence[int] | None = None,
    split: str = "val",
    outputs: dict[str, Any] | None = None,
    **meta: Any,
) -> Records:
    """Records from plain lists; ``outputs`` are further columns, ``meta`` fields of the metadata."""
    n = len(prediction)
    columns = {name: np.asarray(values) for name, values in (outputs or {}).items()}
    return Records(
        ids=string_ids(np.arange(n) if ids is None else ids),
        label=np.full(n, NO_LABEL, np.int64) if label is None else np.array(label, np.int64),
        outputs=Outputs(np.array(prediction, np.int64), **columns),
        meta=RecordsMeta(model=model, split=split, **meta),
    )


def write_pair(
    folder: Path, pair: Pair, saver_cost: float | None = 1.0, base_cost: float | None = 10.0, column: str = "confidence"
) -> Run:
    """A run of the models ``saver`` and ``base``; class 0 is right, 1 is wrong."""
    run = Run(folder)
    scores, saver_ok, base_ok = pair.arrays
    label = np.zeros(len(scores), np.int64)
    run.write(records("saver", (~saver_ok).astype(int), label=label, outputs={column: scores}, costs=_macs(saver_cost)))
    run.write(records("base", (~base_ok).astype(int), label=label, costs=_macs(base_cost)))
    return run


def _macs(cost: float | None) -> dict[str, float]:
    return {} if cost is None else {"macs": float(cost)}
