"""max_prob as log-odds: the order of exact arithmetic, where probabilities of any float width say 1.0."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pilotfish.errors import RecordsError, UsageError
from pilotfish.records import Outputs, from_logits, from_probabilities
from pilotfish.scores import SCORES, can_score, score

FLOATS = [np.float16, np.float32, np.float64]
LOGIT = st.floats(-60, 60, width=16) | st.sampled_from([-2000.0, -760.0, -40.0, 0.0, 37.0, 750.0, 2000.0])


def exact(row: list[float]) -> tuple[float, float]:
    """(log p1/(1-p1), log-sum-exp) in 60 decimal digits; -inf is a masked class."""
    with localcontext() as context:
        context.prec = 60
        best = row.index(max(row))
        top = Decimal(row[best])
        rest = sum(((Decimal(z) - top).exp() for j, z in enumerate(row) if j != best and z != -math.inf), Decimal(0))
        return math.inf if not rest else float(-rest.ln()), float(top + (1 + rest).ln())


@given(st.lists(st.lists(LOGIT, min_size=3, max_size=3), min_size=1, max_size=5), st.sampled_from(FLOATS))
def test_log_odds_are_those_of_exact_arithmetic(rows: list[list[float]], dtype: type) -> None:
    logits = np.array(rows, dtype)
    found = from_logits(logits)
    assert found.log_odds is not None
    assert found.log_sum_exp is not None
    for i, row in enumerate(logits.astype(np.float64).tolist()):
        log_odds, log_sum_exp = exact(row)
        assert found.prediction[i] == row.index(max(row))
        assert found.log_odds[i] == pytest.approx(log_odds, rel=1e-13, abs=1e-12)
        assert found.log_sum_exp[i] == pytest.approx(log_sum_exp, rel=1e-13, abs=1e-12)


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("leads", [np.arange(17, 36), np.arange(40, 740, 25), np.arange(800, 5000, 300)])
def test_samples_whose_softmax_is_exactly_one_keep_their_order(dtype: type, leads: np.ndarray) -> None:
    logits = np.zeros((len(leads), 3), dtype)
    logits[:, 1] = leads
    if leads[0] >= 40:  # exp(-37) is lost beside 1 in float64 as well
        assert (softmax(logits.astype(np.float64)).max(axis=1) == 1.0).all()
    assert (softmax(logits.astype(np.float32)).max(axis=1) == 1.0).all()
    values = score("max_prob", from_logits(logits)).values
    assert (np.diff(values) > 0).all()
    assert values == pytest.approx(leads - math.log(2), rel=1e-12)
    for k in range(len(leads)):  # every exit ratio can be had
        assert (values >= values[k]).sum() == len(leads) - k


@pytest.mark.parametrize("bad", [[math.nan, 1, 2], [1, math.nan, 9], [math.inf, 1, 2], [math.inf] * 3, [-math.inf] * 3])
@pytest.mark.parametrize("dtype", FLOATS)
def test_outputs_that_are_not_finite_are_never_confident(bad: list[float], dtype: type) -> None:
    found = score("max_prob", from_logits(np.array([bad, [9, 0, 0]], dtype))).values
    assert math.isnan(found[0])
    assert not found[0] >= -math.inf
    assert found[1] == pytest.approx(9 - math.log(2))


def test_masked_classes_do_not_count() -> None:
    masked = from_logits(np.array([[3.0, -math.inf, 1.0], [5.0, -math.inf, -math.inf]]))
    assert masked.log_odds is not None
    assert masked.log_odds[0] == pytest.approx(2.0)
    assert np.isfinite(masked.log_odds[1])  # certain, and yet below a threshold of +inf
    assert masked.log_odds[1] == np.finfo(np.float64).max


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int64])
def test_quantised_logits_are_numbers_like_others(dtype: type) -> None:
    low, high = np.iinfo(np.int8 if dtype is not np.uint8 else dtype).min, 120  # negated, these wrap around
    whole = np.array([[low, 5, high, 7], [100, 101, 3, low]], dtype)
    found, expected = from_logits(whole, top_k=4), from_logits(whole.astype(np.float64), top_k=4)
    for name, values in vars(expected).items():
        assert np.array_equal(getattr(found, name), values) or values is None


@given(st.lists(st.floats(1e-300, 1), min_size=2, max_size=6), st.integers(2, 6))
def test_probabilities_are_the_softmax_of_their_logarithms(weights: list[float], top_k: int) -> None:
    p = np.array([weights]) / math.fsum(weights)
    assume((p > 0).all())
    found, expected = from_probabilities(p, top_k=top_k), from_logits(np.log(p), top_k=top_k)
    assert np.array_equal(found.log_odds, expected.log_odds)  # type: ignore[arg-type]
    assert np.array_equal(found.top_classes, expected.top_classes)  # type: ignore[arg-type]
    best = int(np.argmax(p))
    rest = math.fsum(x for j, x in enumerate(p[0].tolist()) if j != best)
    assert found.log_odds is not None
    assert found.log_odds[0] == pytest.approx(math.log(p[0, best] / rest), rel=1e-9, abs=1e-9)


def test_probabilities_that_round_to_one_keep_their_order() -> None:
    rest = 10.0 ** -np.arange(9, 300, 10)
    p = np.column_stack([np.ones(len(rest)), rest]).astype(np.float64)
    values = from_probabilities(p).log_odds
    assert values is not None
    assert (np.diff(values) > 0).all()
    assert values == pytest.approx(-np.log(rest), rel=1e-12)


@pytest.mark.parametrize(
    "rows", [[[0.5, 0.6]], [[1.5, -0.5]], [[math.nan, 1.0]], [[2.0, 3.0]], [[0.0, 0.0]], [[math.inf, 0.0]]]
)
def test_what_is_no_probability_vector_is_refused(rows: list[list[float]]) -> None:
    with pytest.raises(RecordsError, match=r"row 0 is not a probability vector .* name the array 'logits'"):
        from_probabilities(np.array(rows))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 2, 2)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    for reduce in (from_logits, from_probabilities):
        with pytest.raises(RecordsError, match=r"expected .* of shape"):
            reduce(np.zeros(shape))


def test_max_prob_falls_back_to_a_confidence_as_it_is() -> None:
    prediction = np.array([0, 1])
    scored = score("max_prob", Outputs(prediction, confidence=np.array([17.0, math.nan])))
    assert scored.scale == "identity"
    assert scored.values[0] == 17
    assert can_score(Outputs(prediction, confidence=scored.values))
    assert not can_score(Outputs(prediction))
    with pytest.raises(RecordsError, match="such a model can be the base, not a saver"):
        score("max_prob", Outputs(prediction))


@pytest.mark.parametrize("column", ["log_odds", "confidence"])
def test_infinite_scores_of_other_programs_stay_below_a_threshold_of_infinity(column: str) -> None:
    columns = {column: np.array([math.inf, 1.0, -math.inf, math.nan])}
    values = score("max_prob", Outputs(np.zeros(4, np.int64), **columns)).values
    assert (values >= math.inf).tolist() == [False] * 4
    assert (values >= -math.inf).tolist() == [True, True, True, False]


def test_unknown_score_lists_the_names() -> None:
    with pytest.raises(UsageError, match="unknown score 'maxprob'; nearest names: max_prob"):
        score("maxprob", Outputs(np.zeros(1, np.int64)))
    assert {name for name, kind in SCORES.items() if kind.fit is None} == {"max_prob", "margin", "entropy", "energy"}
