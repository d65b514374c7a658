"""arrays:FILE.npz: rows, labels and ids, and every file that must be refused."""

from __future__ import annotations

import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.data import ArrayDataset, load_arrays
from pilotfish.errors import DataError

X = np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32)


def save(path: Path, compressed: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def load(tmp_path: Path, **arrays: Any) -> ArrayDataset:
    return load_arrays(save(tmp_path / "data.npz", **arrays))


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_arrays(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert path.name in message
    return message


@pytest.mark.parametrize("key", ["x", "images", "data", "inputs"])
@pytest.mark.parametrize("compressed", [False, True])
def test_rows_come_back_exactly(tmp_path: Path, key: str, compressed: bool) -> None:
    data = load(tmp_path, compressed=compressed, **{key: X})
    assert data.ids == ("0", "1", "2", "3", "4", "5")
    assert data.labels is None
    assert data.class_names is None
    assert data.spec == f"arrays:{tmp_path / 'data.npz'}"
    for i in range(6):
        assert data.read(i).dtype == np.float32
        assert np.array_equal(data.read(i), X[i])


def test_an_uncompressed_file_is_mapped_and_a_compressed_one_loaded(tmp_path: Path) -> None:
    assert isinstance(load(tmp_path, x=X).samples, np.memmap)
    assert not isinstance(load(tmp_path, compressed=True, x=X).samples, np.memmap)


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(X),
        X.astype(">f8"),
        (X * 10).astype(np.int8),
        X > 0,
        X.astype(np.float16),
        np.arange(12, dtype=np.uint16).reshape(6, 2),
        X[:1],
    ],
)
def test_orders_and_dtypes_are_kept_by_value_in_native_byte_order(tmp_path: Path, array: np.ndarray) -> None:
    data = load(tmp_path, x=array, label=np.zeros(len(array), dtype=np.int64))
    for i in range(len(array)):
        row = data.read(i)
        assert np.array_equal(row, array[i])
        assert row.dtype.isnative
        assert row.flags.c_contiguous


def test_a_row_belongs_to_the_caller(tmp_path: Path) -> None:
    data = load(tmp_path, x=X)
    data.read(0)[:] = 0
    assert np.array_equal(data.read(0), X[0])
    with pytest.raises(IndexError):
        data.read(6)


@pytest.mark.parametrize("key", ["label", "labels", "y"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64, np.float32])
def test_labels_of_any_integral_kind(tmp_path: Path, key: str, dtype: type) -> None:
    data = load(tmp_path, x=X, **{key: np.array([0, 5, 2, 2, 9, 1], dtype=dtype)})
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == [0, 5, 2, 2, 9, 1]


def test_minus_one_is_unlabelled_and_all_of_them_are_no_labels(tmp_path: Path) -> None:
    some = load(tmp_path, x=X, label=np.array([0, -1, 2, -1, 1, 1]))
    assert some.labels is not None
    assert some.labels.tolist() == [0, -1, 2, -1, 1, 1]
    assert load(tmp_path, x=X, label=np.full(6, -1)).labels is None


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.array(["a", "b", "ü", "d", "e", "f"]), ("a", "b", "ü", "d", "e", "f")),
        (np.array([10, 11, 12, 13, 14, -1]), ("10", "11", "12", "13", "14", "-1")),
        (np.array([b"a", b"b", b"c", b"d", b"e", "ü".encode()]), ("a", "b", "c", "d", "e", "ü")),
    ],
)
def test_ids_are_strings_or_integers(tmp_path: Path, ids: np.ndarray, expected: tuple[str, ...]) -> None:
    assert load(tmp_path, x=X, id=ids).ids == expected


def test_class_names_may_repeat_but_must_suffice(tmp_path: Path) -> None:
    y = np.array([0, 1, 2, 0, 1, 2])
    assert load(tmp_path, x=X, y=y, class_names=["crane", "crane", "cat"]).class_names == ("crane", "crane", "cat")
    with pytest.raises(DataError, match="largest label is 2 and there are 2 class_names"):
        load(tmp_path, x=X, y=y, class_names=["crane", "cat"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": X, "label": np.zeros(6, int)}, "found pixels, label; expected one of x, images, data, inputs"),
        ({"x": X, "images": X}, "x, images mean the same (samples)"),
        ({"data0": X, "label": np.zeros(6, int)}, "found data0, label; expected one of x, images, data, inputs"),
        ({"x": X, "y": np.zeros(6, int), "label": np.zeros(6, int)}, "label, y mean the same (label)"),
        ({"x": np.float32(3)}, "shape ()"),
        ({"x": X[:, 0, 0]}, "shape (6,); expected one sample per row"),
        ({"x": X[:0]}, "shape (0, 2, 3), so no samples"),
        ({"x": X[:, :0]}, "shape (6, 0, 3), so no samples"),
        ({"x": X.astype(np.complex64)}, "dtype complex64; expected numbers"),
        ({"x": X.astype(str)}, "expected numbers"),
        ({"x": X, "label": np.zeros(5, int)}, "shape (5,) for 6 samples"),
        ({"x": X, "label": np.zeros((6, 2), int)}, "row 0 is not one 1 among 0s"),
        ({"x": X, "label": np.eye(3)[[0, 1, 2, 0, 1, 2]] / 2}, "row 0 is not one 1 among 0s"),
        ({"x": X, "label": np.array([0, 1, -2, 0, 0, 0])}, "label[2] is -2"),
        ({"x": X, "label": np.array([0, 1.5, 2, 0, 0, 0])}, "label[1] is 1.5"),
        ({"x": X, "label": np.array([0, 1, 2, 0, np.inf, 0], np.float16)}, "label[4] is inf"),
        ({"x": X, "label": np.array([2**63] * 6, np.uint64)}, "label[0] is 9223372036854775808"),
        ({"x": X, "label": np.array(["cat"] * 6), "class_names": ["dog"]}, "label[0] is 'cat', which is none of the 1"),
        ({"x": X, "id": np.arange(5)}, "shape (5,) for 6 samples"),
        ({"x": X, "id": np.arange(6.0)}, "expected strings or integers"),
        ({"x": X, "id": np.array(["a\ud800", "b", "c", "d", "e", "f"])}, "not valid Unicode"),
        ({"x": X, "id": np.array([b"\xff", b"b", b"c", b"d", b"e", b"f"])}, "not valid Unicode"),
        ({"x": X, "class_names": np.array([["a"], ["b"]])}, "shape (2, 1); expected (classes,)"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, arrays: dict[str, Any], message: str, compressed: bool
) -> None:
    assert message in refusal(save(tmp_path / "data.npz", compressed, **arrays))


def test_fault_33_a_duplicated_id_is_named(tmp_path: Path) -> None:
    ids = np.array(["a", "b", "twice", "c", "twice", "d"])
    assert "id twice occurs 2 times" in refusal(save(tmp_path / "data.npz", x=X, id=ids))
    assert "id 7 occurs 6 times" in refusal(save(tmp_path / "data.npz", x=X, id=np.full(6, 7)))


class Trap:
    """An object whose unpickling leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("key", ["x", "label", "id", "class_names"])
@pytest.mark.parametrize("compressed", [False, True])
def test_fault_38_pickle_is_refused_and_never_run(tmp_path: Path, key: str, compressed: bool) -> None:
    trace = tmp_path / "executed"
    trap = np.array([Trap(trace)] * 6, dtype=object)
    path = save(tmp_path / "data.npz", compressed, **{"x": X, key: trap})
    assert f"stores {key} as Python objects (pickle)" in refusal(path)
    assert not trace.exists()


@pytest.mark.parametrize("compressed", [False, True])
def test_fault_37_a_truncated_file_is_refused(tmp_path: Path, compressed: bool) -> None:
    whole = save(tmp_path / "whole.npz", compressed, x=X, label=np.arange(6)).read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(whole), 11):
        path.write_bytes(whole[:length])
        assert "numpy.savez" in refusal(path)


def test_fault_37_corrupt_bytes_are_found_where_a_checksum_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", True, x=X, label=np.arange(6))
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("x.npy")
    middle = info.header_offset + 30 + len("x.npy") + info.compress_size // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :])
    assert "damaged: x cannot be read" in refusal(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("shape", ["(6, 1000000000000)", "(6, -2)", "(99999999999999999999, 6)", "(7, 2)"])
def test_fault_37_a_header_that_claims_another_size_is_refused(tmp_path: Path, compression: int, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(48)
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", member)
    assert "damaged: x claims the shape" in refusal(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    "member", [b"", b"not an array", b"\x93NUMPY\x09\x00", b"\x93NUMPY\x01\x00\x10\x00__import__('os')"]
)
def test_fault_37_a_member_that_is_no_array_is_refused(tmp_path: Path, compression: int, member: bytes) -> None:
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("x.npy", member)
    assert "damaged: x cannot be read" in refusal(path)


def test_fault_37_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", x=X)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x.npy", archive.read("x.npy"))
    assert "two arrays of the same name" in refusal(path)


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "single.npy", X)
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "folder.npz").mkdir()
    assert "single array" in refusal(tmp_path / "single.npy")
    assert "not a whole .npz" in refusal(tmp_path / "text.npz")
    assert "is a folder" in refusal(tmp_path / "folder.npz")
    assert "does not exist" in refusal(tmp_path / "missing.npz")


def test_the_fingerprint_follows_samples_labels_and_ids(tmp_path: Path) -> None:
    changed = X.copy()
    changed[3, 1, 1] += 1e-6
    y = np.arange(6)
    sets: list[dict[str, Any]] = [{"x": X}, {"x": changed}, {"x": X, "y": y}, {"x": X, "y": y[::-1]}, {"x": X, "id": y}]
    prints = [load(tmp_path, **arrays).fingerprint for arrays in sets]
    assert len(set(prints)) == len(prints)
    assert load(tmp_path, x=X, unused=y).fingerprint == prints[0]
    assert load(tmp_path, compressed=True, x=X).fingerprint == prints[0]


@pytest.mark.parametrize("compressed", [False, True])
def test_read_is_the_same_from_many_threads(tmp_path: Path, compressed: bool) -> None:
    big = np.random.default_rng(1).integers(0, 255, (200, 16, 16, 3), dtype=np.uint8)
    data = load(tmp_path, compressed=compressed, x=big)
    wanted = np.random.default_rng(2).integers(0, 200, 3000).tolist()
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(data.read, wanted))
    assert np.array_equal(np.stack(rows), big[wanted])


# ---- other names, other forms of labels, and what is said


@pytest.mark.parametrize("label", ["label", "labels", "y", "Y", "targets", "y_true", "class_id", "class", "species"])
@pytest.mark.parametrize("ids", ["id", "ids", "filenames", "image_id", "Sample ID", "name"])
def test_the_usual_names_of_arrays(tmp_path: Path, label: str, ids: str) -> None:
    data = load(tmp_path, X=X, **{label: np.arange(6) % 3, ids: list("abcdef")})
    assert data.ids == tuple("abcdef")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data.notes == ()


@pytest.mark.parametrize(
    ("label", "expected", "note"),
    [
        ([0, 1, np.nan, 0, 1, 0], [0, 1, -1, 0, 1, 0], "'label' is empty or NaN for 1 of 6 samples: no label"),
        ([True, False] * 3, [1, 0] * 3, "true and false"),
        (np.eye(3)[[0, 2, 1, 0, 0, 1]], [0, 2, 1, 0, 0, 1], "one 1 in each row"),
        (np.arange(6)[:, None], [0, 1, 2, 3, 4, 5], None),
        (["cat", "dog", "cat", "emu", "dog", "nan"], [0, 1, 0, 2, 1, -1], "sorted names, 3 in all, from 0: cat, dog"),
        (np.array([b"3", b"1", b"1", b"2", b"0", b"NA"]), [3, 1, 1, 2, 0, -1], "no label"),
    ],
)
def test_labels_in_other_forms(tmp_path: Path, label: Any, expected: list[int], note: str | None) -> None:
    data = load(tmp_path, x=X, label=label)
    assert data.labels is not None
    assert data.labels.tolist() == expected
    assert data.notes == () if note is None else any(note in said for said in data.notes)


@pytest.mark.parametrize("names", ["class_names", "classes", "categories"])
def test_names_are_numbered_by_the_array_of_names(tmp_path: Path, names: str) -> None:
    data = load(tmp_path, x=X, y=["cat", "dog"] * 3, **{names: ["dog", "emu", "cat"]})
    assert data.labels is not None
    assert data.labels.tolist() == [2, 0] * 3
    assert data.class_names == ("dog", "emu", "cat")


@pytest.mark.parametrize("unread", ["weights", "mask", "fold"])
def test_what_is_not_read_is_named(tmp_path: Path, unread: str) -> None:
    data = load(tmp_path, x=X, y=np.zeros(6, int), **{unread: np.ones(6)})
    assert data.notes == (f"data.npz: not read: {unread} (the names that are read: docs/records.md)",)


def test_subsets_say_what_the_whole_says(tmp_path: Path) -> None:
    from pilotfish.data.subset import Subset, hold_out

    data = load(tmp_path, x=X, y=[0, 1, 2, 0, 1, np.nan])
    for part in (*hold_out(data, 0.5, 0), Subset(data, relabelled=np.zeros(6, np.int64))):
        assert part.notes == data.notes != ()
