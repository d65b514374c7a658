"""Margin, entropy and energy against their formulas, and the units that do not saturate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pilotfish.errors import RecordsError, UsageError
from pilotfish.records import Outputs, from_logits, from_probabilities
from pilotfish.scores import SCALES, check_name, from_shown, score, to_shown

LOGITS = arrays(np.float64, (5, 4), elements=st.floats(-30, 30).map(lambda x: round(x, 3)))


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    raw = [math.exp(z - top) for z in row]
    return [x / sum(raw) for x in raw]


@given(LOGITS)
def test_scores_are_their_formulas(z: np.ndarray) -> None:
    outputs = from_logits(z, top_k=4)
    for name, formula in {
        "max_prob": lambda p: max(p),
        "margin": lambda p: sorted(p)[-1] - sorted(p)[-2],
        "entropy": lambda p: sum(x * math.log(x) for x in p if x > 0),
    }.items():
        found = score(name, outputs)
        expected = [formula(softmax(row)) for row in z.tolist()]
        assert to_shown(found.scale, found.values) == pytest.approx(expected, abs=2e-5)
    energy = score("energy", from_logits(z + 1.0, top_k=4))
    assert energy.values == pytest.approx([1 + math.log(sum(math.exp(x) for x in row)) for row in z.tolist()], abs=1e-9)


def test_certain_samples_keep_their_order_where_probabilities_round_to_1() -> None:
    lead = np.linspace(40, 60, 21)
    z = np.stack([lead, np.zeros(21), np.full(21, -3.0)], axis=1)
    for name in ("max_prob", "margin", "entropy"):
        values = score(name, from_logits(z, top_k=3)).values
        assert (np.diff(values) > 0).all(), name


def test_outputs_that_are_not_finite_are_never_confident() -> None:
    z = np.array([[1.0, 2.0, np.nan], [np.inf, 0.0, 0.0], [3.0, 0.0, 1.0]])
    outputs = from_logits(z, top_k=3)
    for name in ("max_prob", "margin", "entropy", "energy"):
        values = score(name, outputs).values
        assert np.isnan(values[:2]).all(), name
        assert np.isfinite(values[2]), name


@given(st.sampled_from(SCALES), st.floats(-30, 30))
def test_units_go_there_and_back(scale: str, value: float) -> None:
    shown = to_shown(scale, value)  # type: ignore[arg-type]
    back = float(from_shown(scale, shown))  # type: ignore[arg-type]
    assert back == pytest.approx(value, rel=1e-3, abs=1e-3) or abs(value) > 15
    for limit in (math.inf, -math.inf):
        assert float(to_shown(scale, limit)) == limit  # type: ignore[arg-type]


@given(st.sampled_from(SCALES), st.floats(-20, 20), st.floats(-20, 20))
def test_both_units_order_alike(scale: str, a: float, b: float) -> None:
    shown = to_shown(scale, [a, b])  # type: ignore[arg-type]
    assert not (a < b and shown[0] > shown[1])


def test_more_than_ten_classes_are_counted_as_one_rest() -> None:
    p = np.full((1, 30), 0.5 / 29)
    p[0, 3] = 0.5
    found = score("entropy", from_probabilities(p, top_k=10))
    rest = 20 * 0.5 / 29
    expected = 0.5 * math.log(0.5) + 9 * (0.5 / 29) * math.log(0.5 / 29) + rest * math.log(rest)
    assert to_shown(found.scale, found.values)[0] == pytest.approx(expected, abs=1e-6)


def test_what_cannot_be_had_says_what_is_there() -> None:
    bare = Outputs(np.zeros(2, np.int64), confidence=np.array([0.4, 0.9]))
    for name in ("margin", "entropy"):
        with pytest.raises(RecordsError, match=f"{name} needs logits .* these records hold a confidence alone"):
            score(name, bare)
    imported = from_probabilities(np.array([[0.7, 0.3]]), top_k=2)
    with pytest.raises(RecordsError, match="energy needs the log-sum-exp of logits, and these records hold only prob"):
        score("energy", imported)
    with pytest.raises(UsageError, match="unknown score 'learnd'; nearest names: learned"):
        check_name("learnd")
