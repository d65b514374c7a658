"""MSDNet (Huang et al., ICLR 2018): features of several scales side by side, densely connected, an exit per block.

Parameters and multiply-adds are those of the authors' released networks.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pilotfish.models.exits.network import ExitNetwork, Features

HIDDEN = 128  # channels of the small networks' classifiers


@dataclass(frozen=True)
class MSDNetConfig:
    """A network of the paper's family.

    blocks    exits
    channels  of the finest scale after the first layer; scale s has channels x factors[s]
    base      layers before the first exit
    step      layers between exits: *step* each, or with *growing* 1 + step, 1 + 2 step, …
    growth    new channels of the finest scale per layer
    factors   per scale: how its channels and its growth compare with the finest one's, and its bottleneck's width
    stem      ``small`` for images of about 32 pixels, ``large`` for ImageNet's
    colours   channels of the images
    """

    classes: int
    blocks: int = 5
    channels: int = 16
    base: int = 1
    step: int = 1
    growing: bool = True
    growth: int = 6
    factors: tuple[int, ...] = (1, 2, 4)
    stem: str = "small"
    colours: int = 3

    @property
    def steps(self) -> list[int]:
        """Layers of each block."""
        return [self.base, *(self.step * i + 1 if self.growing else self.step for i in range(1, self.blocks))]


def imagenet(step: int, base: int | None = None, classes: int = 1000) -> MSDNetConfig:
    """The paper's ImageNet networks, five exits *step* layers apart; *base* is as many as in the released ones."""
    return MSDNetConfig(
        classes=classes,
        channels=32,
        base=step if base is None else base,
        step=step,
        growing=False,
        growth=16,
        factors=(1, 2, 4, 4),
        stem="large",
    )


class MSDNet(ExitNetwork):
    """Blocks of layers over several scales, with a classifier on the coarsest scale after each block."""

    def __init__(self, config: MSDNetConfig) -> None:
        super().__init__()
        self.config, self.exits = config, config.blocks
        width, layer, total = config.channels, 0, sum(config.steps)
        blocks, heads = [], []
        for k, step in enumerate(config.steps):
            layers: list[nn.Module] = [_FirstLayer(config)] if k == 0 else []
            for _ in range(step):
                layer += 1
                before, after = _scales(config, layer, total)
                layers.append(_Layer(config, width, before, after))
                width += config.growth
                if before > after:  # the finest scale is dropped, and the others are halved
                    layers.append(_Transition(config, width, width // 2, after))
                    width //= 2
            blocks.append(nn.Sequential(*layers))
            heads.append(_classifier(config, width * config.factors[-1]))
        self.blocks, self.heads = nn.ModuleList(blocks), nn.ModuleList(heads)
        self.apply(_initialise)

    def advance(self, k: int, features: Features) -> Features:
        """The scales after block *k*, the finest one first."""
        found: Features = self.blocks[k](features)
        return found

    def logits_at(self, k: int, features: Features) -> torch.Tensor:
        """The classifier of block *k*."""
        logits: torch.Tensor = self.heads[k](features[-1])
        return logits

    def head(self, k: int) -> nn.Module | None:
        """The classifier of block *k*."""
        return self.heads[k]

    def trunk(self, k: int) -> Sequence[nn.Module]:
        """The blocks up to *k*."""
        return list(self.blocks)[: k + 1]


def config_to_json(config: MSDNetConfig) -> dict[str, object]:
    """Plain numbers and lists."""
    return {**dataclasses.asdict(config), "factors": list(config.factors)}


def _scales(config: MSDNetConfig, layer: int, total: int) -> tuple[int, int]:
    """(scales before, scales after) layer number *layer* of *total*, from 1."""
    most = len(config.factors)
    interval = math.ceil(total / most)
    return most - max(0, layer - 2) // interval, most - (layer - 1) // interval


class _FirstLayer(nn.Module):
    """The image at every scale."""

    def __init__(self, config: MSDNetConfig) -> None:
        super().__init__()
        widths = [config.channels * factor for factor in config.factors]
        if config.stem == "small":
            first = _conv(config.colours, widths[0], 3, 1)
        else:
            first = nn.Sequential(_conv(config.colours, widths[0], 7, 2), nn.MaxPool2d(3, 2, 1))
        rest = [_conv(a, b, 3, 2) for a, b in itertools.pairwise(widths)]
        self.scales = nn.ModuleList([first, *rest])

    def forward(self, features: Features) -> Features:
        x, found = features[0], []
        for scale in self.scales:
            x = scale(x)
            found.append(x)
        return tuple(found)


class _Layer(nn.Module):
    """Every scale grows by features of its own and, but for the finest, of the next finer scale."""

    def __init__(self, config: MSDNetConfig, width: int, before: int, after: int) -> None:
        super().__init__()
        factors, most = config.factors, len(config.factors)
        self.drops = before > after
        offset = most - after
        grown: list[nn.Module] = []
        for s in range(offset, most):
            new = config.growth * factors[s]
            if s == offset and not self.drops:
                grown.append(_Grow(None, _bottleneck(width * factors[s], new, factors[s], 1)))
            else:
                down = _bottleneck(width * factors[s - 1], new // 2, factors[s - 1], 2)
                grown.append(_Grow(down, _bottleneck(width * factors[s], new // 2, factors[s], 1)))
        self.scales = nn.ModuleList(grown)

    def forward(self, features: Features) -> Features:
        if self.drops:
            pairs: Sequence[tuple[torch.Tensor | None, torch.Tensor]] = list(itertools.pairwise(features))
        else:
            pairs = [(None, features[0]), *itertools.pairwise(features)]
        return tuple(grow(finer, own) for grow, (finer, own) in zip(self.scales, pairs, strict=True))


class _Grow(nn.Module):
    """What there is, and new channels from the finer scale and from its own."""

    def __init__(self, down: nn.Module | None, normal: nn.Module) -> None:
        super().__init__()
        self.down, self.normal = down, normal

    def forward(self, finer: torch.Tensor | None, own: torch.Tensor) -> torch.Tensor:
        new = [self.normal(own)] if self.down is None else [self.down(finer), self.normal(own)]
        return torch.cat([own, *new], dim=1)


class _Transition(nn.Module):
    """1x1 convolutions that reduce every scale that is left."""

    def __init__(self, config: MSDNetConfig, width: int, reduced: int, scales: int) -> None:
        super().__init__()
        factors = config.factors[len(config.factors) - scales :]
        self.scales = nn.ModuleList([_conv(width * f, reduced * f, 1, 1) for f in factors])

    def forward(self, features: Features) -> Features:
        return tuple(scale(x) for scale, x in zip(self.scales, features, strict=True))


def _classifier(config: MSDNetConfig, channels: int) -> nn.Module:
    hidden = HIDDEN if config.stem == "small" else channels
    layers = [_conv(channels, hidden, 3, 2), _conv(hidden, hidden, 3, 2), nn.AvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(hidden, config.classes))


def _bottleneck(channels: int, new: int, width: int, stride: int) -> nn.Module:
    inner = min(channels, width * new)
    return nn.Sequential(_conv(channels, inner, 1, 1), _conv(inner, new, 3, stride))


def _conv(channels: int, out: int, kernel: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _initialise(module: nn.Module) -> None:
    """He's initialisation by fan-out for convolutions."""
    if isinstance(module, nn.Conv2d):
        fan = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan))
