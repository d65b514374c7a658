"""``torchvision:NAME`` of detectors and of segmentation: answers about places in an image, which comes at its own size.

They resize and normalise inside, so that their answers are in the pixels of the image.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from pilotfish.errors import ModelError
from pilotfish.files import sha256_json
from pilotfish.models.backends.torch_backend import count_module, save_state, torch_model
from pilotfish.models.costs.macs import count_parameters
from pilotfish.models.model import Counted, Model
from pilotfish.models.names.fit_weights import asked_weights, load_from
from pilotfish.models.names.spec import MAX_SIZE, ModelSpec, allow_options, asked_classes, parse_count
from pilotfish.models.names.weights_file import WeightsFile
from pilotfish.models.outputs.own_size import OWN_SIZE
from pilotfish.models.outputs.raw_answers import RawAnswers
from pilotfish.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD

USUAL = 520  # pixels of the shorter side that torchvision's segmentation was trained at
BESIDE = ("mask", "keypoint")  # parts of a detector that answer more than boxes
Create = Callable[[Any, int | None], Any]


class Segmenter(nn.Module):
    """A network for segmentation, on pixels from 0 to 1 of any size: the shorter side is resized to *side*, the logits
    back to the image."""

    def __init__(self, network: nn.Module, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        height, width = pixels.shape[-2:]
        if self.side * max(height, width) > MAX_SIZE * min(height, width):
            raise ModelError(f"an image of {width}x{height} pixels is too long to be resized; crop it first")
        sized = torchvision.transforms.functional.resize(pixels, [self.side], antialias=True)
        logits = self.network((sized - self.mean) / self.std)["out"]
        back: torch.Tensor = nn.functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        return back


class Detector(nn.Module):
    """A detector, on pixels from 0 to 1 of one size: for each image its boxes, scores and labels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        return [{key: one[key] for key in ("boxes", "scores", "labels")} for one in self.network(list(pixels))]


class _Convolutions(nn.Module):
    """All of a detector that multiplies, for one input and so many proposals."""

    def __init__(self, network: Any, proposals: int) -> None:
        super().__init__()
        self.network, self.proposals = network, proposals

    def forward(self, pixels: torch.Tensor) -> None:
        features = self.network.backbone(pixels)
        levels = list(features.values()) if isinstance(features, dict) else [features]
        if not hasattr(self.network, "rpn"):
            self.network.head(levels)
            return
        self.network.rpn.head(levels)
        heads = self.network.roi_heads
        pooled = (self.proposals, levels[0].shape[1], *heads.box_roi_pool.output_size)
        heads.box_predictor(heads.box_head(pixels.new_zeros(pooled)))


def load_dense(spec: ModelSpec, device: str, weights: Path | WeightsFile | None, task: str, create: Create) -> Model:
    """A detector or a network for segmentation of torchvision. ``?weights=`` and ``?num_classes=`` as of a classifier;
    ``?resize=N``: the shorter side that images are resized to inside. ``?aux=none`` leaves out the head that helps a
    training for segmentation and never answers; torchvision computes it, and its printed figures count it.

    task    boxes or mask; create: what builds it, of (weights or None, number of classes or None)
    """
    from torchvision import models

    allow_options(spec, "weights", "num_classes", "resize", *(("aux",) if task == "mask" else ()))
    if spec.size is not None:
        raise ModelError(
            f"{spec.text}: takes images of any size and resizes them inside; leave the size out, or write ?resize=N "
            "for the shorter side"
        )
    known = models.get_model_weights(spec.name).__members__
    source, classes = asked_weights(spec, weights, "DEFAULT", (*known, "random")), asked_classes(spec)
    own = known[source] if isinstance(source, str) and source in known else None
    entry = own or known["DEFAULT"]
    labels: tuple[str, ...] = tuple(entry.meta["categories"])
    notes: tuple[str, ...] = ()

    def build(n: int | None) -> Any:
        network = create(own, n)
        network.num_classes = n or len(labels)
        return network

    if isinstance(source, WeightsFile):
        network, notes = load_from(source, build, classes)
    else:
        network = build(classes)
    whole, side, left = (_detector if task == "boxes" else _segmenter)(network, spec)
    found = network.num_classes
    reads = RawAnswers(task)
    model = torch_model(spec.text, whole, OWN_SIZE, (3, side, side), device, reads=reads, task=task, n_classes=found)
    return dataclasses.replace(
        model,
        input_shape=None,
        class_names=labels if classes is None and found == len(labels) else None,
        weights_hash=sha256_json({"weights": model.weights_hash, "network": spec.name, "resize": side}),
        weights=lambda path: save_state(network, path),
        count=functools.cache(lambda: _count(whole, side)),
        notes=(*notes, *left),
    )


def _segmenter(network: Any, spec: ModelSpec) -> tuple[nn.Module, int, tuple[str, ...]]:
    if spec.options.get("aux", "none") != "none":
        raise ModelError(f"{spec.text}: aux is none or left out; found {spec.options['aux'][:40]!r}")
    if "aux" in spec.options:
        network.aux_classifier = None
    side = _resize(spec) or USUAL
    return Segmenter(network, side), side, ()


def _detector(network: Any, spec: ModelSpec) -> tuple[nn.Module, int, tuple[str, ...]]:
    transform, asked = network.transform, _resize(spec)
    side = int(min(transform.fixed_size) if transform.fixed_size else transform.min_size[-1])
    if asked is not None and transform.fixed_size:
        raise ModelError(f"{spec.text}: is built for {side}x{side} pixels, which it resizes to; leave resize out")
    if asked is not None:
        transform.min_size, transform.max_size = (asked,), round(transform.max_size * asked / side)
        side = asked
    heads = getattr(network, "roi_heads", None)
    beside = [part for part in BESIDE if getattr(heads, f"{part}_roi_pool", None) is not None]
    for part in beside:
        setattr(heads, f"{part}_roi_pool", None)  # nothing of it is computed; its weights stay where they are
    return (
        Detector(network),
        side,
        tuple(f"{spec.text}: its {part}s are left out; its boxes are the answer" for part in beside),
    )


def _resize(spec: ModelSpec) -> int | None:
    return parse_count(spec, "resize", least=32, most=MAX_SIZE) if "resize" in spec.options else None


def _count(whole: Any, side: int) -> Counted:
    """Multiply-adds of one square image, resized to *side*. Of a detector in two stages with the most proposals that
    it may keep, for their number depends on the image."""
    shape, at = (3, side, side), f"MACs are of an image of {side}x{side} pixels, as it is resized"
    if isinstance(whole, Segmenter):
        found = count_module(whole, shape)
        return dataclasses.replace(found, notes=(*found.notes, at, *_of_auxiliary(whole.network, side)))
    network = whole.network
    most = int(network.rpn.post_nms_top_n()) if hasattr(network, "rpn") else 0
    counts = [count_module(_Convolutions(network, n), shape) for n in sorted({0, most}, reverse=True)]
    costs, notes = dict(counts[0].costs), (*counts[0].notes, at)
    if most:
        each = (costs["macs"] - counts[-1].costs["macs"]) / most
        notes += (
            f"of them {each / 1e6:.3g} million are of each of {most:,} proposals, the most that it keeps of an image",
        )
    return Counted({**costs, "params": float(count_parameters(network))}, notes)


def _of_auxiliary(network: Any, side: int) -> tuple[str, ...]:
    head = getattr(network, "aux_classifier", None)
    if head is None:
        return ()
    first = next(part for part in head.modules() if hasattr(part, "in_channels"))
    macs = count_module(head, (first.in_channels, math.ceil(side / 8), math.ceil(side / 8))).costs["macs"]
    return (f"of them {macs / 1e9:.3g} billion are of a head that never answers; add aux=none to leave it out",)
