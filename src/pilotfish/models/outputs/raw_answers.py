"""What a model returned, as the raw answer of a task: boxes, a mask or many labels for each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import ModelError
from pilotfish.models.outputs.which_output import as_array, named, pick, place_of
from pilotfish.text import quantity

EXPECTED: Mapping[str, str] = {
    "boxes": "for each image a dictionary of boxes (m, 4), x1, y1, x2, y2 in its pixels, scores (m,) and labels (m,)",
    "mask": "logits or probabilities (N, C, H, W), or class numbers (N, H, W), at the size of the images",
    "labels": "logits or probabilities (N, C) of labels that may all be there at once",
}
"""The raw answers to N images, by task. Classes, and the tasks of users, are read as they always were."""
NAMES: Mapping[str, Sequence[str]] = {
    "boxes": ("boxes", "xyxy", "bboxes", "detection_boxes"),
    "scores": ("scores", "confidence", "detection_scores"),
    "labels": ("labels", "class_id", "classes", "detection_classes"),
    "count": ("num_detections", "num_dets", "valid_detections"),
}
"""What the parts of a detector's answer are called: by torchvision, supervision, TensorRT and TensorFlow."""
SHARES = "detection_boxes"  # of TensorFlow: y1, x1, y2, x2 as shares of the image
MASKS = ("out", "logits", "masks", "mask")
LABELS = ("logits", "probabilities", "probs", "scores")
SMALLEST = 8  # pixels of a side from which boxes that all lie in the first pixel are shares of the image
Size = tuple[int, int]


@dataclass(frozen=True)
class RawAnswers:
    """How what a model returns is read.

    task        a key of ``EXPECTED``
    output      which of several outputs, for masks and labels; None: the one that has the task's name, or the only one
    activation  of labels: ``sigmoid`` where they are probabilities, ``none`` where they are logits; None: not stated
    """

    task: str
    output: str | None = None
    activation: str | None = None

    def __call__(self, found: Any, inputs: Any, spec: str) -> Any:
        """The raw answers to *inputs*, samples (N, …) as the model was given them.

        boxes   N dictionaries of ``boxes`` float64 (m, 4), ``scores`` float64 (m,) and ``labels`` int64 (m,)
        mask    float (N, C, H, W) or int (N, H, W)
        labels  float (N, C): probabilities where the activation is stated, else as they are

        ModelError, which names the model as *spec*, for anything else.
        """
        rows = len(inputs)
        if self.task == "boxes":
            sizes = [size_of_image(one) for one in inputs]
            images = list(_images(found, rows, spec))
            return [_boxes(one, size, spec) for one, size in zip(images, sizes, strict=True)]
        if self.task == "mask":
            values = _array(found, self.output, rows, MASKS, spec)
            return _masks(values, size_of_image(inputs[0]) if rows else None, rows, spec)
        return _labels(_array(found, self.output, rows, LABELS, spec), self.activation, rows, spec)


def size_of_image(one: Any) -> Size | None:
    """(height, width) of an input: a PIL image, or an array with its channels first or last; None of anything else."""
    held = one.item() if isinstance(one, np.ndarray) and one.dtype == object and not one.ndim else one
    if hasattr(held, "convert"):
        return held.height, held.width
    shape = tuple(getattr(held, "shape", ()))
    if len(shape) == 3 and (shape[0] in (1, 3) or shape[2] in (1, 3)):
        return shape[1:] if shape[0] in (1, 3) else shape[:2]
    return shape if len(shape) == 2 else None


def other(found: Any, task: str, spec: str, rows: int) -> ModelError:
    """The error that a model returned something else."""
    shape = getattr(found, "shape", None)
    if shape is not None:
        what = f"{str(getattr(found, 'dtype', '')).removeprefix('torch.')} {tuple(shape)}"
    elif isinstance(found, Mapping):
        what = f"a dictionary of {', '.join(map(str, list(found)[:6])) or 'nothing'}"
    elif isinstance(found, list | tuple):
        inner = f" of {type(found[0]).__name__}" if found else ""
        what = f"a {type(found).__name__} of {len(found)}{inner}"
    else:
        what = type(found).__name__
    return ModelError(f"{spec}: expected {EXPECTED[task]}; found {what} for {quantity(rows, 'image')}")


def _images(found: Any, rows: int, spec: str) -> Iterator[Mapping[str, Any]]:
    """The parts of each image's answer, by the names of ``NAMES``."""
    if rows == 1 and (one := _parts(found)) is not None and np.ndim(as_array(one["boxes"])) == 2:
        yield one
        return
    batch = _parts(found)
    if batch is not None and np.ndim(as_array(batch["boxes"])) == 3:
        yield from _padded({key: as_array(value) for key, value in batch.items()}, rows, found, spec)
        return
    if not isinstance(found, list | tuple) or len(found) != rows:
        raise other(found, "boxes", spec, rows)
    for value in found:
        alone = value[0] if isinstance(value, list) and len(value) == 1 else value
        if (parts := _parts(alone)) is None:
            raise other(value, "boxes", spec, 1)
        yield parts


def _parts(value: Any) -> dict[str, Any] | None:
    """boxes, scores, labels and perhaps their count; None where *value* is no such thing."""
    if isinstance(value, tuple) and not hasattr(value, "_fields") and len(value) in (3, 4):
        arrays = all(hasattr(part, "shape") or isinstance(part, list) for part in value)
        return dict(zip(NAMES, value, strict=False)) if arrays and np.shape(as_array(value[0]))[-1:] == (4,) else None
    if not isinstance(value, Mapping):
        value = {name: getattr(value, name) for names in NAMES.values() for name in names if hasattr(value, name)}
    found = {key: next((name for name in names if name in value), None) for key, names in NAMES.items()}
    if any(found[key] is None for key in ("boxes", "scores", "labels")):
        return _by_shape(value)
    parts = {key: value[name] for key, name in found.items() if name is not None}
    return {**parts, "shares": True} if found["boxes"] == SHARES else parts


def _by_shape(value: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parts of outputs without such names, as exporters number them: the only ones whose shapes and types fit."""
    arrays = {name: as_array(one) for name, one in value.items() if hasattr(one, "shape")}
    boxes = [one for one in arrays.values() if one.ndim in (2, 3) and one.shape[-1] == 4 and one.dtype.kind == "f"]
    if len(boxes) != 1 or len(arrays) != 3:
        return None
    fitting = {one.dtype.kind: one for one in arrays.values() if one.shape == boxes[0].shape[:-1]}
    both = "f" in fitting and "i" in fitting
    return {"boxes": boxes[0], "scores": fitting["f"], "labels": fitting["i"]} if both else None


def _padded(batch: Mapping[str, Any], rows: int, found: Any, spec: str) -> Iterator[Mapping[str, Any]]:
    """The images of arrays (N, M, …); where no count says how many are meant, those without a score are left out."""
    boxes, scores, labels = (batch[key] for key in ("boxes", "scores", "labels"))
    if len(boxes) != rows or scores.shape != boxes.shape[:2] or labels.shape != boxes.shape[:2]:
        raise other(found, "boxes", spec, rows)
    counts = batch["count"].reshape(rows).astype(np.int64) if "count" in batch else None
    for i in range(rows):
        kept: Any = slice(0, int(counts[i])) if counts is not None else (scores[i] > 0) | boxes[i].any(axis=1)
        yield {**batch, "boxes": boxes[i][kept], "scores": scores[i][kept], "labels": labels[i][kept]}


def _boxes(parts: Mapping[str, Any], size: Size | None, spec: str) -> dict[str, NDArray[Any]]:
    boxes, scores, labels = (as_array(parts[key]) for key in ("boxes", "scores", "labels"))
    boxes = boxes.reshape(-1, 4) if boxes.size == 0 else boxes
    m = len(scores) if scores.ndim == 1 else -1
    if boxes.shape != (m, 4) or labels.shape != (m,) or not {boxes.dtype.kind, scores.dtype.kind} <= set("fiu"):
        shapes = ", ".join(f"{key} {value.shape}" for key, value in (("boxes", boxes), ("scores", scores)))
        raise ModelError(f"{spec}: expected {EXPECTED['boxes']}; found {shapes}, labels {labels.shape}")
    boxes, scores = boxes.astype(np.float64), scores.astype(np.float64)
    if labels.dtype.kind not in "iu" and not (labels.dtype.kind == "f" and (labels == np.rint(labels)).all()):
        raise ModelError(f"{spec}: the labels of boxes are class numbers; found {labels.dtype}")
    if bad := int((~np.isfinite(boxes).all(axis=1) | ~np.isfinite(scores)).sum()):
        raise ModelError(f"{spec}: {bad} of {m} boxes have numbers or scores that are not finite")
    if "shares" in parts:
        if size is None:
            raise ModelError(f"{spec}: {SHARES} are shares of an image whose size is not known; return pixels")
        boxes = boxes[:, [1, 0, 3, 2]] * np.array([size[1], size[0], size[1], size[0]], np.float64)
    if turned := int((boxes[:, 2:] < boxes[:, :2]).any(axis=1).sum()):
        raise ModelError(f"{spec}: {turned} of {m} boxes end before they begin; expected x1, y1, x2, y2 in pixels")
    if m and size is not None and min(size) >= SMALLEST and boxes.max() <= 1 and (boxes > 0).any():
        raise ModelError(f"{spec}: its boxes are shares of the image; expected pixels: multiply them by its size")
    return {"boxes": boxes, "scores": scores, "labels": labels.astype(np.int64)}


def _array(found: Any, output: str | None, rows: int, usual: Sequence[str], spec: str) -> NDArray[Any]:
    """The output that is meant, as an array; those of single images, stacked."""
    if isinstance(found, list | tuple) and len(found) == rows and output is None:
        single = [as_array(one) for one in found if hasattr(one, "shape")]
        if len(single) == rows and rows and single[0].ndim < 4 and len({one.shape for one in single}) == 1:
            return np.stack(single)
        if len(single) == rows and rows and all(one.ndim == 4 and len(one) == 1 for one in single):
            return np.concatenate(single) if len({one.shape for one in single}) == 1 else as_array(found)
    names = [name for name, _ in named(found, rows)]
    known = output or next((name for name in usual if place_of(names, name) is not None), None)
    return as_array(pick(found, known, rows, spec))


def _masks(values: NDArray[Any], size: Size | None, rows: int, spec: str) -> NDArray[Any]:
    soft = values.ndim == 4 and values.dtype.kind == "f"
    hard = values.ndim == 3 and values.dtype.kind in "iub"
    if not (soft or hard) or len(values) != rows:
        raise other(values, "mask", spec, rows)
    if soft and values.shape[1] < 2:
        raise ModelError(f"{spec}: expected {EXPECTED['mask']}; found one channel: return one for each class")
    if size is not None and values.shape[-2:] != size:
        (high, wide), (height, width) = values.shape[-2:], size
        raise ModelError(
            f"{spec}: returns masks of {high}x{wide} for images of {height}x{width} pixels; resize its logits to the "
            "size of the image"
        )
    return values.astype(np.int64) if hard else values


def _labels(values: NDArray[Any], activation: str | None, rows: int, spec: str) -> NDArray[Any]:
    if values.ndim != 2 or len(values) != rows or values.dtype.kind != "f":
        raise other(values, "labels", spec, rows)
    if activation != "none":
        return values
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-values.astype(np.float64))))
