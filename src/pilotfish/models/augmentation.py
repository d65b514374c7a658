"""Augmented views that every model sees alike.

A view is drawn from the seed and the sample's id, in fractions of the image, so models of any input size look at
the same part of the same picture. (The papers' released code draws anew for each model: methods 1.3.)
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

RECIPE = "random-resized-crop(0.08-1, 3/4-4/3)+flip"


@dataclass(frozen=True)
class View:
    """A part of an image: left, top, right, bottom as fractions of width and height, and whether it is mirrored."""

    left: float
    top: float
    right: float
    bottom: float
    flip: bool

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The part in pixels of an image of *size* (width, height)."""
        width, height = size
        return (self.left * width, self.top * height, self.right * width, self.bottom * height)


def draw_view(seed: int, sample_id: str, size: tuple[int, int]) -> View:
    """The view of one sample: a random resized crop (area 8 to 100 %, aspect 3/4 to 4/3) and a flip.

    size  (width, height) in pixels
    """
    digest = hashlib.sha256(f"{seed}\0{sample_id}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(0.08, 1.0)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            break
    else:  # a very long image: its largest part of a near-square aspect
        w, h = min(width, height * 4 / 3), min(height, width * 4 / 3)
    left, top = rng.uniform(0, 1) * (width - w) / width, rng.uniform(0, 1) * (height - h) / height
    return View(left, top, min(1.0, left + w / width), min(1.0, top + h / height), bool(rng.random() < 0.5))
