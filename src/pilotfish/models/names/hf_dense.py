"""Object detection and semantic segmentation of ``hf:`` folders: images come at their own size, and the image processor
runs inside the network, so that answers are in the pixels of the image."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any

import torch
from torch import nn

from pilotfish.errors import ModelError
from pilotfish.models.backends.torch_backend import count_module, torch_model
from pilotfish.models.model import Counted, Model
from pilotfish.models.names.hf_folder import HfFolder
from pilotfish.models.names.hf_processor import plain_document
from pilotfish.models.names.spec import ModelSpec
from pilotfish.models.outputs.own_size import OWN_SIZE
from pilotfish.models.outputs.raw_answers import RawAnswers

LONGEST = 64  # times as long as wide
SIDE = 224  # pixels of the image that costs are counted on, where the processor names no size


class FromPixels(nn.Module):
    """A network of transformers on pixels from 0 to 1 of one size, which its image processor takes as bytes."""

    def __init__(self, network: Any, processor: Any, task: str) -> None:
        super().__init__()
        self.network, self.processor, self.task = network, processor, task

    def forward(self, pixels: torch.Tensor) -> Any:
        height, width = pixels.shape[-2:]
        if max(height, width) > LONGEST * min(height, width):
            raise ModelError(f"an image of {width}x{height} pixels is too long to be resized; crop it first")
        found = self.network(**self.inputs(pixels), return_dict=True)
        if self.task == "mask":
            return nn.functional.interpolate(found.logits, (height, width), mode="bilinear", align_corners=False)
        sizes = torch.tensor([(height, width)] * len(pixels), device=pixels.device)
        return self.processor.post_process_object_detection(found, threshold=0.0, target_sizes=sizes)

    def inputs(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the network takes of images (N, 3, H, W) from 0 to 1."""
        images = list((255 * pixels.float()).round().clamp(0, 255).byte().cpu())
        made = self.processor(images=images, return_tensors="pt", input_data_format="channels_first")
        taken = {key: made[key].to(pixels.device) for key in ("pixel_values", "pixel_mask") if key in made}
        return {key: value.to(pixels.dtype) if value.is_floating_point() else value for key, value in taken.items()}


class _Counted(nn.Module):
    """What of it multiplies."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> Any:
        return self.network(pixel_values=pixel_values, return_dict=True).logits


def dense_model(spec: ModelSpec, found: HfFolder, network: Any, processor: Any, task: str, device: str) -> Model:
    """The model of a detector (task ``boxes``) or of a network for segmentation (``mask``), without its notes. Its
    processor is part of its identity.

    ModelError for a processor that crops, or says nothing of boxes, and for a size in the name.
    """
    name = type(processor).__name__
    if spec.size is not None:
        raise ModelError(f"{spec.text}: takes images of any size, and its {name} resizes them; leave the size out")
    if getattr(processor, "do_center_crop", None):
        raise ModelError(
            f"{found.where}: its {name} crops images (do_center_crop), so that it answers for a part of each; set it "
            "to false"
        )
    if task == "boxes" and not hasattr(processor, "post_process_object_detection"):
        raise ModelError(
            f"{found.where}: its {name} makes no boxes of a network's outputs; expected that of a detector"
        )
    module = FromPixels(network, processor, task)
    model = torch_model(spec.text, module, OWN_SIZE, (3, SIDE, SIDE), device, task=task, reads=RawAnswers(task))
    reduced = getattr(processor, "do_reduce_labels", None) and task == "mask"
    note = f"{found.where}: its classes leave out 0 of the masks that it was trained with, and so begin at their 1"
    return dataclasses.replace(
        model,
        input_shape=None,
        n_classes=network.config.num_labels,
        count=functools.cache(functools.partial(_count, module)),
        notes=(note,) if reduced else (),
    )


def processor_text(processor: Any) -> str:
    """An image processor and its configuration as JSON."""
    return json.dumps({"class": type(processor).__name__, **plain_document(processor.to_dict())}, sort_keys=True)


def _count(module: FromPixels) -> Counted:
    size = dict(getattr(module.processor, "size", None) or {})
    side = int(size.get("shortest_edge") or min(size.get("height") or SIDE, size.get("width") or SIDE))
    shape = tuple(module.inputs(torch.zeros(1, 3, side, side))["pixel_values"].shape[1:])
    found = count_module(_Counted(module.network), shape)
    at = f"MACs are of an image of {shape[1]}x{shape[2]} pixels, as it is resized"
    return dataclasses.replace(found, notes=(*found.notes, at))
