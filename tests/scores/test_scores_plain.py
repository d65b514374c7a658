"""Margin, entropy and energy against their formulas, and the units that do not saturate."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pilotfish.errors import RecordsError, UsageError
from pilotfish.records import Outputs, from_logits, from_probabilities
from pilotfish.scores import (
    SCALES,
    SCORES,
    ExitScore,
    Scale,
    check_name,
    compute,
    from_shown,
    plain_score,
    score,
    to_shown,
)

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


def exactly(row: list[float]) -> dict[str, float]:
    """Each score in the unit it is compared in, by exact arithmetic."""
    with localcontext() as context:
        context.prec = 60 + int(max(row) / 2)  # 1 - p1 begins after a lead's 0.44 digits
        z = sorted((Decimal(x) for x in row), reverse=True)
        raw = [(x - z[0]).exp() for x in z]
        total = sum(raw)
        p = [x / total for x in raw]
        nats = -sum(x * x.ln() for x in p)
        others = sum(raw[1:])
        return {
            "max_prob": float((raw[0] / others).ln()),
            "margin": float(-((others + raw[1]) / total).ln()),
            "entropy": float(-nats.ln()),
            "energy": float(z[0] + total.ln()),
        }


@pytest.mark.parametrize("lead", [0.0, 0.25, 3.0, 29.5, 30.5, 36.0, 60.0, 744.0, 746.0, 900.0])
def test_scores_are_those_of_exact_arithmetic_however_certain(lead: float) -> None:
    row = [lead, -3.0, 0.0, -0.5]
    outputs = from_logits(np.array([row]), top_k=4)
    for name, expected in exactly(row).items():
        assert score(name, outputs).values[0] == pytest.approx(expected, rel=1e-9, abs=1e-6), name


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("leads", [np.linspace(40, 60, 21), np.arange(20, 40), np.arange(700, 5000, 50)])
def test_certain_samples_keep_their_order_where_probabilities_round_to_1(leads: np.ndarray, dtype: type) -> None:
    z = np.stack([leads, np.zeros(len(leads)), np.full(len(leads), -3.0)], axis=1).astype(dtype)
    lead = z[:, 0].astype(np.float64)  # float16 makes some of them equal
    for name in ("max_prob", "margin", "entropy", "energy"):
        values = score(name, from_logits(z, top_k=3)).values
        assert (np.diff(values)[np.diff(lead) > 0] > 0).all(), name


@given(arrays(np.float64, (12, 2), elements=st.floats(-900, 900, width=32)))
def test_of_two_classes_all_scores_order_alike(z: np.ndarray) -> None:
    outputs = from_logits(z, top_k=2)
    order = np.argsort(np.asarray(outputs.log_odds), kind="stable")
    for name in ("margin", "entropy"):
        values = score(name, outputs).values[order]
        assert (np.diff(values) >= -1e-6 * np.abs(values[1:]) - 1e-12).all(), name


@given(LOGITS, st.floats(-20, 20).map(lambda x: round(x, 2)))
def test_a_constant_on_all_logits_moves_energy_alone(z: np.ndarray, shift: float) -> None:
    before, after = from_logits(z, top_k=4), from_logits(z + shift, top_k=4)
    for name in ("max_prob", "margin", "entropy"):
        assert score(name, after).values == pytest.approx(score(name, before).values, abs=1e-4), name
    assert score("energy", after).values == pytest.approx(score("energy", before).values + shift, abs=1e-9)


@pytest.mark.parametrize("classes", [2, 5, 10])
def test_ten_stored_classes_are_all_that_a_score_looks_at(classes: int) -> None:
    z = np.random.default_rng(classes).normal(size=(50, classes)).astype(np.float32) * 3
    full = from_logits(z, top_k=classes, keep_all=True)
    for name in ("margin", "entropy"):
        assert (score(name, from_logits(z, top_k=10)).values == score(name, full).values).all()
    p = np.exp(z.astype(np.float64) - np.log(np.exp(z.astype(np.float64)).sum(axis=1, keepdims=True)))
    found = score("entropy", full)
    assert to_shown(found.scale, found.values) == pytest.approx((p * np.log(p)).sum(axis=1), abs=1e-6)


def test_fewer_stored_classes_give_the_same_margin_and_no_more_entropy() -> None:
    z = np.random.default_rng(0).normal(size=(80, 20)) * 2
    full = from_logits(z, top_k=20)
    for k in (2, 3, 7):
        short = from_logits(z, top_k=k)
        assert (score("margin", short).values == score("margin", full).values).all()
        assert (score("entropy", short).values >= score("entropy", full).values - 1e-9).all()  # the rest is one class
    with pytest.raises(RecordsError, match="margin needs the two best classes, and these records hold one"):
        score("margin", from_logits(z, top_k=1))


def test_outputs_that_are_not_finite_are_never_confident() -> None:
    z = np.array([[1.0, 2.0, np.nan], [np.inf, 0.0, 0.0], [3.0, 0.0, 1.0]])
    outputs = from_logits(z, top_k=3)
    for name in ("max_prob", "margin", "entropy", "energy"):
        values = score(name, outputs).values
        assert np.isnan(values[:2]).all(), name
        assert np.isfinite(values[2]), name


RANGE = {"log_odds": (-30.0, 30.0), "margin": (1e-6, 30.0), "entropy": (-3.0, 30.0), "identity": (-1e6, 1e6)}


@pytest.mark.parametrize("scale", SCALES)
@given(share=st.floats(0, 1))
def test_units_go_there_and_back(scale: Scale, share: float) -> None:
    low, high = RANGE[scale]
    value = low + (high - low) * share
    shown = float(to_shown(scale, value))
    assert float(from_shown(scale, shown)) == pytest.approx(value, rel=1e-9, abs=4e-16 * math.exp(min(abs(value), 36)))
    again = float(to_shown(scale, from_shown(scale, shown)))
    assert again == pytest.approx(shown, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("scale", SCALES)
def test_nobody_and_everybody_are_the_same_in_every_unit(scale: Scale) -> None:
    for limit in (math.inf, -math.inf):
        assert float(to_shown(scale, limit)) == limit
        assert float(from_shown(scale, limit)) == limit
    assert math.isnan(float(to_shown(scale, math.nan)))
    assert math.isnan(float(from_shown(scale, math.nan)))


@given(st.sampled_from(SCALES), st.floats(-20, 20), st.floats(-20, 20))
def test_both_units_order_alike(scale: Scale, a: float, b: float) -> None:
    shown = to_shown(scale, [a, b])
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


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_stored_confidence_of_infinity_stays_below_a_threshold_of_infinity(bad: float) -> None:
    outputs = Outputs(np.zeros(2, np.int64), confidence=np.array([bad, 0.5]))
    found = compute(plain_score(SCORES["max_prob"], outputs), outputs)
    assert (found.values >= math.inf).tolist() == [False, False]
    assert found.values[1] == 0.5


def test_a_score_of_data_is_the_score_by_name() -> None:
    outputs = from_logits(np.random.default_rng(3).normal(size=(20, 12)), top_k=10)
    for name in ("max_prob", "margin", "entropy", "energy"):
        found = plain_score(SCORES[name], outputs)
        assert found == ExitScore(
            SCORES[name], score(name, outputs).scale, {}, 10 if name in ("margin", "entropy") else 1
        )
        assert (compute(found, outputs).values == score(name, outputs).values).all()
