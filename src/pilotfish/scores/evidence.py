"""What a score is fitted on: the saver's outputs, and who was right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.scores.outputs import I64, Mask, Outputs

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """M samples of the calibration part.

    outputs            of the saver
    reference          int64 (M,), the class that counts as right
    right, base_right  bool (M,)
    base_truth         float64 (M,), the base's probability of the reference class; 1 or 0 where only its class is known
    groups             int64 (M,), the group of each sample, or None where all are independent
    n_classes          how many classes there are, at least one more than the largest that was seen
    """

    outputs: Outputs
    reference: I64
    right: Mask
    base_right: Mask
    base_truth: F64
    n_classes: int
    groups: I64 | None = None

    def __len__(self) -> int:
        return len(self.reference)

    def take(self, rows: NDArray[np.intp]) -> Evidence:
        """The same for some rows."""
        return Evidence(
            self.outputs.take(rows),
            self.reference[rows],
            self.right[rows],
            self.base_right[rows],
            self.base_truth[rows],
            self.n_classes,
            None if self.groups is None else self.groups[rows],
        )


def truth_probability(outputs: Outputs, reference: I64) -> F64:
    """float64 (N,): the probability a model gives the reference class; 1 or 0 by its prediction without logits."""
    if outputs.top_logits is None or outputs.log_sum_exp is None or outputs.top_classes is None:
        return np.asarray(outputs.prediction == reference, np.float64)
    hit = outputs.top_classes == reference[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        p = np.exp(np.minimum(outputs.top_logits - outputs.log_sum_exp[:, None], 0.0))
    return np.asarray(np.where(hit, p, 0.0).sum(axis=1))
