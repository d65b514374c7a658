"""From what a segmentation network returns to its mask, and how sure it is of it.

N images, C classes. The *doubt* of a pixel is 1 - max softmax, summed without the largest class, so that it does not
round to 0 where the network is sure; scores are log-odds of an image's mean confidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import needs
from pilotfish.scores.outputs import F32, F64, Mask

RIDGE = 100.0  # of the learned score
POINTS = 64  # per side: what `grid` and the features look at, of however large an image
CELLS = 8  # per side
BLOCK = 2**18  # numbers looked at in one go: they stay in the processor's caches
SEGMENTS = 100  # of SLIC, as scikit-image has it
LOWEST, HIGHEST = -30.0, 30.0  # log-odds beyond say no more
NEAR_ONE = 1e-2  # by how much probabilities may miss the sum of 1, as those of 16 bits do
QUANTILES = (0.5, 0.75, 0.9, 0.97)


def peaks(raw: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """(class of each pixel (N, H, W), uint8 or uint16; its value), the lowest of equals, of raw answers (N, C, H, W).

    A pixel whose answers hold NaN has the value NaN.
    """
    classes = raw.shape[1]
    best = raw.max(axis=1)
    kind = np.uint8 if classes < 256 else np.uint16
    rank = np.zeros(best.shape, kind)  # C - c: of equals the lowest class has the highest
    for c in range(classes):  # argmax along this axis takes five times as long
        np.maximum(rank, (raw[:, c] == best).view(np.uint8) * kind(classes - c), out=rank)
    return np.minimum(kind(classes) - rank, kind(classes - 1)), best


def are_probabilities(raw: NDArray[Any]) -> Mask:
    """bool (N,): where raw answers (N, C, …) are probabilities, by all of their values."""
    flat = raw.reshape(*raw.shape[:2], -1)
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(flat.sum(axis=1, dtype=np.float32) - 1) < NEAR_ONE
        return np.asarray((flat >= 0).all(axis=(1, 2)) & near.all(axis=1))


def doubts(raw: NDArray[Any], label: NDArray[Any], best: NDArray[Any], soft: Mask) -> F32:
    """float32 (N, H, W): the doubt of each pixel of raw answers (N, C, H, W).

    label, best  as :func:`peaks` has them
    soft         as :func:`are_probabilities` has it
    """
    rest = np.empty(best.shape, np.float32)
    rows = max(1, BLOCK // (raw.shape[1] * raw.shape[3]))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for i, top in ((i, top) for i in range(len(raw)) for top in range(0, raw.shape[2], rows)):
            part = np.s_[i, ..., top : top + rows, :]
            if soft[i]:
                others = raw[part].astype(np.float32)
            else:
                others = np.exp(np.subtract(raw[part], best[part], dtype=np.float32))
            np.put_along_axis(others, label[part][None].astype(np.int64), 0.0, axis=0)
            others.sum(axis=0, out=rest[part])
        highest = np.where(soft[:, None, None], best, 1.0).astype(np.float32)
        return np.asarray(rest / (rest + highest), np.float32)


def at_points(pixels: NDArray[Any]) -> NDArray[Any]:
    """Of arrays (…, H, W), points of an even grid, at most 64 x 64 of them: a view."""
    down, across = (-(-size // POINTS) for size in pixels.shape[-2:])
    return pixels[..., down // 2 :: down, across // 2 :: across]


def log_odds(doubt: F64) -> F64:
    """Log-odds of the confidence 1 - doubt; the largest number for none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.minimum(np.log1p(-doubt) - np.log(doubt), np.finfo(np.float64).max))


def mean_doubt(doubt: F32) -> F64:
    """float64 (N,): over all pixels (N, H, W)."""
    return np.asarray(doubt.mean(axis=(1, 2), dtype=np.float64))


def cells(shape: tuple[int, int]) -> NDArray[np.int64]:
    """int64 (h, w): the cell of each point, of an 8 x 8 grid."""
    down, across = (np.arange(size) * CELLS // max(size, CELLS) for size in shape)
    return np.asarray(down[:, None] * CELLS + across, np.int64)


def region_doubt(doubt: F32, region: NDArray[np.int64]) -> F64:
    """float64 (N,): the mean over regions of each region's mean doubt.

    doubt   (N, h, w)
    region  int64 (N, h, w), numbers from 0
    """
    n, count = len(doubt), int(region.max(initial=0)) + 1
    key = (region + np.arange(n)[:, None, None] * count).ravel()
    size = np.bincount(key, minlength=n * count).reshape(n, count)
    total = np.bincount(key, weights=doubt.ravel(), minlength=n * count).reshape(n, count)
    return np.asarray((total / np.maximum(size, 1)).sum(axis=1) / np.maximum((size > 0).sum(axis=1), 1))


def grid_doubt(doubt: F32, label: NDArray[Any]) -> F64:
    """float64 (N,): the mean over the parts into which an 8 x 8 grid cuts what belongs to one class: a small thing, or
    a piece of one, counts as much as a cell of background."""
    classes = int(label.max(initial=0)) + 1
    return region_doubt(doubt, cells(doubt.shape[1:]) * classes + label)


def slic_doubt(doubt: F32, image: NDArray[Any]) -> float:
    """Little-Big A.1.3: the mean over SLIC's superpixels of the mean doubt in each.

    doubt  (H, W)
    image  (H, W, 3)

    MissingExtraError without scikit-image.
    """
    with needs("scikit-image", extra="vision", purpose="the score slic"):
        from skimage.segmentation import slic
    region = slic(image, n_segments=SEGMENTS, start_label=0, channel_axis=-1)
    return float(region_doubt(doubt[None], region[None].astype(np.int64))[0])


def features(doubt: F32, label: NDArray[Any], classes: int) -> F64:
    """float64 (N, F): what a learned score looks at, from doubts and classes at the points of a grid.

    Log-odds of the mean over points, over the parts of :func:`grid_doubt` and over the least sure cell; quantiles;
    shares of doubtful points, of borders between classes and of the largest class; how many classes there are.
    """
    n, area = len(doubt), doubt[0].size
    flat, said = doubt.reshape(n, -1), label.reshape(n, -1).astype(np.int64)
    where = cells(doubt.shape[1:]).ravel()
    used = np.unique(where)
    by_cell = np.stack([np.bincount(where, weights=row, minlength=CELLS**2)[used] for row in flat])
    worst = (by_cell / np.bincount(where, minlength=CELLS**2)[used]).max(axis=1)
    counts = np.bincount((said + np.arange(n)[:, None] * classes).ravel(), minlength=n * classes).reshape(n, classes)
    shares = counts / area
    means = [mean_doubt(doubt), grid_doubt(doubt, label), worst]
    odds = np.clip(log_odds(np.stack([*means, *np.quantile(flat, QUANTILES, axis=1)], axis=1)), LOWEST, HIGHEST)
    borders = (np.diff(label, axis=1) != 0).sum(axis=(1, 2)) + (np.diff(label, axis=2) != 0).sum(axis=(1, 2))
    doubtful = [(flat > limit).mean(axis=1) for limit in (0.1, 0.3, 0.5)]
    plain = [*doubtful, borders / area, shares.max(axis=1), (counts > 0).sum(axis=1)]
    return np.column_stack([odds, *plain])
