"""The pixels of a JPEG by libjpeg-turbo itself, through the package simplejpeg: faster than through Pillow, and what
libjpeg-turbo warns of is an error, where Pillow shows what it guessed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import JpegImagePlugin

from pilotfish.errors import needs


def decode_jpeg(data: bytes, header: JpegImagePlugin.JpegImageFile) -> NDArray[np.uint8] | None:
    """The picture that *data* holds, uint8 (H, W, 3) in RGB and the size of *header*, which Pillow read and perhaps
    scaled; not yet turned. None where Pillow alone reads it: CMYK.

    Raises ValueError for what is broken or cut short, however little of it; MissingExtraError without simplejpeg.
    """
    if header.mode not in ("RGB", "L"):
        return None
    with needs("simplejpeg", "jpeg", "decoding by turbojpeg"):
        import simplejpeg
    config = header.decoderconfig  # (scale, 0) once it is scaled
    scale = config[0] if config else 1
    height, width = simplejpeg.decode_jpeg_header(data)[:2]
    if (-(-width // scale), -(-height // scale)) != header.size:  # before the pixels of another size are made room for
        raise ValueError(f"its headers disagree: {width}x{height} pixels are not {header.width}x{header.height}")
    wanted = {"min_height": header.height, "min_width": header.width} if scale > 1 else {}
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", min_factor=scale, **wanted)
    if pixels.shape[:2] != (header.height, header.width):
        raise ValueError(f"{pixels.shape[1]}x{pixels.shape[0]} pixels were decoded instead of {header.size}")
    return pixels
