"""What every network with exits can do, however it is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

Features = tuple[torch.Tensor, ...]
"""What passes from one part of a network to the next: tensors whose first axis is the sample."""


class ExitNetwork(nn.Module):
    """K parts of a trunk, one after the other, with an exit after each.

    Subclasses say how many exits there are, and write :meth:`advance` and :meth:`logits_at`. Exits count from 0 here;
    in names (``NAME#1``) they count from 1.
    """

    exits: int

    def advance(self, k: int, features: Features) -> Features:
        """Run part *k* of the trunk; part 0 takes the inputs, ``(x,)``."""
        raise NotImplementedError

    def logits_at(self, k: int, features: Features) -> torch.Tensor:
        """Logits (N, C) of exit *k*, from what its part returned."""
        raise NotImplementedError

    def carry(self, k: int, features: Features) -> Features:
        """What part *k* + 1 takes of what part *k* returned: all of it, where a network does not say otherwise."""
        return features

    def head(self, k: int) -> nn.Module | None:
        """The module that exit *k* adds to the trunk; None where the exit is the trunk's own end."""
        raise NotImplementedError

    def trunk(self, k: int) -> Sequence[nn.Module]:
        """The modules of the parts up to and with *k*, without heads."""
        raise NotImplementedError

    def alone(self, k: int) -> nn.Module | None:
        """What answers as exit *k* does and runs less than all parts up to it, taking inputs and returning (logits,);
        None where there is no such thing."""
        return None

    def outputs(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Logits of every exit in turn; what is not asked for is not computed."""
        features: Features = (x,)
        for k in range(self.exits):
            found = self.advance(k, features)
            yield self.logits_at(k, found)
            features = self.carry(k, found)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Logits (N, C) of all exits, the first one first."""
        return list(self.outputs(x))


class Span(nn.Module):
    """The part of a network between two exits, as a module of its own: what a stage of a cascade runs.

    first, last  parts *first* … *last* are run, and exit *last* answers

    Takes what exit *first* - 1 carries on, the inputs for *first* = 0; returns (logits, *what exit last carries on).
    """

    def __init__(self, network: ExitNetwork, first: int, last: int) -> None:
        super().__init__()
        self.network, self.first, self.last = network, first, last

    def extra_repr(self) -> str:
        """Which part of the network: exports are kept by it."""
        return f"parts {self.first} to {self.last}"

    def forward(self, *features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(logits, *features)."""
        for k in range(self.first, self.last):
            features = self.network.carry(k, self.network.advance(k, features))
        found = self.network.advance(self.last, features)
        return (self.network.logits_at(self.last, found), *self.network.carry(self.last, found))


class Whole(nn.Module):
    """A network up to one exit, from inputs to logits."""

    def __init__(self, network: ExitNetwork, last: int) -> None:
        super().__init__()
        self.span = Span(network, 0, last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of the exit."""
        logits: torch.Tensor = self.span(x)[0]
        return logits


def carried_shapes(network: ExitNetwork, x: torch.Tensor) -> list[Sequence[torch.Size]]:
    """Shapes of the features after each part, for the inputs *x*."""
    found: list[Sequence[torch.Size]] = []
    features: Features = (x,)
    with torch.inference_mode():
        for k in range(network.exits):
            features = network.carry(k, network.advance(k, features))
            found.append([part.shape for part in features])
    return found
