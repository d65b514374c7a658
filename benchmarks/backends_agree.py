"""OpenVINO against ONNX Runtime: the largest difference of an answer in float32, and the time of both.

    python benchmarks/backends_agree.py --data path/to/photos

The lite models with their weights on photos, and architectures of timm with fresh weights on random inputs. Fresh
networks are sure of nothing and skip some of their branches, which hides differences: branches that begin at zero are
switched on, and logits are made as sure as those of a trained network before they become probabilities.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from pilotfish.data import open_data
from pilotfish.machine import processor
from pilotfish.models import Model, load_model
from pilotfish.models.backends.backends import with_backend
from pilotfish.models.backends.openvino_backend import OpenVinoBackend
from pilotfish.models.model import BAND
from pilotfish.models.onnx.onnx_export import softmax
from pilotfish.models.preprocessing import draw_rows, sample_inputs, stacked

LITE = ("lite:efficientnet_lite0@224", "lite:efficientnet_lite1@240", "lite:efficientnet_lite2@260")
FRESH = (
    "resnet50",
    "densenet121",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "regnety_008",
    "convnext_tiny",
    "vit_small_patch16_224",
    "swin_tiny_patch4_window7_224",
    "mixer_s32_224",
    "xcit_nano_12_p16_224",
)
SPREAD = 4.0  # standard deviation of the logits of a network that is sure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of photos for the lite models; without it they are left out")
    parser.add_argument("--only", default="", help="names that hold this text")
    parser.add_argument("--samples", type=int, default=64, help="photos; of random inputs a quarter")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each time")
    options = parser.parse_args()
    names = [*(LITE if options.data else ()), *(f"timm:{name}?weights=random" for name in FRESH)]
    print(f"{processor().name}; one thread, batches of {options.batch_size}, least processor time")
    print("| network | weights | probability | logit ÷ spread | bf16: same class | ONNX Runtime | OpenVINO | bf16 |")
    print("|---|---|---|---|---|---|---|---|")
    worst = 0.0
    for name in (name for name in names if options.only in name):
        worst = max(worst, compare(name, options))
    print(f"largest difference of a probability {worst:.2g}, {BAND:g} is allowed")
    if worst > BAND:
        raise SystemExit(1)


def compare(name: str, options: Any) -> float:
    """Print the line of one network; the largest difference of a probability."""
    is_fresh = "random" in name
    plain = load_model(name, backend="torch")
    if is_fresh:
        switch_on(plain)
        shape = plain.input_shape or ()
        inputs = np.random.default_rng(0).standard_normal((options.samples // 4, *shape), dtype=np.float32)
    else:
        data = open_data(f"folder:{options.data}")
        rows = draw_rows(len(data), options.samples)
        inputs = stacked([one for _, one in sample_inputs(data, plain.preprocessing, rows)])
    by_onnx: Any = with_backend(plain, "cpu", "onnxruntime").backend
    by_openvino: Any = with_backend(plain, "cpu", "openvino").backend
    half = OpenVinoBackend(by_onnx, dtype="bfloat16")
    ours, theirs, coarse = (backend.step(inputs)[0] for backend in (by_onnx, by_openvino, half))
    louder = SPREAD / ours.std() if is_fresh else 1.0
    gap = float(np.abs(softmax(ours * louder) - softmax(theirs * louder)).max())
    logit = float(np.abs(ours - theirs).max() / ours.std())
    same = float(np.mean(ours.argmax(axis=1) == coarse.argmax(axis=1)))
    times = least_ms([by_onnx, by_openvino, half], inputs[: options.batch_size], options.seconds)
    weights = "fresh" if is_fresh else "trained"
    shown = " | ".join(f"{ms:.1f} ms" for ms in times)
    print(f"| {name.partition('?')[0]} | {weights} | {gap:.1g} | {logit:.1g} | {same:.0%} | {shown} |", flush=True)
    return gap


def switch_on(model: Model) -> None:
    """Give numbers to weights that a fresh network begins with at zero, or next to it."""
    import torch

    module: Any = model.backend.module  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in module.named_parameters():
            if "bias" not in name and weights.abs().max() < 1e-3:
                if weights.ndim > 1:
                    weights.normal_(std=0.05, generator=generator)
                else:
                    weights.fill_(0.5)


def least_ms(backends: list[Any], batch: np.ndarray, seconds: float) -> list[float]:
    """The least milliseconds per sample of each, on one thread, in turn: the process's own, so that others disturb
    little."""
    single = [backend.with_threads(1) for backend in backends]
    least = [float("inf")] * len(single)
    for backend in single:
        backend.step(batch)
    end = time.perf_counter() + seconds * len(single)
    while time.perf_counter() < end or not np.isfinite(least).all():
        for i, backend in enumerate(single):
            start = time.process_time()
            backend.step(batch)
            least[i] = min(least[i], 1000 * (time.process_time() - start) / len(batch))
    return least


if __name__ == "__main__":
    main()
