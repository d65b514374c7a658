"""Samples as they were read: an image file that is not yet decoded, for models that decode it in their own way, and the
hash of a sample, whatever it is called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pilotfish.data.dataset import Dataset
from pilotfish.data.images import Library, Pixels, Size, jpeg_scale, open_scaled, read_image_file

HEX_DIGITS = 32


@dataclass(frozen=True)
class _Decoded:
    """What was decoded last. full: (width, height) of a JPEG, whose pixels depend on library and scale; else None."""

    image: Pixels
    full: Size | None
    library: str
    scale: int


@dataclass
class Encoded:
    """The bytes of one image file. What was decoded last is kept, so that stages that decode it alike do it once.

    path  where the file lies; None for bytes that came without one
    """

    content: bytes
    name: str
    path: str | None = None
    _last: _Decoded | None = field(default=None, repr=False)

    def decode(self, at_least: Size | None = None, library: Library = "pillow") -> Pixels:
        """The image in mode RGB, see ``open_image``; or uint8 (H, W, 3), not to be written to, as turbojpeg gives it.

        at_least  (width, height): a JPEG may be decoded at a scale of 1/2, 1/4 or 1/8 that is no smaller than this
        library   what decodes a JPEG
        """
        last = self._last
        if last is None or (
            last.full is not None and (last.library, last.scale) != (library, jpeg_scale(last.full, at_least))
        ):
            image, full = open_scaled(self.content, self.name, at_least, library)
            last = _Decoded(image, full, library, jpeg_scale(full, at_least) if full else 1)
            self._last = last
        return last.image


def read_encoded(path: str | Path) -> Encoded:
    """The file *path*, not decoded. ``UnreadableSample`` when it cannot be read."""
    return Encoded(read_image_file(path), str(path), str(path))


def sample_reader(data: Dataset, encoded: bool) -> Callable[[int], Any]:
    """How to read the i-th sample of *data*; what is no image file comes as ``read`` gives it."""
    own = getattr(data, "encoded", None)
    return own if encoded and own is not None else data.read


def content_hash(sample: Encoded | Image.Image | npt.NDArray[Any]) -> str:
    """32 hex digits of the SHA-256 of a sample: of an image file's bytes, not decoded; of an array's dtype, shape and
    values; of a picture's mode, size and pixels. Copies of one file have the same."""
    if isinstance(sample, Encoded):
        return hashlib.sha256(sample.content).hexdigest()[:HEX_DIGITS]
    if isinstance(sample, Image.Image):
        sha = hashlib.sha256(f"{sample.mode}|{sample.size}|".encode())
        sha.update(sample.tobytes())
        return sha.hexdigest()[:HEX_DIGITS]
    array = np.ascontiguousarray(sample)
    sha = hashlib.sha256(f"{array.dtype.str}|{array.shape}|".encode())
    sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()[:HEX_DIGITS]
