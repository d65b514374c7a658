"""What a server of somebody else's calls: two ONNX files, Pillow and numpy, without Pilotfish.

A JSON file says which: ``{"stages": [{"onnx", "resize", "size", "mean", "std", "resample"}], "threshold"}``, where the
threshold is a probability of the first stage.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image


class StagesByHand:
    """The two models, each a session with *threads* threads."""

    def __init__(self, file: str, threads: int, only: int | None = None) -> None:
        document = json.loads(Path(file).read_text())
        self.threshold: float = document["threshold"]
        self.chains: list[dict[str, Any]] = document["stages"]
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.sessions = [
            ort.InferenceSession(chain["onnx"], options, providers=["CPUExecutionProvider"])
            if only in (None, k)
            else None
            for k, chain in enumerate(self.chains)
        ]

    def tensor(self, image: Image.Image, k: int) -> np.ndarray:
        """float32 (3, H, W): resized, cropped from the centre, normalised."""
        chain = self.chains[k]
        height, width = chain["size"]
        short = min(image.size)
        full = [
            max(side, chain["resize"] * own // short) for side, own in zip((width, height), image.size, strict=True)
        ]
        left, top = round((full[0] - width) / 2), round((full[1] - height) / 2)
        x, y = image.width / full[0], image.height / full[1]
        box = (left * x, top * y, min(image.width, (left + width) * x), min(image.height, (top + height) * y))
        pixels = np.asarray(image.resize((width, height), chain["resample"], box=box), np.float32)
        normal = (pixels / 255 - np.asarray(chain["mean"], np.float32)) / np.asarray(chain["std"], np.float32)
        return np.ascontiguousarray(normal.transpose(2, 0, 1))

    def call(self, k: int, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(classes, their probabilities) of float32 (n, 3, H, W)."""
        session = self.sessions[k]
        logits = session.run(None, {session.get_inputs()[0].name: batch})[0]
        e = np.exp(logits - logits.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return p.argmax(axis=1), p.max(axis=1)

    def masked(self, images: list[Image.Image]) -> list[dict[str, Any]]:
        """A batch through the first stage, and those that are not sure through the second."""
        best, sure = self.call(0, np.stack([self.tensor(image, 0) for image in images]))
        stays = np.flatnonzero(sure < self.threshold)
        stage = np.zeros(len(images), int)
        if len(stays):
            best[stays], sure[stays] = self.call(1, np.stack([self.tensor(images[i], 1) for i in stays]))
            stage[stays] = 1
        return [
            {"prediction": int(one), "confidence": float(p), "stage": int(k)}
            for one, p, k in zip(best, sure, stage, strict=True)
        ]


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")
