"""``idx:FILE``: pictures in the form that MNIST is distributed in, also gzipped."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pilotfish.data.arrays import ArrayDataset
from pilotfish.data.dataset import Labels, digest
from pilotfish.errors import DataError, one_line
from pilotfish.reading.limits import check_size

DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}  # by the third byte
LARGEST = 8 * 2**30  # bytes of an array that a header may claim


def load_idx(path: str | Path) -> ArrayDataset:
    """The samples (N, …) of an idx file, ``train-images-idx3-ubyte.gz`` for one, with the labels of the file beside it
    whose name says ``labels-idx1`` instead of ``images-idx3``, where there is one.

    Raises ``DataError`` for files that are damaged or of another form.
    """
    file = Path(os.path.expanduser(path))
    samples = _read(file)
    if samples.ndim < 2 or samples.size == 0:
        raise DataError(f"{file} holds an array of shape {samples.shape}; expected pictures, (N, H, W)")
    beside = file.with_name(file.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = _labels(beside, len(samples)) if beside != file and beside.is_file() else None
    crc = f"idx\0{zlib.crc32(np.ascontiguousarray(samples).data)}\0{samples.shape}\n".encode()
    ids = tuple(map(str, range(len(samples))))
    return ArrayDataset(f"idx:{path}", samples, ids, labels, None, digest((crc,), labels, None))


def _labels(file: Path, n: int) -> Labels:
    found = _read(file)
    if found.shape != (n,) or found.dtype.kind not in "iu" or found.min() < 0:
        raise DataError(
            f"{file} holds {found.dtype} of shape {found.shape}; expected {n} class indices, one for each picture"
        )
    return found.astype(np.int64)


def _read(file: Path) -> npt.NDArray[Any]:
    try:
        opened: Any = gzip.open(file) if file.suffix == ".gz" else open(file, "rb")  # noqa: SIM115
        with opened as stream:
            return _array(file, stream)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist; expected an idx file such as train-images-idx3-ubyte.gz") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} cannot be read ({one_line(str(error))}); expected an idx file") from None


def _array(file: Path, stream: IO[bytes]) -> npt.NDArray[Any]:
    """The array, after the size that its header claims was compared with what follows."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in DTYPES or not 1 <= magic[3] <= 4:
        raise DataError(f"{file} is no idx file: it begins with {magic!r}; expected two zeros, a type and 1 to 4 axes")
    sides = stream.read(4 * magic[3])
    shape = tuple(np.frombuffer(sides, ">u4").tolist()) if len(sides) == 4 * magic[3] else ()
    dtype = np.dtype(DTYPES[magic[2]])
    size = math.prod(shape) * dtype.itemsize if shape else 0
    if size > LARGEST:
        raise DataError(f"{file} claims the shape {shape}; arrays of up to {LARGEST // 2**30} GiB are read")
    packed = os.stat(file).st_size
    check_size(f"{file}", size, packed if file.suffix == ".gz" else None, DataError)
    if file.suffix != ".gz" and shape and size > packed:
        raise DataError(f"{file} is damaged: it claims the shape {shape} of {dtype} and has {packed:,} bytes")
    held = stream.read(size + 1) if shape else b""
    if not shape or len(held) != size:
        raise DataError(f"{file} is damaged: it claims the shape {shape} of {dtype} and does not hold that many bytes")
    return np.frombuffer(held, dtype).reshape(shape)
