"""An image file as a person would see it: RGB, upright, transparency on white, the first frame.

The formats are an allow-list, found by the file's first bytes and never by its name, and each goes to its own
decoder: nothing else of Pillow's dozens of parsers ever sees the bytes. Every pixel is decoded at full size unless
something else is asked for, because a decoder's shortcuts change the pixels and the decoder is part of a model's
preprocessing.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from pilotfish.data.flatten import flatten
from pilotfish.data.pixel_budget import PIXELS
from pilotfish.data.turbojpeg import decode_jpeg
from pilotfish.errors import MissingExtraError, UnreadableSample, one_line

Size = tuple[int, int]
Library = Literal["pillow", "turbojpeg"]
Pixels = Image.Image | NDArray[np.uint8]

_HEIF = re.compile(rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", re.DOTALL)


def _heif(file: BinaryIO) -> ImageFile.ImageFile:
    from pillow_heif import HeifImageFile  # not one of ours: the user installs it

    opened: ImageFile.ImageFile = HeifImageFile(file)
    return opened


def _avif(file: BinaryIO) -> ImageFile.ImageFile:
    from PIL import AvifImagePlugin

    return AvifImagePlugin.AvifImageFile(file)


_AVIF_IS_READ = bool(features.check("avif"))
_HEIF_IS_READ = importlib.util.find_spec("pillow_heif") is not None

IMAGE_FORMATS = (
    ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM") + ("AVIF",) * _AVIF_IS_READ + ("HEIF",) * _HEIF_IS_READ
)
"""The formats that are read. PPM stands for its family: PPM, PGM, PBM, PFM. AVIF where this Pillow was built with it,
HEIF (.heic) where the package pillow-heif is installed."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".pfm"}
    | ({".avif"} if _AVIF_IS_READ else set())
    | ({".heic", ".heif"} if _HEIF_IS_READ else set())
)
"""The suffixes, in lower case, by which a folder's files are taken for images."""

_DECODERS: tuple[tuple[str, re.Pattern[bytes], Callable[[BinaryIO], ImageFile.ImageFile]], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    ("WEBP", re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
    ("BMP", re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    ("GIF", re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImagePlugin.TiffImageFile),
    ("PPM", re.compile(rb"P[1-6f][\s#]"), PpmImagePlugin.PpmImageFile),
    *((("AVIF", re.compile(rb"....ftyp(avif|avis)", re.DOTALL), _avif),) if _AVIF_IS_READ else ()),
    *((("HEIF", _HEIF, _heif),) if _HEIF_IS_READ else ()),
)

LARGEST_FILE = 512 * 2**20
"""Bytes of an encoded image."""
LARGEST_TILE = 2**24
"""Pixels that a tile of a TIFF may always have."""
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT = 278, 322, 323  # tags of TIFF

_PNG_END = b"IEND\xaeB`\x82"  # the last chunk's name and checksum

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_PILLOW = re.compile(r"PIL\.")
_LARGE = threading.Lock()
_LOADING = tuple(threading.Lock() for _ in range(64))


def open_image(
    source: str | Path | bytes | BinaryIO,
    *,
    name: str | None = None,
    at_least: Size | None = None,
    library: Library = "pillow",
) -> Image.Image:
    """Decode one image, given as a path, as bytes or as an open binary file, to mode RGB.

    at_least  (width, height) that are enough: a JPEG is then decoded at the smallest scale of 1, 1/2, 1/4 and 1/8 that
              holds them, with other pixels than scaling down would give
    library   what decodes a JPEG: pillow, or turbojpeg (simplejpeg), which refuses more of what is broken. Others are
              Pillow's

    The EXIF orientation is applied, transparency is composited on white, 16-bit greys are scaled by 1/257, CMYK is
    converted, and of an animation the first frame is taken. The result has no metadata left. Thread-safe.

    Raises ``UnreadableSample``, one line that names the file (or *name*), for whatever cannot be shown in full: a
    missing, empty or truncated file, a format that is not on the list, a decompression bomb (Pillow's limit).
    MissingExtraError where the library is not installed.
    """
    image = open_scaled(source, name, at_least, library)[0]
    return Image.fromarray(image) if isinstance(image, np.ndarray) else image


def open_scaled(
    source: str | Path | bytes | BinaryIO, name: str | None, at_least: Size | None, library: Library
) -> tuple[Pixels, Size | None]:
    """What ``open_image`` gives, or uint8 (H, W, 3), as the library has it; and of a JPEG, whose pixels depend on scale
    and library, its (width, height) in full, not turned."""
    try:
        return _decode(_read(source), at_least, library)
    except MissingExtraError:
        raise
    except Exception as error:  # broken files make Pillow raise nearly any exception, SyntaxError included
        raise _unreadable(name if name is not None else _name(source), error) from error


def jpeg_scale(size: Size, at_least: Size | None) -> int:
    """8, 4, 2 or 1: the share 1/8 to 1 of its *size* at which a JPEG is decoded (Pillow's ``draft``)."""
    if at_least is None:
        return 1
    most = min(size[0] // at_least[0], size[1] // at_least[1])
    return next((scale for scale in (8, 4, 2) if most >= scale), 1)


def upright(image: Image.Image) -> Image.Image:
    """A PIL image that somebody else opened or made as ``open_image`` gives its file: mode RGB, turned by its EXIF
    orientation, transparency on white. *image* stays as it is, beyond being loaded. Thread-safe.

    Raises ``UnreadableSample`` when it cannot be loaded.
    """
    try:
        with _LOADING[id(image) % len(_LOADING)]:  # two threads may have the same one
            image.load()
            if 0 in image.size:  # as no file can hold it
                raise _Unfit(f"it has no pixels ({image.width}x{image.height})")
            orientation = _orientation(image)
        plain = image.mode == "RGB" and "transparency" not in image.info
        return _turned(image if plain else flatten(image), orientation)
    except Exception as error:  # as for files
        raise _unreadable("the image", error) from error


def read_image_file(path: str | Path) -> bytes:
    """The bytes of a file that is to be decoded later. ``UnreadableSample`` for a missing file, a folder, a pipe."""
    try:
        return _read(path)
    except (OSError, ValueError, MemoryError, _Unfit) as error:
        raise _unreadable(str(path), error) from error


class _Unfit(Exception):  # noqa: N818 - never leaves this file
    """A reason found here, whose text is meant for the user as it stands."""


def _unreadable(name: str, error: Exception) -> UnreadableSample:
    return UnreadableSample(f"{one_line(name)} cannot be read: {_reason(error)}")


def _name(source: str | Path | bytes | BinaryIO) -> str:
    if isinstance(source, (str, Path)):
        return str(source)
    named = getattr(source, "name", None)
    return named if isinstance(named, str) else "the image"


def _reason(error: Exception) -> str:
    if isinstance(error, _Unfit):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror)
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode it"
    said = one_line(str(error)).strip()
    return f"it is broken or cut short ({said or type(error).__name__})"


def _read(source: str | Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        return source
    if not isinstance(source, (str, Path)):
        return _bounded(source)
    status = os.stat(source)
    kind = status.st_mode
    if stat.S_ISDIR(kind):
        raise _Unfit("it is a folder; expected an image file")
    if not stat.S_ISREG(kind):  # a pipe or a device may never end
        raise _Unfit("it is not a regular file; expected an image file")
    if status.st_size > LARGEST_FILE:
        raise _Unfit(f"it has {status.st_size:,} bytes, over the limit of {LARGEST_FILE:,}; scale it down")
    with open(source, "rb") as file:
        return _bounded(file)


def _bounded(file: BinaryIO) -> bytes:
    data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise _Unfit(f"it has more than {LARGEST_FILE:,} bytes, which is no photograph; scale it down")
    return data


def _decode(data: bytes, at_least: Size | None, library: Library) -> tuple[Pixels, Size | None]:
    if not data:
        raise _Unfit("it is empty (0 bytes)")
    decoder = next((decoder for _, magic, decoder in _DECODERS if magic.match(data)), None)
    if decoder is None:
        raise _Unfit(_unknown(data))
    # Pillow accepts a PNG that lost its end once all pixels are there; a file that was cut is not to be trusted.
    if decoder is PngImagePlugin.PngImageFile and _PNG_END not in data:
        raise _Unfit("it is cut short: a PNG without its end")
    _hush_metadata_warnings()
    image = decoder(io.BytesIO(data))
    large = _is_large(image)
    weight, full = _weight(image), None
    jpeg = image if isinstance(image, JpegImagePlugin.JpegImageFile) else None
    if jpeg is not None:
        full = jpeg.size
        if at_least is not None:
            jpeg.draft(jpeg.mode, at_least)
        if "progressive" not in jpeg.info:  # its coefficients are held in full
            weight = _weight(jpeg)
    with PIXELS.decoding(weight):
        if jpeg is not None and library == "turbojpeg" and (decoded := decode_jpeg(data, jpeg)) is not None:
            orientation = _orientation(jpeg)  # hardly ever another than 1
            turns = orientation in _UPRIGHT
            return np.array(_turned(Image.fromarray(decoded), orientation)) if turns else decoded, full
        if not large:
            return _to_rgb(image), full
        # catch_warnings isn't thread-safe, so it is kept for images so large that Pillow would warn.
        with _LARGE, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return _to_rgb(image), full


def _unknown(data: bytes) -> str:
    if _HEIF.match(data):
        return "it is HEIF; install the package pillow-heif to read it, or save it as JPEG"
    return f"it is not an image of an allowed format ({', '.join(IMAGE_FORMATS)})"


def _weight(image: ImageFile.ImageFile) -> int:
    """Pixels as the budget counts them: twice for decoders that hold the image more than once."""
    pixels = image.width * image.height
    twice = image.format in ("WEBP", "AVIF", "HEIF")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tile = _tile(image)
        if tile > 2 * pixels + LARGEST_TILE:  # the decoder holds a whole tile, however little of it is shown
            raise _Unfit(f"it has {pixels:,} pixels in tiles of {tile:,} (a decompression bomb?); save it again")
        pixels += tile
    if twice and 2 * pixels > PIXELS.total:
        raise _Unfit(
            f"it has {pixels:,} pixels, over the limit of {PIXELS.total // 2:,} for {image.format} "
            "(a decompression bomb?); scale it down"
        )
    return 2 * pixels if twice else pixels


def _tile(image: TiffImagePlugin.TiffImageFile) -> int:
    """Pixels of one tile or strip, as the file's tags claim."""
    tags = image.tag_v2
    wide, high = tags.get(_TILE_WIDTH), tags.get(_TILE_HEIGHT)
    if not (isinstance(wide, int) and isinstance(high, int)):
        wide, high = image.width, min(_number(tags.get(_ROWS_PER_STRIP), image.height), image.height)
    return wide * high


def _number(value: object, fallback: int) -> int:
    return value if isinstance(value, int) and value > 0 else fallback


def _hush_metadata_warnings() -> None:
    """Ignore Pillow's UserWarnings about broken metadata, which say nothing about the pixels.

    The filter is for the whole process and for warnings from inside PIL only: a warnings.catch_warnings around each
    image isn't thread-safe and makes Python repeat everybody else's once-only warnings.
    """
    if not warnings.filters or warnings.filters[0][2:4] != (UserWarning, _PILLOW):
        warnings.filterwarnings("ignore", category=UserWarning, module=_PILLOW.pattern)


def _is_large(image: Image.Image) -> bool:
    """Whether Pillow would warn about the image's size. Refuses it where Pillow would refuse it."""
    warned = Image.MAX_IMAGE_PIXELS
    pixels = image.width * image.height
    if warned is None or pixels <= warned:
        return False
    if pixels > 2 * warned:
        raise _Unfit(
            f"it has {pixels:,} pixels, over the limit of {2 * warned:,} (a decompression bomb?); scale it down"
        )
    return True


def _to_rgb(image: ImageFile.ImageFile) -> Image.Image:
    image.load()
    orientation = _orientation(image)
    rgb = flatten(image)
    image.close()  # its pixels are no longer needed beside the result
    rgb.info.clear()  # so that nobody turns it a second time
    return _turned(rgb, orientation)


def _turned(rgb: Image.Image, orientation: object) -> Image.Image:
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a broken EXIF block is not the picture's fault
        return None
