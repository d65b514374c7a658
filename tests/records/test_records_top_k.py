"""The K best classes: the order of a sort, ties by the lower class, the prediction first."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.records import Outputs, from_logits
from pilotfish.scores.outputs import bad_rows

ROWS = st.integers(2, 9).flatmap(
    lambda c: st.lists(
        st.lists(
            st.sampled_from([-math.inf, -1.0, 0.0, 1.0, 2.0]) | st.floats(-9, 9, width=16), min_size=c, max_size=c
        ),
        min_size=1,
        max_size=6,
    )
)


@given(ROWS, st.integers(1, 12), st.sampled_from([np.float16, np.float32, np.float64]))
def test_the_k_best_are_the_first_k_of_a_sort(rows: list[list[float]], k: int, dtype: type) -> None:
    logits = np.array(rows, dtype)
    found = from_logits(logits, top_k=k)
    assert found.top_classes is not None
    assert found.top_logits is not None
    for i, row in enumerate(logits.tolist()):
        best = sorted(range(len(row)), key=lambda c: (-row[c], c))[: min(k, len(row))]
        assert found.top_classes[i].tolist() == best
        assert found.top_logits[i].tolist() == logits[i, best].astype(np.float32).tolist()
        assert found.prediction[i] == best[0]


@given(ROWS, st.integers(1, 12))
def test_nothing_else_depends_on_k(rows: list[list[float]], k: int) -> None:
    some, full = from_logits(np.array(rows), top_k=k), from_logits(np.array(rows), top_k=len(rows[0]), keep_all=True)
    for name in ("prediction", "log_odds", "log_sum_exp"):
        assert np.array_equal(getattr(some, name), getattr(full, name), equal_nan=True)
    assert some.logits is None
    assert full.logits is not None
    assert full.logits.tolist() == np.array(rows, np.float32).tolist()


@given(ROWS)
def test_a_row_does_not_depend_on_its_batch(rows: list[list[float]]) -> None:
    together = from_logits(np.array(rows), top_k=3)
    for i in range(len(rows)):
        alone = from_logits(np.array(rows[i : i + 1]), top_k=3)
        for name, values in vars(alone).items():
            assert values is None or np.array_equal(values[0], getattr(together, name)[i], equal_nan=True)


def test_a_broken_row_has_k_classes_too() -> None:
    found = from_logits(np.array([[1.0, math.nan, 3.0, math.nan], [4.0, 3.0, 2.0, 1.0]]), top_k=3)
    assert found.top_classes is not None
    assert found.top_classes.shape == (2, 3)
    assert found.top_classes[0, 0] == found.prediction[0]
    assert found.top_classes[1].tolist() == [0, 1, 2]
    assert bad_rows(np.array([[1.0, math.nan], [math.inf, 0], [-math.inf, 0], [1, 2]])).tolist() == [0, 1]


def test_take_picks_rows_of_every_array() -> None:
    outputs = from_logits(np.arange(12.0).reshape(4, 3), top_k=2, keep_all=True)
    picked = outputs.take(np.array([3, 0], np.intp))
    assert len(picked) == 2
    for name, values in vars(picked).items():
        whole = getattr(outputs, name)
        assert (values is None) == (whole is None)
        assert values is None or np.array_equal(values, whole[[3, 0]])
    assert len(Outputs(np.zeros(3, np.int64)).take(slice(1, None))) == 2
