"""What a segmentation network returned, reduced to masks and scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError
from pilotfish.scores.outputs import F64, I64, SampleArrays, join_outputs
from pilotfish.tasks import mask_scores as scores
from pilotfish.tasks.indexed_png import encode

RECORDED = ("grid", "pixels", "features")


@dataclass(frozen=True)
class Masks(SampleArrays):
    """What a network for C classes said about N images.

    intersection, union  int64 (N, C), pixels of each class that answer and truth share, and that either has; 0 where
                         the truth is not known
    mask      object (N,), bytes of an indexed PNG: the class of each pixel
    grid, pixels, slic  float64 (N,), scores as log-odds of a mean confidence (see :mod:`pilotfish.tasks.mask_scores`)
    score     float64 (N,), one of any unit that was imported
    features  float64 (N, F), what a learned score looks at
    """

    intersection: I64
    union: I64
    mask: NDArray[Any] | None = None
    grid: F64 | None = None
    pixels: F64 | None = None
    slic: F64 | None = None
    score: F64 | None = None
    features: F64 | None = None


def reduce_masks(raw: Any, rows: int, model: str, keep: int | str = 1, inputs: Any = None) -> Masks:
    """Scores of classes, float (rows, C, H, W), logits or probabilities, or class numbers, int (rows, H, W); or a list
    of such arrays of single images. ``Masks`` stay as they are.

    keep    the score to compute; as ``record --store`` has it: ``full`` adds ``slic`` to the others; a number: what is
            shown of a stage that does not exit
    inputs  float (rows, 3, H, W), what the network was given: superpixels are cut out of it
    """
    if isinstance(raw, (list, tuple)) and len(raw) == rows:
        each = inputs if inputs is not None else (None,) * rows
        singles = [
            reduce_masks(np.asarray(one)[None], 1, model, keep, None if image is None else image[None])
            for one, image in zip(raw, each, strict=True)
        ]
        if len({one.intersection.shape[1] for one in singles}) > 1:
            raise ModelError(f"{model}: the images of a batch have masks of different numbers of classes")
        return join_outputs(singles)
    if isinstance(raw, Masks) and len(raw) == rows:
        return raw
    found = raw if isinstance(raw, np.ndarray) else np.asarray(raw)
    if found.ndim == 4 and found.shape[1] == 1 and found.dtype.kind in "iub":
        found = found[:, 0]
    if found.ndim == 3 and len(found) == rows and found.size and found.dtype.kind in "iub":
        return _numbered(found, model)
    if found.ndim != 4 or len(found) != rows or not found.size or found.dtype.kind != "f":
        shape = f"{found.dtype} {found.shape}" if found.dtype != object else type(raw).__name__
        raise ModelError(
            f"{model}: expected scores of classes, float ({rows}, C, H, W), or class numbers, int ({rows}, H, W), "
            f"found {shape}"
        )
    if found.shape[1] == 1:
        raise ModelError(
            f"{model}: one channel per pixel, where each class needs one; return two, background and object, such as "
            "torch.cat([torch.zeros_like(z), z], 1) for logits z"
        )
    return _scored(found.astype(np.float32) if found.dtype == np.float16 else found, _wanted(keep), inputs)


def _wanted(keep: int | str) -> tuple[str, ...]:
    if isinstance(keep, int):
        return ("grid",)
    if keep in ("auto", "full"):
        return RECORDED if keep == "auto" else (*RECORDED, "slic")
    return ("features",) if keep == "learned" else (keep,)


def _numbered(found: NDArray[Any], model: str) -> Masks:
    if (found.dtype.kind == "i" and (found < 0).any()) or int(found.max()) > np.iinfo(np.uint16).max:
        raise ModelError(f"{model}: class numbers from {found.min()} to {found.max()}; classes are numbered from 0")
    most = int(found.max()) + 1
    unknown = np.zeros((len(found), 0), np.int64)  # how many classes there are is not known yet
    return Masks(unknown, unknown, objects([encode(one, most) for one in found]))


def _scored(raw: NDArray[Any], wanted: Sequence[str], inputs: Any) -> Masks:
    n, classes = raw.shape[:2]
    label, best = scores.peaks(raw)
    fine = np.isfinite(best).all(axis=(1, 2))
    points = scores.at_points(raw)
    soft = scores.are_probabilities(points)
    said: dict[str, F64] = {}
    if "grid" in wanted or "features" in wanted:
        classes_there = scores.at_points(label)
        doubt = scores.doubts(points, classes_there, scores.at_points(best), soft)
        if "grid" in wanted:
            said["grid"] = scores.log_odds(scores.grid_doubt(doubt, classes_there))
        if "features" in wanted:
            said["features"] = scores.features(doubt, classes_there, classes)
    if "pixels" in wanted or "slic" in wanted:
        each = [scores.doubts(*(a[i : i + 1] for a in (raw, label, best, soft))) for i in range(n)]
        if "pixels" in wanted:
            said["pixels"] = scores.log_odds(np.concatenate([scores.mean_doubt(one) for one in each]))
        if "slic" in wanted and inputs is not None:
            images = np.asarray(inputs)
            images = np.moveaxis(images, 1, -1) if images.shape[1] in (1, 3) else images
            pairs = zip(each, images, strict=True)
            said["slic"] = scores.log_odds(np.array([scores.slic_doubt(one[0], image) for one, image in pairs]))
    for values in said.values():
        values[~fine] = np.nan
    empty = np.zeros((n, classes), np.int64)
    return Masks(empty, empty.copy(), objects([encode(one, classes) for one in label]), **said)


def objects(values: Sequence[Any]) -> NDArray[Any]:
    """object (N,) of N things, whatever they are."""
    found = np.empty(len(values), object)
    found[:] = values
    return found
