"""Parts of a data set: the same samples under the same names, and reading the names costs nothing twice."""

from __future__ import annotations

import numpy as np
import pytest

from pilotfish.data import ArrayDataset
from pilotfish.data.subset import Subset, hold_out
from pilotfish.errors import DataError


def whole(n: int) -> ArrayDataset:
    return ArrayDataset("here", np.arange(n)[:, None], tuple(f"s{i}" for i in range(n)), np.arange(n) % 3, None, "f")


def test_a_part_of_a_part_keeps_names_labels_and_samples() -> None:
    part = Subset(Subset(whole(10), np.array([9, 2, 4])), np.array([2, 0]))
    assert (part.ids, part.labels.tolist(), [int(part.read(i)[0]) for i in range(2)]) == (["s4", "s9"], [1, 0], [4, 9])
    assert part.ids is part.ids, "names are asked for once per sample: they are listed once"
    assert part.fingerprint != Subset(whole(10), np.array([4, 9])).fingerprint


def test_holding_out_deals_every_sample_once() -> None:
    rest, held = hold_out(whole(50), 0.2, seed=1)
    assert (len(rest), len(held)) == (40, 10)
    assert sorted([*rest.ids, *held.ids]) == sorted(whole(50).ids)
    assert hold_out(whole(50), 0.2, seed=1)[1].ids == held.ids
    for share in (0.0, 0.001, 0.999):
        with pytest.raises(DataError, match="give --val, or another holdout"):
            hold_out(whole(50), share, seed=1)


def test_other_labels_are_other_data() -> None:
    found = Subset(whole(3), relabelled=np.array([1, -1, 0]))
    assert found.labels.tolist() == [1, -1, 0]
    assert found.fingerprint != whole(3).fingerprint
