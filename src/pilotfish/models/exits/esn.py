"""The Exit Sequence Network (TinySaver, arXiv 2403.17726, sections 3.4, 6.3, 6.4): saver and base as one network with
exits, joined by a small causal transformer.

After the paper's text. The released code differs: it embeds with a layer norm and a ReLU around the linear layer, and
starts the heads at random (zero initialisation is commented out), so that untrained exits do not equal the saver.
Where the text is silent (bias of the heads and of q, k, v; MLP ratio 4; no MLP in the last layer) the code is followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from pilotfish.errors import ModelError
from pilotfish.models.exits.attached import Attachment
from pilotfish.models.exits.cut import Cut, cut, cut_at_features, features_through, trace
from pilotfish.models.exits.heads import Pool, laid_out
from pilotfish.models.exits.network import ExitNetwork, Features

LARGEST, DEEPEST = 4096, 24
RATIO = 4  # hidden units of a layer's MLP per dimension


@dataclass(frozen=True)
class Bus:
    """dim: of the tokens (the paper tries 8, 32, 128, 512); layers: of attention (0 to 3); attention_heads: 8."""

    dim: int = 32
    layers: int = 1
    attention_heads: int = 8

    def __post_init__(self) -> None:
        whole = all(type(n) is int for n in (self.dim, self.layers, self.attention_heads))
        if not (
            whole
            and 1 <= self.attention_heads <= self.dim <= LARGEST
            and self.dim % self.attention_heads == 0
            and 0 <= self.layers <= DEEPEST
        ):
            raise ModelError(
                f"an exit sequence needs a dimension up to {LARGEST} that its attention heads divide, and 0 to "
                f"{DEEPEST} layers; found dim {self.dim}, {self.attention_heads} heads, {self.layers} layers"
            )


class Layer(nn.Module):
    """Pre-norm attention of the newest token over all tokens so far, and an MLP (not in the last layer).

    One token at a time: what a causal mask over the whole sequence gives, without its recomputation.
    """

    def __init__(self, dim: int, heads: int, last: bool) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.norm, self.qkv = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim, bias=False)
        self.project = nn.Linear(dim, dim)
        hidden = RATIO * dim
        self.mlp = (
            None
            if last
            else nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        )

    def forward(self, token: torch.Tensor, known: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """token (N, dim), known: keys and values (N, t, 2 dim) of the tokens before; the token and they with its own
        (N, t + 1, 2 dim)."""
        q, own = self.qkv(self.norm(token)).split([self.dim, 2 * self.dim], dim=1)
        known = own[:, None] if known is None else torch.cat([known, own[:, None]], dim=1)
        keys, values = (part.unflatten(2, (self.heads, -1)) for part in known.split(self.dim, dim=2))  # (N, t, h, d)
        q = q.unflatten(1, (self.heads, -1))  # (N, h, d)
        scores = torch.einsum("nhd,nthd->nth", q, keys) * (self.dim // self.heads) ** -0.5
        read = torch.einsum("nth,nthd->nhd", torch.softmax(scores, dim=1), values)
        token = token + self.project(read.flatten(1))
        return (token if self.mlp is None else token + self.mlp(token)), known


class Chain(nn.Module):
    """Parts that each take what the one before returned."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> Features:
        """What the last part returns."""
        features: Features = (x,)
        for part in self.parts:
            features = part(*features)
        return features


class ExitSequence(ExitNetwork):
    """Exit 0 is the saver; exits 1 … n read the base's features after each cut, all tokens before them, and the
    saver's logits: y_n = y_S + Δy_n; the last exit is the base's own end.

    saver  in two parts, cut at its last features
    base   in n + 1 parts
    read   (layout, channels) of the saver's features and of the base's at each cut
    """

    def __init__(self, saver: Cut, base: Cut, read: Sequence[tuple[str, int]], bus: Bus, classes: int) -> None:
        super().__init__()
        self.saver, self.base = nn.ModuleList(saver.parts), nn.ModuleList(base.parts)
        self.taps, self.bus = (saver.taps[0], *base.taps), bus
        self.embeds = nn.ModuleList(
            nn.Sequential(Pool(layout), nn.Linear(channels, bus.dim)) for layout, channels in read
        )
        self.layers = nn.ModuleList(
            Layer(bus.dim, bus.attention_heads, last=i + 1 == bus.layers) for i in range(bus.layers)
        )
        self.heads = nn.ModuleList(nn.Linear(bus.dim, classes, bias=False) for _ in base.parts[1:])
        for head in self.heads:
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
        self.exits = len(base.parts) + 1

    def advance(self, k: int, features: Features) -> Features:
        """Part 0 takes (x,) and runs the saver: (y_S, keys and values of each layer …, x). Part k takes that and runs
        the base's part k - 1: (y_S, token, keys and values …, features of the base …); the last takes the base's
        features and gives its logits."""
        if k == 0:
            inner: Features = self.saver[0](*features)
            (logits,) = self.saver[1](*inner)
            _, known = self._read(0, inner[self.taps[0]], ())
            return (logits, *known, *features)
        if k + 1 == self.exits:
            outer: Features = self.base[k - 1](*features)
            return outer
        n = len(self.layers)
        logits, known = features[0], features[1 : 1 + n]
        outer = self.base[k - 1](*features[1 + n :])
        token, known = self._read(k, outer[self.taps[k]], known)
        return (logits, token, *known, *outer)

    def carry(self, k: int, features: Features) -> Features:
        """All but the token, which only exit *k* reads; the base's last part takes its own features alone."""
        if k == 0 or k + 1 == self.exits:
            return features
        if k + 2 == self.exits:
            return features[2 + len(self.layers) :]
        return (features[0], *features[2:])

    def _read(self, k: int, features: torch.Tensor, known: Features) -> tuple[torch.Tensor, Features]:
        """Token k after the bus, and what later tokens need of it and those before."""
        token, kept = self.embeds[k](features), []
        for i, layer in enumerate(self.layers):
            token, own = layer(token, known[i] if known else None)
            kept.append(own)
        return token, tuple(kept)

    def logits_at(self, k: int, features: Features) -> torch.Tensor:
        """Logits (N, C)."""
        if k in (0, self.exits - 1):
            return features[0]
        logits: torch.Tensor = features[0] + self.heads[k - 1](features[1])
        return logits

    def head(self, k: int) -> nn.Module | None:
        """The linear head; the saver and the base's own end have none."""
        return self.heads[k - 1] if 0 < k < self.exits - 1 else None

    def trunk(self, k: int) -> Sequence[nn.Module]:
        """The saver, the base's parts, embeddings and bus."""
        own = [*self.embeds[: min(k + 1, len(self.embeds))], *self.layers]
        return [*self.saver, *list(self.base)[:k], *own]

    def alone(self, k: int) -> nn.Module | None:
        """The base without the saver, for the last exit."""
        return Chain(list(self.base)) if k + 1 == self.exits else None

    def frozen(self) -> Sequence[nn.Module]:
        """Saver and base, which stay as they are."""
        return [*self.saver, *self.base]


def join_exits(
    saver: nn.Module, base: nn.Module, exits: Sequence[Attachment], shape: tuple[int, ...], bus: Bus, classes: int
) -> ExitSequence:
    """Saver and base as one network, with exits after layers of the base. ModelError where they cannot be cut."""
    if not exits:
        raise ModelError("an exit sequence needs at least one layer of the base that an exit reads")
    parts, whole = cut_at_features(saver, shape), cut(trace(base), [one.after for one in exits])
    read = [
        laid_out(features[tap], module)
        for module, found in ((saver, parts), (base, whole))
        for features, tap in zip(features_through(module, found.parts[:-1], shape), found.taps, strict=True)
    ]
    return ExitSequence(parts, whole, read, bus, classes)
