"""The two networks of this folder as detectors and as models of many labels.

small.onnx and big.onnx give each pixel's class. A detector draws a box around each connected piece that is no
background; a model of labels says how surely each digit is somewhere.

    pilotfish record --data scenes:val?task=boxes --model python:scene_models:small_boxes …
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from pilotfish.models import Preprocessing

SMALLEST = 12  # pixels of a digit
POOL = 4
DIGITS = tuple("0123456789")
TOUCHING = np.ones((3, 3), int)


class Network:
    """float32 (N, 3, 64, 64), 0 to 1, to the probabilities of background and digits, (N, 11, 64, 64)."""

    takes = "batch"
    classes = DIGITS
    preprocessing = Preprocessing(size=(64, 64), resize=None, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def __init__(self, name: str) -> None:
        self.files = (str(Path(__file__).with_name(f"{name}.onnx")),)  # part of what the model is

    @cached_property
    def session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(self.files[0], options, providers=["CPUExecutionProvider"])

    def probabilities(self, batch: np.ndarray) -> np.ndarray:
        (logits,) = self.session.run(None, {"image": batch})
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits


class Detector(Network):
    """For each image a dictionary of boxes (m, 4) as x1, y1, x2, y2, scores (m,) and labels (m,)."""

    def __call__(self, batch: np.ndarray) -> list[dict[str, np.ndarray]]:
        return [_boxes(image) for image in self.probabilities(batch)]


class Labeller(Network):
    """The probability that each digit is in the image, (N, 10): of the surest 4×4 pixels."""

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        digits = self.probabilities(batch)[:, 1:]
        n, classes, height, width = digits.shape
        pooled = digits.reshape(n, classes, height // POOL, POOL, width // POOL, POOL).mean(axis=(3, 5))
        return pooled.max(axis=(2, 3))


def _boxes(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    pieces, _ = ndimage.label(probabilities.argmax(axis=0) > 0, TOUCHING)
    boxes, scores, labels = [], [], []
    for k, (rows, columns) in enumerate(ndimage.find_objects(pieces), start=1):
        inside = pieces[rows, columns] == k
        if (size := int(inside.sum())) < SMALLEST:
            continue
        sure = probabilities[1:, rows, columns][:, inside].sum(axis=1) / size
        boxes.append((columns.start, rows.start, columns.stop, rows.stop))
        scores.append(sure.max())
        labels.append(sure.argmax())
    return {
        "boxes": np.array(boxes, np.float64).reshape(-1, 4),
        "scores": np.array(scores, np.float64),
        "labels": np.array(labels, np.int64),
    }


small_boxes, big_boxes = Detector("small"), Detector("big")
small_labels, big_labels = Labeller("small"), Labeller("big")
