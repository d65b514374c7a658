"""Resize and centre crop as torchvision does it to images of bytes; transformers' image processors do it so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pilotfish.errors import UnreadableSample, needs

KINDS = ("nearest", "bilinear", "bicubic")  # what every version resizes bytes by
MOST_PIXELS = 2**26  # of the resized image; a strip one pixel high would become gigabytes


def resize_as_torchvision(
    image: Image.Image | NDArray[np.uint8],
    resize: int | tuple[int, int] | None,
    size: tuple[int, int],
    interpolation: str,
) -> NDArray[np.uint8]:
    """uint8 (H, W) or (H, W, 3) of *size*: *image* resized as a whole, then cropped at its centre.

    resize, size, interpolation  as :class:`pilotfish.models.Preprocessing` has them; where the crop is larger than the
                                 resized image, the rest is black

    UnreadableSample for an image so long that resizing it as a whole takes gigabytes.
    """
    with needs("torchvision", "torch", "resizing as torchvision does"):
        import torch
        from torchvision.transforms.v2 import functional

    # torch takes no array that cannot be written to, as Pillow's cannot
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W")))
    planes = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)  # not made contiguous: three times as fast
    height, width = pixels.shape[:2]
    whole = resized_size((height, width), resize, size)
    if whole[0] * whole[1] > MOST_PIXELS:
        raise UnreadableSample(
            f"an image of {width}x{height} pixels would be resized to {whole[1]}x{whole[0]}; crop it first"
        )
    mode = functional.InterpolationMode(interpolation)
    found: Any = functional.resize(planes, list(whole), interpolation=mode, antialias=True)
    array: NDArray[np.uint8] = _cropped(found.numpy(), size)
    return np.ascontiguousarray(array[0] if pixels.ndim == 2 else array.transpose(1, 2, 0))


def resized_size(of: tuple[int, int], resize: int | tuple[int, int] | None, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the whole image *of* (height, width), before the crop; the longer side is rounded down."""
    if not isinstance(resize, int):
        return size if resize is None else resize
    height, width = of
    longer = max(1, int(resize * max(of) / min(of)))
    return (longer, resize) if width <= height else (resize, longer)


def _cropped(planes: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The centre of *planes* (C, H, W), with black around it where it is smaller."""
    missing = [max(0, wanted - found) for wanted, found in zip(size, planes.shape[1:], strict=True)]
    if any(missing):
        planes = np.pad(planes, [(0, 0), *((lack // 2, lack - lack // 2) for lack in missing)])
    top, left = ((found - wanted) // 2 for wanted, found in zip(size, planes.shape[1:], strict=True))
    return planes[:, top : top + size[0], left : left + size[1]]
