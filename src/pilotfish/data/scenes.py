"""``scenes``: several of scikit-learn's digits on a small canvas with clutter. Masks, boxes and labels without a
download."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pilotfish.data.dataset import digest
from pilotfish.data.digits import SPLITS, load_digits
from pilotfish.errors import DataError, nearest
from pilotfish.tasks.box_matching import TrueBoxes
from pilotfish.tasks.indexed_png import encode

SIDE = 64
MOST_DIGITS = 6
TRIALS = 12
FREE = 2  # pixels between two digits, so that each is a component of its own
SIZES = {"train": 2000, "val": 1000}
CLASSES = tuple(str(digit) for digit in range(10))
BACKGROUND = "background"
INK = 90  # of 255: where a digit is no background

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Scenes:
    """N scenes as a data set of one task.

    images   uint8 (N, 64, 64, 3)
    masks    uint8 (N, 64, 64): 0 background, 1 … 10 the digits 0 … 9
    boxes    float64 (M, 4) x, y, width, height in pixels, the digits of all scenes one after the other
    digits   int64 (M,): which digit each box is around
    owner    int64 (M,): which scene each box belongs to
    task     ``mask``, ``boxes`` or ``labels``
    """

    spec: str
    split: str
    task: str
    images: U8 = field(repr=False)
    masks: U8 = field(repr=False)
    boxes: npt.NDArray[np.float64] = field(repr=False)
    digits: npt.NDArray[np.int64] = field(repr=False)
    owner: npt.NDArray[np.int64] = field(repr=False)

    labels = None
    notes: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"scenes/{self.split}/{i:04d}" for i in range(len(self.images)))

    @property
    def class_names(self) -> tuple[str, ...]:
        return (BACKGROUND, *CLASSES) if self.task == "mask" else CLASSES

    @property
    def fingerprint(self) -> str:
        truth = self.masks if self.task == "mask" else self.boxes
        return digest((self.images.tobytes(), self.task.encode(), truth.tobytes()), None, self.class_names)

    @property
    def truth(self) -> Any:
        """What the task calls the truth: PNG masks, whether each digit is there, or boxes."""
        if self.task == "labels":
            return self.present()
        if self.task == "mask":
            found = np.empty(len(self), object)
            found[:] = [encode(mask, len(CLASSES) + 1) for mask in self.masks]
            return found
        counts, area = np.bincount(self.owner, minlength=len(self)), self.boxes[:, 2] * self.boxes[:, 3]
        return TrueBoxes.of(counts, self.boxes, self.digits, np.zeros(len(area), bool), area)

    def present(self) -> npt.NDArray[np.int8]:
        """int8 (N, 10): whether the scene shows each digit."""
        found = np.zeros((len(self), len(CLASSES)), np.int8)
        found[self.owner, self.digits] = 1
        return found

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int) -> Image.Image:
        return Image.fromarray(self.images[i])


def load_scenes(text: str) -> Scenes:
    """Scenes of ``train|val[?task=mask|boxes|labels][&n=N]``; masks and 1,000 (train: 2,000) where nothing is said.

    The digits of the two splits are different ones, and the same text is always the same scenes; the first N of more
    are those of fewer.

    Raises ``DataError`` for another split, task or number, ``MissingExtraError`` without scikit-learn.
    """
    split, _, query = text.partition("?")
    if split not in SPLITS:
        raise DataError(f"scenes has no split {split!r}; expected scenes:train or scenes:val")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = next((key for key in options if key not in ("task", "n")), None)
    if unknown is not None:
        raise DataError(f"scenes has no option {unknown!r}; {nearest(unknown, ('task', 'n'))}")
    task, n = options.get("task", "mask"), options.get("n", str(SIZES[split]))
    if task not in ("mask", "boxes", "labels"):
        raise DataError(f"scenes has no task {task!r}; expected mask, boxes or labels")
    if not n.isdecimal() or not 1 <= int(n) <= 10_000:
        raise DataError(f"scenes?n={n}: expected a number of scenes from 1 to 10000")
    return Scenes(f"scenes:{text}", split, task, *made(split, int(n)))


@lru_cache(maxsize=4)
def made(
    split: str, n: int, seed: int = 0
) -> tuple[U8, U8, npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """*n* scenes of the digits of *split*: images, masks, boxes, digits and owners, as :class:`Scenes` has them."""
    source = load_digits(split)
    assert source.labels is not None
    images, masks = np.empty((n, SIDE, SIDE, 3), np.uint8), np.zeros((n, SIDE, SIDE), np.uint8)
    boxes: list[tuple[int, int, int, int]] = []
    digits: list[int] = []
    owner: list[int] = []
    for i in range(n):
        rng = np.random.default_rng((seed, SPLITS.index(split), i))
        images[i], found = _scene(rng, source.samples, source.labels, masks[i])
        boxes += [box for box, _ in found]
        digits += [digit for _, digit in found]
        owner += [i] * len(found)
    return images, masks, np.array(boxes, np.float64).reshape(-1, 4), np.array(digits), np.array(owner)


def _scene(
    rng: np.random.Generator, samples: npt.NDArray[Any], labels: npt.NDArray[np.int64], mask: U8
) -> tuple[U8, list[tuple[tuple[int, int, int, int], int]]]:
    """One scene, its classes written into *mask*; (box, digit) of each digit. Scenes differ in how hard they are: in
    contrast, noise, clutter and the size of digits."""
    hard = float(rng.beta(0.7, 1.1))
    corners = rng.uniform(20, 90, (2, 2, 3))
    canvas = np.array(Image.fromarray(corners.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BILINEAR), float)
    canvas = _clutter(rng, canvas, samples, hard)
    found = []
    taken = np.zeros((SIDE, SIDE), bool)
    for _ in range(int(rng.integers(1, MOST_DIGITS + 1))):
        which = int(rng.integers(len(samples)))
        size = int(rng.integers(24 - round(10 * hard), 27 - round(6 * hard)))
        ink = _ink(samples[which], size)
        inside = ink > INK
        corner = _room(rng, taken, size)
        if corner is None or not inside.any():
            continue  # the scene has one digit less
        y, x = corner
        place = np.s_[y : y + size, x : x + size]
        taken[place] = True
        _blend(canvas[place], ink, rng, 1 - 0.65 * hard)
        digit = int(labels[which])
        mask[place][inside] = digit + 1
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        box = (x + int(columns[0]), y + int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
        found.append((box, digit))
    noise = rng.normal(0, 4 + 20 * hard, (SIDE, SIDE, 3))
    return np.clip(canvas + noise, 0, 255).astype(np.uint8), found


def _room(rng: np.random.Generator, taken: npt.NDArray[np.bool_], size: int) -> tuple[int, int] | None:
    """Where a square of *size* has nothing around it, by trial; None where no trial finds it."""
    for y, x in rng.integers(0, SIDE - size + 1, (TRIALS, 2)).tolist():
        if not taken[max(0, y - FREE) : y + size + FREE, max(0, x - FREE) : x + size + FREE].any():
            return y, x
    return None


def _clutter(rng: np.random.Generator, canvas: npt.NDArray[Any], samples: npt.NDArray[Any], hard: float) -> Any:
    """Lines, and pieces of digits that are none of the classes."""
    image = Image.fromarray(canvas.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.poisson(1 + 3 * hard))):
        ends = [int(at) for at in rng.integers(0, SIDE, 4)]
        draw.line(ends, fill=tuple(int(c) for c in rng.integers(60, 200, 3)), width=int(rng.integers(1, 3)))
    found = np.array(image, float)
    for _ in range(int(rng.poisson(1 + 3 * hard))):
        size = int(rng.integers(16, 26))
        ink = _ink(samples[int(rng.integers(len(samples)))], size)
        piece = ink[: size // 3] if rng.random() < 0.5 else ink[:, : size // 3]
        y, x = int(rng.integers(0, SIDE - piece.shape[0])), int(rng.integers(0, SIDE - piece.shape[1]))
        _blend(found[y : y + piece.shape[0], x : x + piece.shape[1]], piece, rng, 1 - 0.65 * hard)
    return found


def _ink(sample: npt.NDArray[Any], size: int) -> U8:
    return np.asarray(Image.fromarray(sample).resize((size, size), Image.Resampling.BICUBIC))


def _blend(patch: npt.NDArray[Any], ink: U8, rng: np.random.Generator, contrast: float) -> None:
    """Lay *ink* in a bright colour over *patch*, in place."""
    colour = rng.uniform(130, 255, 3)
    alpha = (ink / 255.0)[..., None] * contrast
    patch += alpha * (colour - patch)
