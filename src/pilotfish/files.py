"""Files written whole or not at all, and names that are safe to write."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from pilotfish.errors import PilotfishError, UnwritableError, UsageError

MAX_JSON_BYTES = 256 * 2**20
"""Of a table of another program."""
MAX_DOCUMENT_BYTES = 48 * 2**20
"""Of a document of ours; as lists in lists it takes some 20 times as much memory."""
MAX_JSON_DEPTH = 40


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """A temporary path beside *target* that replaces it when the block ends without an error.

    The file reaches the disk before it takes its name, so a reader (or a restart after ``kill -9``)
    sees the old file or the new one, never half of it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:80]}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise unwritable(target, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write *text* as UTF-8, atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, document: Any) -> None:
    """Write *document* as indented JSON, atomically. Infinities are refused: JSON has none. UsageError for text that is
    no Unicode, as an undecodable byte of a file name becomes."""
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = text[max(0, error.start - 40) : error.start + 40].strip()
        raise UsageError(f"{target}: cannot hold text that is not valid Unicode: {found!r}; rename it") from error
    write_text(target, text)


def parse_json(text: str | bytes, yielding: bool = False) -> Any:
    """What a JSON document says. ValueError, one line, for what is none or cannot be used: keys that stand twice,
    numbers beyond float64, NaN, nesting beyond any document of ours, half of a surrogate pair.

    yielding  whether other threads may run while it is read; a million numbers take half as long again
    """
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
        document = (_YIELDING if yielding else _READER).decode(plain)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_values(document, texts="\\u" in plain)
    return document


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON document (``object_pairs_hook``); ValueError where a key stands twice."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return document


def read_json(path: Path, error_type: type[PilotfishError]) -> dict[str, Any]:
    """The JSON object in *path*; *error_type* when it is missing, too large, or not an object."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
            raise error_type(f"{path}: cannot be read (not a regular file); expected a JSON document")
        if found.st_size > MAX_DOCUMENT_BYTES:
            raise error_type(f"{path}: {found.st_size:,} bytes of JSON, more than the {MAX_DOCUMENT_BYTES:,} allowed")
        document = parse_json(path.read_bytes())
    except OSError as error:
        raise error_type(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise error_type(f"{path}: not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise error_type(f"{path}: expected a JSON object, found {type(document).__name__}")
    return document


def unwritable(path: Path, error: OSError) -> UnwritableError:
    """The one-line error for a file that cannot be written."""
    reason = {
        errno.ENOSPC: "the disk is full; free some space and run the same command again",
        errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
        errno.EROFS: "the file system is read-only; name a folder that can be written",
        errno.EACCES: "permission denied; name a folder that can be written",
        errno.ENAMETOOLONG: "the name is too long; give a shorter one with --as",
        errno.ENOTDIR: "a part of the path is a file, not a folder",
        errno.EEXIST: "a file stands where a folder is needed",
    }.get(error.errno or 0, error.strerror or str(error))
    return UnwritableError(f"cannot write {path}: {reason}")


def encode_name(name: str) -> str:
    """A model's or split's name as a file name: percent-encoded, dots included."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:  # a lone surrogate, as an undecodable byte of a command line becomes
        raise UsageError(f"a name that is valid Unicode is needed, found {name[:60]!r}") from error
    if not 1 <= size <= 200:
        raise UsageError(f"a name of 1 to 200 bytes is needed, found {size} bytes: {name[:60]!r}")
    return quote(name, safe="").replace(".", "%2E")


def decode_name(encoded: str) -> str:
    """The inverse of :func:`encode_name`."""
    return unquote(encoded)


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(document: Any) -> str:
    """Hex digest of a JSON document, independent of key order."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _check_values(document: Any, texts: bool) -> None:
    """ValueError where *document* is too deep or holds numbers beyond float64 and, with *texts*, lone surrogates."""
    level: list[Any] = [document]
    for _ in range(MAX_JSON_DEPTH):
        below: list[Any] = []
        for value in level:
            kind = type(value)
            if kind is dict:
                below += value.values()
                below += value if texts else ()
            elif kind is list:
                below += value
            elif kind is float or kind is int:
                _check_number(value)
            elif texts and kind is str and not value.isascii():
                value.encode()  # a UnicodeEncodeError is a ValueError
        if not below:
            return
        level = below
    raise ValueError(f"it is nested more than {MAX_JSON_DEPTH} deep")


def _check_number(value: float) -> None:
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an integer
        finite = False
    if not finite:
        raise ValueError("it holds a number beyond float64")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_READER = json.JSONDecoder(object_pairs_hook=without_duplicates, parse_constant=_no_constant)
_YIELDING = json.JSONDecoder(
    object_pairs_hook=without_duplicates,
    parse_constant=_no_constant,
    parse_float=lambda text: float(text),  # Python code, unlike float itself: other threads get their turn there
    parse_int=lambda text: int(text),
)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
