"""Masks as PNG files: a number per pixel, 8 bits with a palette or 16 bits grey."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import DataError

MOST_PIXELS = 2**26
"""Of one mask: more is refused before anything is decoded."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"IEND\xaeB`\x82"  # the last chunk's name and checksum
GREY, PALETTE = 0, 3  # colour types whose pixels are numbers
_HEADER = struct.Struct(">IIBB")


def encode(mask: NDArray[Any], classes: int) -> bytes:
    """Class numbers (H, W) below *classes* as a PNG file, in the colours of VOC; 16 bits grey beyond 256 classes."""
    height, width = mask.shape
    if classes <= 256:
        pixels, depth, colour = mask.astype(np.uint8, copy=False), 8, PALETTE
        palette = _chunk(b"PLTE", _colours()[: 3 * max(classes, 1)])
    else:
        pixels, depth, colour, palette = mask.astype(">u2").view(np.uint8), 16, GREY, b""
    rows = np.zeros((height, pixels.shape[1] + 1), np.uint8)  # each begins with its filter, 0: none
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 1)
    return SIGNATURE + _chunk(b"IHDR", header) + palette + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def size(png: bytes, name: str) -> tuple[int, int]:
    """(width, height) of a mask. DataError, which calls it *name*, for what is none: no PNG file, or one of colours."""
    if not png.startswith(SIGNATURE) or png[12:16] != b"IHDR" or len(png) < 33:
        raise DataError(f"{name}: not a PNG file; masks are PNG files with a class number per pixel")
    if png.rfind(END) < 0:
        raise DataError(f"{name}: a PNG file that is cut off; replace it")
    width, height, _, colour = _HEADER.unpack_from(png, 16)
    if colour not in (GREY, PALETTE):
        raise DataError(
            f"{name}: a PNG of colours; a mask has a class number per pixel: save it with a palette, or grey with 8 or "
            "16 bits"
        )
    if not 0 < width * height <= MOST_PIXELS:
        raise DataError(f"{name}: {width} x {height} pixels; a mask has 1 to {MOST_PIXELS:,}")
    return width, height


def decode(png: bytes, name: str) -> NDArray[Any]:
    """The numbers of a mask, uint8 or uint16 (H, W), as they were written. DataError, which calls it *name*, for a file
    that is damaged or none."""
    from PIL import Image

    size(png, name)
    depth, colour = png[24], png[25]
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            found = np.asarray(image)
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise DataError(f"{name}: a damaged PNG file ({reason}); replace it") from None
    if colour == GREY and depth < 8 and found.dtype != bool:  # Pillow stretches them to 0 … 255
        found = found // (255 // (2**depth - 1))
    return found.astype(np.uint16 if depth == 16 else np.uint8, copy=False)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def _colours() -> bytes:
    """256 colours that differ, class 0 black: bits 0, 3, 6 … of the number make red, 1, 4, 7 … green, 2, 5, 8 … blue,
    the lowest ones first."""
    number = np.arange(256)[:, None]
    bits = [((number >> (3 * j + np.arange(3))) & 1) << (7 - j) for j in range(8)]
    return bytes(np.sum(bits, axis=0).astype(np.uint8))
