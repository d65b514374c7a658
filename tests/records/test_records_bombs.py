"""Tables that claim more than they should: refused before they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pilotfish.errors import RecordsError
from pilotfish.reading import limits
from pilotfish.records import Run, import_file, parquet_size
from support.runs import records

N = 200_000


def columns(**others: Any) -> pa.Table:
    ids = pa.array(np.arange(N).astype(str))
    rng = np.random.default_rng(0)
    return pa.table({"id": ids, "prediction": rng.integers(0, 9, N), "confidence": rng.random(N), **others})


@pytest.mark.parametrize("where", ["import", "run"])
@pytest.mark.parametrize("column", ["prediction", "label", "confidence"])
def test_a_few_bytes_of_many_rows(tmp_path: Path, where: str, column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGE", 100_000)
    path = tmp_path / "m.val.parquet"
    pq.write_table(columns(), path)
    read = (lambda: import_file(path, "m")) if where == "import" else (lambda: Run(tmp_path).read("m"))
    assert len(read()) == N
    same = np.zeros(N, np.int64)
    pq.write_table(pa.table({"id": same, "prediction": same, column: same}), path)
    with pytest.raises(RecordsError, match="over 200 times as many"):
        read()


@pytest.mark.parametrize("where", ["import", "run"])
@pytest.mark.parametrize("length", [2**20, 2**14])
def test_a_long_text_that_stands_often_is_held_once(tmp_path: Path, where: str, length: int) -> None:
    text = "x" * length
    n = 2**31 // length + 9
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([text]))
    path = tmp_path / "m.val.parquet"
    pq.write_table(pa.table({"id": ids, "prediction": np.zeros(n, int), "confidence": np.arange(n) / n}), path)
    assert path.stat().st_size < 2**21
    with pytest.raises(RecordsError, match=r"the ids would take 2,1.* bytes as text"):
        import_file(path, "m") if where == "import" else Run(tmp_path).read("m")


def test_records_written_here_are_read_as_plain_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_size, "LARGE", 0)
    path = Run(tmp_path).write(records("m"))
    assert parquet_size.texts_as_dictionaries(pq.read_metadata(path)) == []
    old = tmp_path / "old.parquet"
    pq.write_table(pq.read_table(path), old)  # with dictionaries, as other programs write
    assert parquet_size.texts_as_dictionaries(pq.read_metadata(old)) == ["id"]
    old.rename(path)
    found = Run(tmp_path).read("m", columns=("id", "prediction"))
    assert found.ids.equals(records("m").ids)
    assert found.ids.type == pa.string()


def test_compressed_arrays_are_checked_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGE", 100_000)
    for name in ("probs", "logits", "prediction"):
        np.savez_compressed(tmp_path / "bomb.npz", **{name: np.zeros((N, 2) if name != "prediction" else N)})
        with pytest.raises(RecordsError, match=rf"{name} would unpack from .* \(a decompression bomb"):
            import_file(tmp_path / "bomb.npz", "m")
