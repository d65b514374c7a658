"""What lies in a folder: image files at any depth, and what was left out."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pilotfish.data.images import IMAGE_SUFFIXES
from pilotfish.errors import DataError, one_line
from pilotfish.text import listed

MISSING = -1
"""The size of a file that is not there."""
DEEPEST = 100
MOST_REPEATS = 5_000
"""How many folders may be entered that were entered before by another way, through links to links."""

File = tuple[str, int]  # path relative to the folder, with "/"; size in bytes
Identity = tuple[int, int]


@dataclass
class Listing:
    """A walk below the folder *root*; it counts what it leaves out."""

    root: Path
    left_out: Counter[str] = field(default_factory=Counter)
    back: list[str] = field(default_factory=list)  # links that lead to the root or above it, or round a circle
    _above: frozenset[Identity] = frozenset()
    _entered: set[Identity] = field(default_factory=set)
    _repeats: int = 0

    def __post_init__(self) -> None:
        real = Path(os.path.realpath(self.root))
        self._above = frozenset(identity(folder) for folder in (real, *real.parents))

    def entries(self, folder: str | Path) -> list[os.DirEntry[str]]:
        """What is in *folder*, without hidden files and what macOS adds to archives."""
        try:
            with os.scandir(folder) as found:
                return [entry for entry in found if not entry.name.startswith(".") and entry.name != "__MACOSX"]
        except OSError as error:
            raise DataError(f"{one_line(str(folder))} cannot be listed: {error.strerror}") from None

    def leads_back(self, entry: os.DirEntry[str], name: str) -> bool:
        """Whether the folder *entry* is the root or lies above it, by a link; then it is left out and named."""
        if identity(entry) not in self._above:
            return False
        self.back.append(name)
        return True

    def images(self, entry: os.DirEntry[str] | Path, prefix: str = "") -> Iterator[File]:
        """All images at any depth, in no order. Links to folders are followed, but never back and never in a circle."""
        above = self._above if isinstance(entry, Path) else self._above | {identity(entry)}
        stack = [(str(entry) if isinstance(entry, Path) else entry.path, prefix, above, 0)]
        while stack:
            path, prefix, above, depth = stack.pop()
            for found in self.entries(path):
                if is_dir(found):
                    name, own = f"{prefix}{found.name}", identity(found)
                    if own in above:
                        self.back.append(name)
                        continue
                    self._enter(own, name, depth)
                    stack.append((found.path, f"{name}/", above | {own}, depth + 1))
                elif is_image(found):
                    yield prefix + found.name, entry_size(found)
                else:
                    self.leave_out(found.name)

    def _enter(self, own: Identity, name: str, depth: int) -> None:
        self._repeats += own in self._entered
        self._entered.add(own)
        if depth >= DEEPEST or self._repeats > MOST_REPEATS:
            raise DataError(
                f"{one_line(str(self.root))}: {one_line(name)[-200:]} lies {depth + 1} folders deep after "
                f"{self._repeats:,} folders were entered by several ways; are there links to links? Remove them"
            )

    def leave_out(self, name: str) -> None:
        """Count a file that is not read, by its suffix in lower case."""
        self.left_out[os.path.splitext(name)[1].lower() or "(no suffix)"] += 1

    def notes(self) -> tuple[str, ...]:
        """What was left out, a line each."""
        said = []
        if self.left_out:
            counts = ", ".join(f"{n:,} {one_line(suffix)[:20]}" for suffix, n in self.left_out.most_common(8))
            more = f" and {len(self.left_out) - 8} more kinds" if len(self.left_out) > 8 else ""
            said.append(f"files left out, no images by their suffix: {counts}{more}{self._hint()}")
        if self.back:
            first = listed([one_line(name)[:80] for name in self.back], 3)
            said.append(f"links that lead back are not followed: {first}")
        return tuple(said)

    def _hint(self) -> str:
        heif = sorted(suffix for suffix in (".heic", ".heif") if self.left_out[suffix])
        if heif and importlib.util.find_spec("pillow_heif") is None:
            return f"; install the package pillow-heif to read {' and '.join(heif)}"
        if self.left_out[".avif"]:
            return "; this Pillow was built without AVIF"
        return ""


def is_image(entry: os.DirEntry[str]) -> bool:
    """Whether *entry* is a file, or a dangling link, that is called like an image."""
    return os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and not is_dir(entry)


def is_dir(entry: os.DirEntry[str]) -> bool:
    """Whether *entry* is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def identity(folder: os.DirEntry[str] | Path) -> Identity:
    """Device and inode, of what a link points to."""
    # os.stat and not DirEntry.stat, whose device and inode are 0 on Windows
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def entry_size(entry: os.DirEntry[str]) -> int:
    """Bytes of a file; ``MISSING`` for a dangling link, which is unreadable when its turn comes."""
    try:
        return entry.stat().st_size
    except OSError:
        return MISSING
