"""Masks as PNG files: what other programs write is read as the numbers that it holds."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from pilotfish.errors import DataError
from pilotfish.tasks.indexed_png import decode, encode, size


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def by_hand(mask: np.ndarray, depth: int, colour: int) -> bytes:
    """A PNG of whole rows, of *depth* bits a pixel, most significant first."""
    bits = np.unpackbits(mask.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :].reshape(len(mask), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    palette = chunk(b"PLTE", bytes(3 * 2**depth)) if colour == 3 else b""
    header = struct.pack(">IIBBBBB", mask.shape[1], mask.shape[0], depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + palette + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(("classes", "shape"), [(2, (1, 1)), (21, (30, 47)), (256, (8, 300)), (3000, (11, 5))])
def test_a_mask_is_read_as_it_was_written(classes: int, shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).integers(0, classes, shape)
    png = encode(mask, classes)
    assert (decode(png, "it") == mask).all()
    assert size(png, "it") == shape[::-1]
    assert (np.asarray(Image.open(io.BytesIO(png))) == mask).all()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("colour", [0, 3], ids=["grey", "palette"])
def test_few_bits_are_numbers_and_no_shades(depth: int, colour: int) -> None:
    mask = np.random.default_rng(depth).integers(0, 2**depth, (7, 13))
    assert (decode(by_hand(mask, depth, colour), "it") == mask).all()


def test_a_palette_with_holes_does_not_move_the_numbers() -> None:
    mask = np.array([[0, 7, 200], [255, 7, 0]], np.uint8)
    image = Image.fromarray(mask, mode="P")
    image.putpalette([9, 9, 9] * 201)  # one colour throughout, and none for 255
    assert (decode(saved(image), "it") == mask).all()


COLOURS = Image.new("RGB", (4, 3))
BLANK = encode(np.zeros((4, 4), int), 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: saved(COLOURS), "a PNG of colours"),
        (lambda: saved(COLOURS.convert("RGBA")), "a PNG of colours"),
        (lambda: saved(COLOURS.convert("LA")), "a PNG of colours"),
        (lambda: b"BM" + bytes(100), "not a PNG file"),
        (lambda: b"", "not a PNG file"),
        (lambda: BLANK[:-20], "cut off"),
        (lambda: BLANK.replace(b"IDAT", b"IDAX"), "damaged"),
        (lambda: BLANK[:16] + struct.pack(">II", 2**20, 2**20) + BLANK[24:], "1048576 x 1048576 pixels"),
    ],
)
def test_what_is_no_mask_is_refused(make: Callable[[], bytes], words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        decode(make(), "the mask of a.jpg")
    assert "the mask of a.jpg" in str(error.value)
