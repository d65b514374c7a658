"""Logits reduced on the device where they are, so that only what decides leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilotfish.records import Outputs
from pilotfish.scores.outputs import LARGEST

if TYPE_CHECKING:
    import torch

Reduced = tuple[Any, Any, Any, Any, Any]
"""prediction int64 (N,), log_odds and log_sum_exp float64 (N,), top_classes int32 and top_logits float32 (N, K)."""


def reduce_logits(logits: torch.Tensor, top_k: int) -> Reduced:
    """As ``records.from_logits`` does it, in the same order of operations and in float64. Logits (N, C).

    No step waits for the device, so the whole may be captured in a CUDA graph.
    """
    import torch

    z = logits.double()
    top_logits, top_classes = torch.topk(z, min(max(top_k, 1), z.shape[1]), dim=1, sorted=True)
    top, best = z.max(dim=1)
    others = z.scatter(1, best[:, None], -torch.inf)
    second = others.amax(dim=1)
    anchor = torch.where(torch.isfinite(second), second, torch.zeros_like(second))
    log_odds = (top - anchor) - torch.log(torch.exp(others - anchor[:, None]).sum(dim=1))
    log_odds = torch.clamp(log_odds, max=LARGEST)  # keeps NaN
    log_sum_exp = top + torch.log1p(torch.exp(-log_odds))
    log_odds = torch.where(torch.isfinite(top), log_odds, torch.full_like(log_odds, torch.nan))
    # the prediction leads even when the top is tied
    top_classes = torch.where(top_classes == best[:, None], top_classes[:, :1], top_classes)
    top_classes = torch.cat([best[:, None], top_classes[:, 1:]], dim=1)
    return best, log_odds, log_sum_exp, top_classes.int(), top_logits.float()


def to_outputs(reduced: Reduced, rows: int) -> Outputs:
    """The first *rows* of reduced logits that are on the host."""
    names = ("prediction", "log_odds", "log_sum_exp", "top_classes", "top_logits")
    return Outputs(**{name: part[:rows].numpy() for name, part in zip(names, reduced, strict=True)})
