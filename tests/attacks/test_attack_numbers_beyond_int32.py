"""Class numbers of 2^32 became 0 where they were stored in 32 bits: a model that named no class of the data at all was
right on every sample.

Taught: a number that does not fit is refused or kept whole; nothing wraps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pilotfish.errors import PilotfishError, UsageError
from pilotfish.models.names.spec import exit_of
from pilotfish.models.outputs.which_output import place_of
from pilotfish.plan import shortlist
from pilotfish.records import Run

N = 60
LABELS = np.arange(N) % 3


def npz(path: Path, beyond: int) -> Path:
    np.savez(path / "m.npz", prediction=LABELS + beyond, label=LABELS)
    return path / "m.npz"


def csv(path: Path, beyond: int) -> Path:
    rows = "".join(f"{i},{label + beyond},{label}\n" for i, label in enumerate(LABELS.tolist()))
    (path / "m.csv").write_text("id,prediction,label\n" + rows)
    return path / "m.csv"


def parquet(path: Path, beyond: int) -> Path:
    pq.write_table(pa.table({"id": np.arange(N), "prediction": LABELS + beyond, "label": LABELS}), path / "m.parquet")
    return path / "m.parquet"


def ranked(path: Path, beyond: int) -> Path:
    order = np.stack([LABELS, (LABELS + 1) % 3, (LABELS + 2) % 3], 1) + beyond
    np.savez(path / "m.npz", ranked=order, label=LABELS)
    return path / "m.npz"


@pytest.mark.parametrize("beyond", [2**32, 2**31, -(2**32), 2**62])
@pytest.mark.parametrize("make", [npz, csv, parquet, ranked])
def test_they_are_never_taken_for_others(
    make: Callable[[Path, int], Path], beyond: int, tmp_path: Path, shown: Any
) -> None:
    code, out, err = shown("import", make(tmp_path, beyond), "--run", tmp_path / "run", "--model", "m")
    assert "this is a bug" not in err
    if code != 0:
        assert (code, out) == (1, "")
        assert err.splitlines()[-1].startswith("pilotfish: error: ")
        return
    found = Run(tmp_path / "run").read("m")
    np.testing.assert_array_equal(found.outputs.prediction, LABELS + beyond)
    np.testing.assert_array_equal(found.label, LABELS)


@pytest.mark.parametrize("column", ["prediction", "label"])
def test_nor_in_a_run(column: str, run: Run, tmp_path: Path) -> None:
    file = run.file("saver")
    table = pq.read_table(file)
    wide = pa.array(np.asarray(table[column]).astype(np.int64) + 2**32)
    table = table.set_column(table.schema.get_field_index(column), column, wide)
    keep = pq.read_metadata(file).metadata
    with pq.ParquetWriter(file, table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None))
        writer.add_key_value_metadata({k: v for k, v in keep.items() if k != b"ARROW:schema"})
    try:
        records = run.read("saver")
    except PilotfishError:
        return
    assert ((records.outputs.prediction if column == "prediction" else records.label) >= 2**32).all()


DIGITS = "9" * 5000  # more than Python reads


def test_numbers_of_thousands_of_digits_in_names() -> None:
    assert exit_of(f"net.safetensors#{DIGITS}") == ("net.safetensors", 10**9)
    assert place_of(["logits", "features"], DIGITS) is None
    with pytest.raises(UsageError, match="or a number of pixels such as 224"):
        shortlist("resnet50", size=DIGITS)
