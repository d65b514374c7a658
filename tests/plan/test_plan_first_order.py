"""What a ratio of sums gains by single samples, to first order, beside exact differences."""

from __future__ import annotations

import numpy as np

from pilotfish.plan.evidence import first_order
from pilotfish.tasks import MASK


def test_first_order_gains_add_up_to_small_changes_of_miou() -> None:
    rng = np.random.default_rng(0)
    union = rng.integers(50, 100, (2, 400, 5)).astype(float)
    union[:, :, 4] = 0  # a class that nobody has
    both = np.minimum(union, rng.integers(20, 100, union.shape))
    own, base = np.concatenate([both, union], axis=2)
    gain = first_order(MASK.metric, own, base)
    some = np.arange(20)
    value = MASK.metric.value
    assert value is not None
    moved = value(base.sum(axis=0) + (own - base)[some].sum(axis=0)) - value(base.sum(axis=0))
    assert abs(gain[some].sum() / 400 - moved) < 0.1 * abs(moved)
