"""Images at their own size: through a file that takes one size, and its answers back at the size of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pilotfish.models.outputs.raw_answers import Size, size_of_image
from pilotfish.models.preprocessing import Preprocessing

OWN_SIZE = Preprocessing(size=None, resize=None, mean=(0.0,) * 3, std=(1.0,) * 3)
"""Images from 0 to 1 at their own size, for models that resize and normalise inside."""


def fit_images(batch: NDArray[Any], size: Size | None) -> NDArray[Any]:
    """Images float32 (N, C, H, W) or (N, H, W, C) at *size*, (height, width); the batch itself where they have it, or
    where the file takes any."""
    if size is None or not len(batch) or (own := size_of_image(batch[0])) is None or own == size:
        return batch
    last = batch.shape[1] not in (1, 3)
    planes = batch.transpose(0, 3, 1, 2) if last else batch
    found = _resized(planes, size, Image.Resampling.BILINEAR)
    return np.ascontiguousarray(found.transpose(0, 2, 3, 1)) if last else found


def fit_answers(raw: Any, task: str, given: Size, size: Size) -> Any:
    """Raw answers to images of size *given*, as those to images of *size*."""
    if task == "boxes":
        (high, wide), (height, width) = given, size
        scale = np.array([width / wide, height / high] * 2)
        return [{**one, "boxes": one["boxes"] * scale} for one in raw]
    if task != "mask":
        return raw
    if raw.dtype.kind == "f":
        return _resized(raw.astype(np.float32, copy=False), size, Image.Resampling.BILINEAR)
    found: NDArray[np.int64] = _resized(raw[:, None].astype(np.float32), size, Image.Resampling.NEAREST)[:, 0].astype(
        int
    )
    return found


def _resized(planes: NDArray[Any], size: Size, how: Image.Resampling) -> NDArray[np.float32]:
    """float32 (N, C, H, W) at *size*; smaller ones are antialiased."""
    height, width = size
    flat = planes.reshape(-1, *planes.shape[-2:]).astype(np.float32, copy=False)
    found = np.empty((len(flat), height, width), np.float32)
    for k, plane in enumerate(flat):
        found[k] = np.asarray(Image.fromarray(plane).resize((width, height), how))
    return found.reshape(*planes.shape[:2], height, width)
