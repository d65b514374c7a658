"""What a sample is, whatever it is called: a hash of it as it was read. Copies of one file have the same."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pilotfish.data.encoded import Encoded

HEX_DIGITS = 32


def content_hash(sample: Encoded | Image.Image | npt.NDArray[Any]) -> str:
    """32 hex digits of the SHA-256 of a sample: of an image file's bytes, not decoded; of an array's dtype, shape and
    values; of a picture's mode, size and pixels."""
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
