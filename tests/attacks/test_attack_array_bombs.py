"""A kilobyte of zeros in an ``.npz``, an idx file or a Parquet file stood for gigabytes, which were allocated before
anyone asked; a Parquet file of runs stands for any number of rows.

Taught: what a file claims is compared with its packed size and with the memory there is, before it is read.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pilotfish.reading import limits

N = 200_000


def npz(path: Path) -> Path:
    np.savez_compressed(path / "bomb.npz", x=np.zeros((N, 2)), probs=np.zeros((N, 2)))
    return path / "bomb.npz"


def idx(path: Path) -> Path:
    (path / "bomb.gz").write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", N, 2, 2) + bytes(4 * N)))
    return path / "bomb.gz"


def parquet(path: Path) -> Path:
    same = np.zeros(N, np.int64)
    pq.write_table(pa.table({"id": same, "prediction": same}), path / "bomb.parquet")
    return path / "bomb.parquet"


def text(path: Path) -> Path:
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2100, np.int32)), pa.array(["x" * 2**20]))
    pq.write_table(pa.table({"id": ids, "prediction": np.zeros(2100, int)}), path / "bomb.parquet")
    return path / "bomb.parquet"


@pytest.mark.parametrize("make", [npz, parquet, text])
def test_imports(
    make: Callable[[Path], Path], tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LARGE", 100_000)
    said = refused("import", make(tmp_path), "--run", tmp_path / "run", "--model", "m")
    assert "decompression bomb" in said or "bytes as text" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("make", "form"), [(npz, "arrays"), (idx, "idx")])
def test_data(
    make: Callable[[Path], Path],
    form: str,
    tmp_path: Path,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LARGE", 100_000)
    data = f"{form}:{make(tmp_path)}"
    assert "decompression bomb" in refused(
        "record", "--data", data, "--model", "onnx:m.onnx", "--run", tmp_path / "run"
    )


def test_a_run(tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LARGE", 100_000)
    (tmp_path / "run").mkdir()
    parquet(tmp_path).rename(tmp_path / "run" / "m.val.parquet")
    assert "decompression bomb" in refused("savers", tmp_path / "run", "--base", "m")
    assert "decompression bomb" in refused("inspect", tmp_path / "run")
