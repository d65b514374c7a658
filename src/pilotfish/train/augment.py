"""How pictures are varied in training, each by its own draw."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from pilotfish.models import Preprocessing
from pilotfish.train.recipe import Recipe


def varied(inputs: torch.Tensor, recipe: Recipe, chain: Preprocessing, generator: torch.Generator) -> torch.Tensor:
    """Pictures (N, C, H, W) as the recipe varies them: AutoAugment's policy, moved, mirrored. Whatever else is left
    alone."""
    if inputs.ndim != 4:
        return inputs
    if recipe.auto_augment:
        inputs = auto_augmented(inputs, chain)
    return moved(inputs, recipe.crop, recipe.flip, generator)


def moved(inputs: torch.Tensor, crop: int, flip: bool, generator: torch.Generator) -> torch.Tensor:
    """Pictures (N, C, H, W) moved by up to *crop* pixels each way, and mirrored."""
    if inputs.ndim != 4 or not (crop or flip):
        return inputs
    n, _, height, width = inputs.shape
    if crop:
        padded = functional.pad(inputs, (crop,) * 4)
        dy, dx = torch.randint(0, 2 * crop + 1, (2, n), generator=generator)
        ys = dy[:, None] + torch.arange(height)
        xs = dx[:, None] + torch.arange(width)
        inputs = padded.permute(0, 2, 3, 1)[torch.arange(n)[:, None, None], ys[:, :, None], xs[:, None, :]]
        inputs = inputs.permute(0, 3, 1, 2).contiguous()
    if flip:
        mirrored = torch.rand(n, generator=generator) < 0.5
        inputs = torch.where(mirrored[:, None, None, None], inputs.flip(3), inputs)
    return inputs


def auto_augmented(inputs: torch.Tensor, chain: Preprocessing) -> torch.Tensor:
    """AutoAugment (Cubuk et al., 2019), its ImageNet policy, in torchvision's implementation; draws come from torch's
    global generator. Inputs are taken back to 8-bit pixels for it, by the mean and deviation of *chain*."""
    from torchvision.transforms import v2

    mean, std = (torch.tensor(part)[:, None, None] for part in (chain.mean, chain.std))
    pixels = ((inputs * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    policy = v2.AutoAugment()
    return (torch.stack([policy(one) for one in pixels]).float() / 255 - mean) / std


def mixed(
    inputs: torch.Tensor, labels: torch.Tensor, classes: int, recipe: Recipe, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch mixed with itself in reverse order, as timm does: mixup (Zhang et al., 2018) or cutmix (Yun et al.,
    2019), by a coin where the recipe has both.

    labels: int64 (N,), returned as they are without mixing, else as probabilities (N, classes)
    """
    if inputs.ndim != 4 or not (recipe.mixup or recipe.cutmix):
        return inputs, labels
    cut = recipe.cutmix > 0 and (not recipe.mixup or bool(torch.rand((), generator=generator) < 0.5))
    share = _beta(recipe.cutmix if cut else recipe.mixup, generator)
    other = inputs.flip(0)
    if cut:
        height, width = inputs.shape[2:]
        h, w = (round(side * math.sqrt(1 - share)) for side in (height, width))
        top, left = (int(torch.randint(0, n + 1, (), generator=generator)) for n in (height - h, width - w))
        inputs = inputs.clone()
        inputs[:, :, top : top + h, left : left + w] = other[:, :, top : top + h, left : left + w]
        share = 1 - h * w / (height * width)
    else:
        inputs = share * inputs + (1 - share) * other
    one_hot = functional.one_hot(labels, classes).float()
    return inputs, share * one_hot + (1 - share) * one_hot.flip(0)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw of Beta(alpha, alpha), by its quantile function."""
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, float(torch.rand((), generator=generator))))
