"""A decoded image of any mode in mode RGB: transparency on white, more than 8 bits scaled to 8.

Every step looks at one pixel at a time, so large images go through in strips of rows: the result takes 4 bytes a pixel,
and no step takes more than a strip's worth beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

STRIP = 2**22
"""Pixels that are converted at once."""


def flatten(image: Image.Image) -> Image.Image:
    """The loaded *image* in mode RGB, on white where it is transparent."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _in_strips(image, _on_white)
    return image.convert("RGB")


def _in_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """*convert*, which gives mode RGB, over the whole image, or strip by strip where it is large."""
    if image.width * image.height <= STRIP:
        return convert(image)
    made = Image.new("RGB", image.size)
    for top, strip in _strips(image):
        made.paste(convert(strip), (0, top))
    return made


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, STRIP // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """A one-channel image of more than 8 bits as 8-bit grey, in mode RGB.

    Integers up to 65535 are taken as 16-bit, floats as fractions of white, 8-bit or 16-bit numbers, by their range.
    Numbers outside those ranges have no known white and are stretched from their minimum to their maximum.
    """
    black, white = _range(image)
    clear = image.info.get("transparency")

    def convert(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip)
        if _is_16_bit(values):
            grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        else:
            v = _finite(values)
            if black is not None:
                v -= black
            v *= 255.0 / white
            grey = np.rint(v, out=v).astype(np.uint8)
        if isinstance(clear, int):  # a 16-bit PNG may name one grey as transparent
            grey = np.where(values == clear, np.uint8(255), grey)
        return Image.fromarray(grey).convert("RGB")

    return _in_strips(image, convert)


def _range(image: Image.Image) -> tuple[float | None, float]:
    """(what is black, None for 0; what lies between black and white)."""
    lows: list[float] = []
    highs: list[float] = []
    whole = True
    for _, strip in _strips(image):
        values = np.asarray(strip)
        if _is_16_bit(values):
            return None, 65535.0
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low + high):
            v = _finite(values)
            low, high = float(v.min()), float(v.max())
        lows.append(low)
        highs.append(high)
        whole = values.dtype.kind in "iu"
    low, high = min(lows), max(highs)
    whites = (65535.0,) if whole else (1.0, 255.0, 65535.0)
    white = next((w for w in whites if low >= 0 and high <= w), None)
    return (low, (high - low) or 1.0) if white is None else (None, white)


def _is_16_bit(values: npt.NDArray[np.generic]) -> bool:
    return values.dtype.kind == "u" and values.dtype.itemsize == 2


def _finite(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """A copy in float64, with 0 for what is not finite."""
    return np.nan_to_num(values.astype(np.float64), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
