"""Losses of networks with exits, by name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from pilotfish.train.recipe import Recipe


def exit_losses(outputs: Sequence[torch.Tensor], labels: torch.Tensor, recipe: Recipe) -> list[torch.Tensor]:
    """One loss per exit, means over the batch. outputs: logits (N, C) of each; labels int64 (N,), or probabilities
    (N, C) of mixed samples."""
    if recipe.loss == "saver_weighted":
        return saver_weighted(outputs, labels, recipe.label_smoothing)
    found = [functional.cross_entropy(z, labels, label_smoothing=recipe.label_smoothing) for z in outputs]
    if recipe.loss == "sum" or len(outputs) == 1:
        return found
    share = recipe.distillation
    for k in range(len(outputs) - 1):
        teacher = outputs[-1] if recipe.loss == "distill" else outputs[k + 1]
        soft = soft_targets(outputs[k], teacher.detach(), recipe.temperature)
        found[k] = (1 - share) * found[k] + share * soft
    return found


def saver_weighted(outputs: Sequence[torch.Tensor], labels: torch.Tensor, smoothing: float) -> list[torch.Tensor]:
    """TinySaver's Eq. 11: 2 (1 - max softmax(y_S)) of each sample weighs its cross-entropy at the exits between; 0 for
    the saver, ``outputs[0]``, and for the last exit, the base's own."""
    weight = 2 * (1 - outputs[0].detach().softmax(dim=1).amax(dim=1))
    nothing = outputs[0].new_zeros(())
    between = [
        (weight * functional.cross_entropy(z, labels, reduction="none", label_smoothing=smoothing)).mean()
        for z in outputs[1:-1]
    ]
    return [nothing, *between, nothing]


def soft_targets(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T² KL(teacher ‖ student) at temperature T (Hinton et al., 2015), mean over the batch."""
    log_p = functional.log_softmax(student / temperature, dim=1)
    q = functional.log_softmax(teacher / temperature, dim=1)
    return functional.kl_div(log_p, q, reduction="batchmean", log_target=True) * temperature**2


def exit_weights(exits: int, recipe: Recipe) -> list[float]:
    """Weights of the exits' losses; their mean is 1."""
    if recipe.weights == "equal":
        return [1.0] * exits
    return [2 * (k + 1) / (exits + 1) for k in range(exits)]
