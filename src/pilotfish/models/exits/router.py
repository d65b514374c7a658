"""Learned routers (TinySaver, section 3.1, Eq. 2-5): a saver whose confidence comes from a network trained to foretell
that the saver suffices.

Both are networks of one exit whose logits are the saver's with another top: the argmax and the order of the other
classes stay, and the top probability becomes (1 + e) / 2 of the router's estimate e. So thresholds, certificates and
the engine treat a router as any saver.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from pilotfish.models.exits.cut import Cut, cut_at_features, features_through
from pilotfish.models.exits.heads import Pool, laid_out
from pilotfish.models.exits.network import ExitNetwork, Features

KINDS = ("prior", "evaluator")


class Router(ExitNetwork):
    """A saver with a judge. Subclasses write :meth:`foretell`, the judge's log-odds u (N,) of "the saver suffices", and
    :meth:`advance`, which returns (y_S, u)."""

    exits = 1
    judge: nn.Module

    def logits_at(self, k: int, features: Features) -> torch.Tensor:
        """The saver's logits (N, C) with the judge's confidence."""
        return with_confidence(features[0], features[1])

    def head(self, k: int) -> nn.Module | None:
        """The judge: its MACs are what the routing costs."""
        return self.judge

    def foretell(self, x: torch.Tensor) -> torch.Tensor:
        """u, without the saver's answer."""
        raise NotImplementedError

    def saver(self) -> Sequence[nn.Module]:
        """The saver's modules, which stay as they are."""
        raise NotImplementedError

    def trunk(self, k: int) -> Sequence[nn.Module]:
        """The saver."""
        return self.saver()


class PriorRouter(Router):
    """An encoder of its own looks at the inputs, before the saver does (Eq. 2: C_Rt is its cost).

    saver    with logits (N, C)
    encoder  with two outputs, for "the base is needed" and "the saver suffices"
    """

    def __init__(self, saver: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.model, self.judge = saver, encoder

    def advance(self, k: int, features: Features) -> Features:
        """(y_S, u)."""
        return (self.model(*features), self.foretell(*features))

    def foretell(self, x: torch.Tensor) -> torch.Tensor:
        """u, by the encoder alone."""
        return log_odds(self.judge(x))

    def saver(self) -> Sequence[nn.Module]:
        """The saver."""
        return [self.model]


class PostEvaluator(Router):
    """A small head looks at the saver's last features (Eq. 4: C_E is its cost).

    saver             in two parts, cut at those features
    layout, channels  of them
    width             hidden units
    """

    def __init__(self, saver: Cut, layout: str, channels: int, width: int) -> None:
        super().__init__()
        self.parts, self.tap = nn.ModuleList(saver.parts), saver.taps[0]
        self.judge = nn.Sequential(
            Pool(layout), nn.LayerNorm(channels), nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, 2)
        )

    def advance(self, k: int, features: Features) -> Features:
        """(y_S, u)."""
        inner: Features = self.parts[0](*features)
        (logits,) = self.parts[1](*inner)
        return (logits, log_odds(self.judge(inner[self.tap])))

    def foretell(self, x: torch.Tensor) -> torch.Tensor:
        """u, by the saver up to its last features."""
        return log_odds(self.judge(self.parts[0](x)[self.tap]))

    def saver(self) -> Sequence[nn.Module]:
        """The saver's two parts."""
        return list(self.parts)


def evaluator(saver: nn.Module, shape: tuple[int, ...], width: int) -> PostEvaluator:
    """A post-evaluator for *saver*. ModelError where it cannot be cut before its answer."""
    found = cut_at_features(saver, shape)
    [features] = features_through(saver, found.parts[:1], shape)
    return PostEvaluator(found, *laid_out(features[found.taps[0]], saver), width)


def log_odds(two: torch.Tensor) -> torch.Tensor:
    """Of the second class, from logits (N, 2)."""
    return two[:, 1] - two[:, 0]


def with_confidence(logits: torch.Tensor, odds: torch.Tensor) -> torch.Tensor:
    """Logits (N, C) with the same argmax whose softmax gives it (1 + e) / 2, e = sigmoid(odds): log-odds of the top
    against the rest log((1 + e) / (1 - e)) = log(1 + 2 exp(odds)). odds: (N,)."""
    classes = torch.arange(logits.shape[1], device=logits.device)
    top = classes[None] == logits.argmax(dim=1, keepdim=True)
    rest = torch.logsumexp(logits.masked_fill(top, -torch.inf), dim=1, keepdim=True)
    return torch.where(top, functional.softplus(odds + math.log(2))[:, None], logits - rest)


class Judging(ExitNetwork):
    """A router as it is trained: two logits, "the base is needed" and "the saver suffices"."""

    exits = 1

    def __init__(self, router: Router) -> None:
        super().__init__()
        self.router = router

    def advance(self, k: int, features: Features) -> Features:
        """(u,)."""
        return (self.router.foretell(*features),)

    def logits_at(self, k: int, features: Features) -> torch.Tensor:
        """(N, 2)."""
        odds = features[0]
        return torch.stack([torch.zeros_like(odds), odds], dim=1)

    def head(self, k: int) -> nn.Module | None:
        """The judge."""
        return self.router.judge

    def trunk(self, k: int) -> Sequence[nn.Module]:
        """The saver."""
        return self.router.saver()
