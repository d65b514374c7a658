"""idx files, as MNIST is distributed: read whole or refused."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from pilotfish.data import load_data
from pilotfish.errors import DataError

DEBIAN = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_pictures_with_the_labels_beside_them(ending: str, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    for name, array in (("images-idx3", pictures), ("labels-idx1", np.array([2, 0, 1, 1, 0], np.uint8))):
        data = idx(array)
        (tmp_path / f"train-{name}-ubyte{ending}").write_bytes(gzip.compress(data) if ending else data)
    found = load_data(f"idx:{tmp_path}/train-images-idx3-ubyte{ending}")
    assert (len(found), found.ids[4], found.labels.tolist()) == (5, "4", [2, 0, 1, 1, 0])
    assert np.array_equal(found.read(3), pictures[3])
    (tmp_path / f"train-labels-idx1-ubyte{ending}").unlink()
    alone = load_data(f"idx:{tmp_path}/train-images-idx3-ubyte{ending}")
    assert alone.labels is None
    assert alone.fingerprint != found.fingerprint


def test_other_types_keep_their_values(tmp_path: Path) -> None:
    values = np.array([[1.5, -2.0]], ">f4")
    (tmp_path / "x").write_bytes(idx(values, 0x0D))
    assert load_data(f"idx:{tmp_path}/x").read(0).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no idx file"),
        (b"PK\3\4 and more", "is no idx file"),
        (idx(np.zeros((2, 2, 2), np.uint8))[:-1], "is damaged"),
        (idx(np.zeros((2, 2, 2), np.uint8)) + b"x", "is damaged"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 4), "arrays of up to 8 GiB are read"),
        (struct.pack(">HBB", 0, 8, 3), "is damaged"),
        (idx(np.zeros(3, np.uint8)), "expected pictures"),
    ],
)
def test_files_that_are_none(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x-idx3").write_bytes(content)
    with pytest.raises(DataError, match=said):
        load_data(f"idx:{tmp_path}/x-idx3")


def test_damaged_gzip_and_labels_of_others(tmp_path: Path) -> None:
    whole = gzip.compress(idx(np.zeros((50, 9, 9), np.uint8)))
    (tmp_path / "a-images-idx3.gz").write_bytes(whole[:-12])
    with pytest.raises(DataError, match="cannot be read"):
        load_data(f"idx:{tmp_path}/a-images-idx3.gz")
    (tmp_path / "a-images-idx3.gz").write_bytes(whole)
    (tmp_path / "a-labels-idx1.gz").write_bytes(gzip.compress(idx(np.zeros(49, np.uint8))))
    with pytest.raises(DataError, match="expected 50 class indices"):
        load_data(f"idx:{tmp_path}/a-images-idx3.gz")
    with pytest.raises(DataError, match="does not exist"):
        load_data(f"idx:{tmp_path}/b")


@pytest.mark.skipif(not DEBIAN.is_file(), reason="needs Debian's dataset-fashion-mnist")
def test_fashion_mnist() -> None:
    found = load_data(f"idx:{DEBIAN}")
    assert (len(found), found.read(0).shape) == (10_000, (28, 28))
    assert np.bincount(found.labels).tolist() == [1000] * 10
