"""Exits attached to a network that exists: BranchyNet's way, for any backbone that can be cut."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pilotfish.errors import ModelError
from pilotfish.models.costs.macs import count_macs
from pilotfish.models.exits.cut import Cut, cut, features_through, single_cuts, trace
from pilotfish.models.exits.heads import laid_out, make_head
from pilotfish.models.exits.network import ExitNetwork, Features

LATEST = 0.95  # share of the MACs beyond which an exit saves nothing


@dataclass(frozen=True)
class Attachment:
    """An exit. after: the layer it reads, by module name; head: a kind of ``heads.HEADS``; width: of mlp and conv."""

    after: str
    head: str = "linear"
    width: int = 128


class AttachedExits(ExitNetwork):
    """A backbone cut into parts, a head on each cut, and the backbone's own end as the last exit."""

    def __init__(self, parts: Sequence[nn.Module], taps: Sequence[int], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts, self.heads = nn.ModuleList(parts), nn.ModuleList(heads)
        self.taps, self.exits = tuple(taps), len(parts)

    def advance(self, k: int, features: Features) -> Features:
        """Run part *k*."""
        found: Features = self.parts[k](*features)
        return found

    def logits_at(self, k: int, features: Features) -> torch.Tensor:
        """The head's logits; the last exit is the backbone's own."""
        if k + 1 == self.exits:
            return features[0]
        logits: torch.Tensor = self.heads[k](features[self.taps[k]])
        return logits

    def head(self, k: int) -> nn.Module | None:
        """The head of exit *k*; None for the last."""
        return self.heads[k] if k + 1 < self.exits else None

    def trunk(self, k: int) -> Sequence[nn.Module]:
        """The backbone's parts up to *k*."""
        return list(self.parts)[: k + 1]

    def backbone_state(self) -> dict[str, torch.Tensor]:
        """The backbone's own weights, by the names that they have in it."""
        return {name: value for part in self.parts for name, value in part.state_dict().items()}


def attach_exits(
    backbone: nn.Module, attachments: Sequence[Attachment], shape: tuple[int, ...], classes: int
) -> AttachedExits:
    """*backbone* with exits; with no attachments its own end is the only one. Its modules are used, not copied.

    shape    of one input
    classes  of the heads

    ModelError when the backbone cannot be cut there, with the nearest names for a layer that it lacks.
    """
    found = cut(trace(backbone), [one.after for one in attachments])
    return AttachedExits(found.parts, found.taps, _heads(found, backbone, attachments, shape, classes))


def spread_layers(backbone: nn.Module, shape: tuple[int, ...], exits: int) -> list[str]:
    """Layers after which the shares 1/(exits + 1), 2/(exits + 1), … of the backbone's MACs are spent, as nearly as
    places allow where a single tensor passes."""
    if not exits:
        return []
    traced = trace(backbone)
    names = single_cuts(traced)
    parts = cut(traced, names).parts if names else ()
    given = [(torch.zeros(1, *shape),), *features_through(backbone, parts[:-1], shape, batch=1)]
    spent = list(itertools.accumulate(count_macs(*one).total for one in zip(parts, given, strict=False)))
    total = spent[-1] if spent else 0
    places = dict(zip(spent, names, strict=False))  # of places with the same MACs the last: after norm and activation
    inside = [(macs, name) for macs, name in places.items() if 0 < macs <= LATEST * total]
    chosen: list[str] = []
    for i in range(1, exits + 1):
        left = [
            (abs(macs - total * i / (exits + 1)), place)
            for place, (macs, name) in enumerate(inside)
            if name not in chosen
        ]
        if not left:
            raise ModelError(f"{exits} exits were asked for; the backbone has places for {len(inside)}")
        chosen.append(inside[min(left)[1]][1])
    return [name for _, name in inside if name in chosen]


def _heads(
    found: Cut, backbone: nn.Module, attachments: Sequence[Attachment], shape: tuple[int, ...], classes: int
) -> list[nn.Module]:
    """A head for each cut, after the shapes of real features; every carried tensor must have the sample first."""
    heads = []
    found_features = features_through(backbone, found.parts[:-1], shape)
    for features, tap, one in zip(found_features, found.taps, attachments, strict=True):
        for value in features:
            if not isinstance(value, torch.Tensor) or value.ndim == 0 or len(value) != 2:
                what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
                raise ModelError(
                    f"the network cannot be cut after {one.after}: {what} would have to pass, which is not one "
                    "row per sample; name a layer at the end of a block"
                )
        heads.append(make_head(one.head, *laid_out(features[tap], backbone), classes, one.width))
    return heads
