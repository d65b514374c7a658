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

from pilotfish.errors import DataError, PilotfishError, one_line
from pilotfish.reading.limits import check_size

_ENCRYPTED = 0x1  # flag bit of a zip member
_LOCAL_HEADER = 30  # bytes of a member's own header before its name


@dataclass(frozen=True, eq=False)
class Npz:
    """The table of contents of an ``.npz`` file: array names and where they lie."""

    path: Path
    members: Mapping[str, zipfile.ZipInfo] = field(repr=False)
    error: type[PilotfishError] = DataError


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    size: int  # bytes of the header itself

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def open_npz(path: Path, error_type: type[PilotfishError] = DataError) -> Npz:
    """Read the table of contents. Raises *error_type*, here and later, for what is not a whole ``.npz`` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    except FileNotFoundError:
        raise error_type(f"{path} does not exist; expected an .npz file of arrays") from None
    except zipfile.BadZipFile as error:
        with path.open("rb") as file:
            if file.read(6) == np.lib.format.MAGIC_PREFIX:
                raise error_type(
                    f"{path} holds one array without a name; write it with numpy.savez(file, x=…)"
                ) from None
        raise error_type(
            f"{path} is not a whole .npz file ({one_line(str(error))}); write it with numpy.savez"
        ) from None
    except Exception as error:  # a damaged directory makes zipfile raise more than BadZipFile
        raise error_type(f"{path} cannot be read: {_said(error)}; expected a file that numpy.savez wrote") from None
    members = {info.filename.removesuffix(".npy"): info for info in infos}
    if len(members) < len(infos):
        raise error_type(f"{path} holds two arrays of the same name; write it again with numpy.savez")
    return Npz(path, members, error_type)


def load_member(npz: Npz, key: str) -> npt.NDArray[Any]:
    """The array *key*, read whole and checked against its checksum, after its size was compared with the memory.

    Raises the file's error.
    """
    info = npz.members[key]
    try:
        with zipfile.ZipFile(npz.path) as archive, archive.open(info) as file:
            header = _read_header(file)
        _check(npz, key, header)
        check_size(f"{npz.path}: {key}", header.nbytes, info.compress_size, npz.error)
        with zipfile.ZipFile(npz.path) as archive, archive.open(info) as file:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            file.read(1)  # the checksum is compared at the end of the member
    except PilotfishError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds between them
        raise _damaged(npz, key, error) from None
    return array


def map_member(npz: Npz, key: str) -> npt.NDArray[Any]:
    """The array *key*, memory-mapped read-only when it is stored uncompressed, else read whole.

    A mapped array's checksum is not verified, which would read all of it. Raises the file's error.
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
    except PilotfishError:
        raise
    except Exception as error:
        raise _damaged(npz, key, error) from None


def array_header(npz: Npz, key: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """(shape, dtype) of the array *key*, as its header claims; nothing else is read. Raises the file's error."""
    try:
        with zipfile.ZipFile(npz.path) as archive, archive.open(npz.members[key]) as file:
            header = _read_header(file)
    except Exception as error:
        raise _damaged(npz, key, error) from None
    return header.shape, header.dtype


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
        raise npz.error(
            f"{npz.path} stores {key} as Python objects (pickle), which are never loaded; "
            "save it as an array of numbers or of fixed-length strings"
        )
    held = npz.members[key].file_size - header.size
    if any(n < 0 for n in header.shape) or header.nbytes != held:
        raise npz.error(
            f"{npz.path} is damaged: {key} claims the shape {header.shape} of {header.dtype} "
            f"and holds {held:,} bytes; write it again with numpy.savez"
        )


def _damaged(npz: Npz, key: str, error: Exception) -> PilotfishError:
    if isinstance(error, MemoryError):
        return npz.error(f"{npz.path}: there is not enough memory for {key}; numpy.savez lets it be mapped instead")
    return npz.error(f"{npz.path} is damaged: {key} cannot be read ({_said(error)}); write it again with numpy.savez")


def _said(error: Exception) -> str:
    return one_line(str(error)).strip() or type(error).__name__
