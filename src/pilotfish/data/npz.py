"""Arrays of an ``.npz`` file: never pickled, mapped into memory where the file holds them uncompressed."""

from __future__ import annotations

import math
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from pilotfish.data.images import one_line
from pilotfish.errors import DataError

_ENCRYPTED = 0x1  # flag bit of a zip member
_LOCAL_HEADER = 30  # bytes of a member's own header before its name


@dataclass(frozen=True, eq=False)
class Npz:
    """The table of contents of an ``.npz`` file: array names and where they lie."""

    path: Path
    members: Mapping[str, zipfile.ZipInfo] = field(repr=False)


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    size: int  # bytes of the header itself

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def open_npz(path: Path) -> Npz:
    """Read the table of contents. Raises ``DataError`` for what is not a whole ``.npz`` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; expected an .npz file of arrays") from None
    except zipfile.BadZipFile as error:
        raise DataError(
            f"{path} is not a whole .npz file ({one_line(str(error))}); write it with numpy.savez"
        ) from None
    except Exception as error:  # a damaged directory makes zipfile raise more than BadZipFile
        raise DataError(f"{path} cannot be read: {_said(error)}; expected a file that numpy.savez wrote") from None
    members = {info.filename.removesuffix(".npy"): info for info in infos}
    if len(members) < len(infos):
        raise DataError(f"{path} holds two arrays of the same name; write it again with numpy.savez")
    return Npz(path, members)


def load_member(npz: Npz, key: str) -> npt.NDArray[Any]:
    """The array *key*, read whole and checked against its checksum. Raises ``DataError``."""
    info = npz.members[key]
    try:
        with zipfile.ZipFile(npz.path) as archive, archive.open(info) as file:
            _check(npz, key, _read_header(file))
        with zipfile.ZipFile(npz.path) as archive, archive.open(info) as file:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            file.read(1)  # the checksum is compared at the end of the member
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds between them
        raise _damaged(npz, key, error) from None
    return array


def map_member(npz: Npz, key: str) -> npt.NDArray[Any]:
    """The array *key*, memory-mapped read-only when it is stored uncompressed, else read whole.

    A mapped array's checksum is not verified, which would read all of it. Raises ``DataError``.
    """
    info = npz.members[key]
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & _ENCRYPTED:
        return load_member(npz, key)
    try:
        with open(npz.path, "rb") as file:
            file.seek(info.header_offset)
            local = file.read(_LOCAL_HEADER)
            name_length, extra_length = struct.unpack("<HH", local[26:])
            file.seek(name_length + extra_length, os.SEEK_CUR)
            header = _read_header(file)
            offset = file.tell()
        _check(npz, key, header)
        if header.nbytes == 0:  # nothing to map
            return np.empty(header.shape, header.dtype)
        order = "F" if header.fortran else "C"
        return np.memmap(npz.path, header.dtype, "r", offset, header.shape, order)  # type: ignore[call-overload,no-any-return]
    except DataError:
        raise
    except Exception as error:
        raise _damaged(npz, key, error) from None


def _read_header(file: IO[bytes]) -> _Header:
    start = file.tell()
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"array format version {version[0]}.{version[1]}")
    return _Header(shape, fortran, dtype, file.tell() - start)


def _check(npz: Npz, key: str, header: _Header) -> None:
    """Refuse Python objects, and a header that claims another size than the member has, before any allocation."""
    if header.dtype.hasobject:
        raise DataError(
            f"{npz.path} stores {key} as Python objects (pickle), which are never loaded; "
            "save it as an array of numbers or of fixed-length strings"
        )
    held = npz.members[key].file_size - header.size
    if any(n < 0 for n in header.shape) or header.nbytes != held:
        raise DataError(
            f"{npz.path} is damaged: {key} claims the shape {header.shape} of {header.dtype} "
            f"and holds {held:,} bytes; write it again with numpy.savez"
        )


def _damaged(npz: Npz, key: str, error: Exception) -> DataError:
    if isinstance(error, MemoryError):
        return DataError(f"{npz.path}: there is not enough memory for {key}; numpy.savez lets it be mapped instead")
    return DataError(f"{npz.path} is damaged: {key} cannot be read ({_said(error)}); write it again with numpy.savez")


def _said(error: Exception) -> str:
    return one_line(str(error)).strip() or type(error).__name__
