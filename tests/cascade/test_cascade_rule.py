"""What a stage says under every rule, against plain loops over samples; outputs that are not finite included."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.cascade import Rule, decide
from pilotfish.cascade.rule import KINDS
from pilotfish.documents import read_as
from pilotfish.errors import ArtefactError, UsageError
from pilotfish.records import Outputs, from_logits
from pilotfish.scores import SCORES, ExitScore, score

STAGES, CLASSES = 4, 3
MAX_PROB = (ExitScore(SCORES["max_prob"], "log_odds"),) * (STAGES - 1)
ROW = st.lists(st.integers(-3, 3).map(float), min_size=CLASSES, max_size=CLASSES) | st.just([math.nan, 0.0, 1.0])
SAMPLE = st.lists(ROW, min_size=STAGES, max_size=STAGES)  # one row of logits per stage


def softmax(row: list[float]) -> list[float]:
    raw = [math.exp(z - max(row)) for z in row]
    return [x / sum(raw) for x in raw]


def broken(row: list[float]) -> bool:
    return any(math.isnan(z) for z in row)


def outputs_of(samples: list[list[list[float]]]) -> list[Outputs]:
    return [from_logits(np.array([s[k] for s in samples]), top_k=CLASSES) for k in range(STAGES)]


def said(row: list[float]) -> int:
    return int(np.argmax(row))


@given(st.lists(SAMPLE, min_size=1, max_size=6))
def test_patience(samples: list[list[list[float]]]) -> None:
    outputs = outputs_of(samples)
    for k in range(STAGES):
        found = decide(Rule("patience"), (), k, outputs[: k + 1], STAGES)
        for i, sample in enumerate(samples):
            counter = 0
            for before, now in pairwise(sample[: k + 1]):
                counter = counter + 1 if said(before) == said(now) else 0
            assert found.outputs.prediction[i] == said(sample[k])
            assert np.array_equal(found.values[i], math.nan if broken(sample[k]) else counter, equal_nan=True)


@given(st.lists(SAMPLE, min_size=1, max_size=6))
def test_agreement(samples: list[list[list[float]]]) -> None:
    outputs = outputs_of(samples)
    for k in range(STAGES - 1):
        found = decide(Rule("agreement"), (), k, outputs[: k + 1], STAGES)
        for i, sample in enumerate(samples):
            votes = [said(row) for row in sample[: k + 1]]
            if broken(sample[k]):
                assert math.isnan(found.values[i])
                continue
            valid = [v for v, row in zip(votes, sample, strict=False) if not broken(row)]  # others have no vote
            most = max(Counter(valid).values())
            plurality = next(v for v in reversed(valid) if valid.count(v) == most)  # of equals the later saver's
            expected = most / len(votes) if k == STAGES - 2 else -math.inf
            assert found.outputs.prediction[i] == plurality
            assert found.values[i] == expected
    last = decide(Rule("agreement"), (), STAGES - 1, outputs, STAGES)
    assert last.outputs.prediction.tolist() == [said(s[-1]) for s in samples]
    assert np.isnan(last.values).tolist() == [broken(s[-1]) for s in samples]


def mixture(sample: list[list[float]], weights: list[float]) -> list[float] | None:
    """The weighted mean of what is finite, or None where nothing is."""
    parts = [(w, softmax(row)) for w, row in zip(weights, sample, strict=True) if not broken(row)]
    total = sum(w for w, _ in parts)
    return [sum(w * p[c] for w, p in parts) / total for c in range(CLASSES)] if total else None


def agrees(prediction: int, value: float, expected: list[float] | None, own_broken: bool) -> None:
    if expected is None or own_broken:
        assert math.isnan(value)
        return
    best = max(expected)
    assert expected[prediction] == pytest.approx(best, abs=1e-6)
    assert 1 / (1 + math.exp(-value)) == pytest.approx(best, abs=1e-6)


@given(st.lists(SAMPLE, min_size=1, max_size=6))
def test_average(samples: list[list[list[float]]]) -> None:
    outputs = outputs_of(samples)
    for k in range(STAGES):
        found = decide(Rule("average"), MAX_PROB, k, outputs[: k + 1], STAGES)
        for i, sample in enumerate(samples):
            mean = mixture(sample[: k + 1], [1.0] * (k + 1))
            agrees(int(found.outputs.prediction[i]), float(found.values[i]), mean, broken(sample[k]))


@given(st.lists(SAMPLE, min_size=1, max_size=6), st.sampled_from([0.1, 0.5, 0.9, 1.0]))
def test_ensemble(samples: list[list[list[float]]], weight: float) -> None:
    outputs = outputs_of(samples)
    rule = Rule("ensemble", weight)
    for k in range(STAGES - 1):  # savers speak for themselves
        found, plain = (decide(r, MAX_PROB, k, outputs[: k + 1], STAGES) for r in (rule, Rule()))
        assert np.array_equal(found.values, plain.values, equal_nan=True)
        assert (found.outputs.prediction == plain.outputs.prediction).all()
    found = decide(rule, MAX_PROB, STAGES - 1, outputs, STAGES)
    for i, sample in enumerate(samples):
        mean = mixture(sample[-2:], [1 - weight, weight])
        agrees(int(found.outputs.prediction[i]), float(found.values[i]), mean, broken(sample[-1]))


def test_the_weight_of_an_ensemble_goes_from_the_model_before_to_the_last() -> None:
    rng = np.random.default_rng(0)
    outputs = [from_logits(rng.normal(size=(200, 5)), top_k=5) for _ in range(3)]
    scores = MAX_PROB[:2]
    before, last = (decide(Rule("ensemble", w), scores, 2, outputs, 3) for w in (0.0, 1.0))
    assert (before.outputs.prediction == outputs[1].prediction).all()
    assert before.values == pytest.approx(outputs[1].log_odds, rel=1e-6, abs=1e-6)
    plain = decide(Rule(), scores, 2, outputs, 3)
    assert (last.outputs.prediction == plain.outputs.prediction).all()
    assert last.values == pytest.approx(plain.values, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", ["max_prob", "margin", "entropy", "energy"])
def test_the_plain_rule_is_the_stages_own_score(name: str) -> None:
    outputs = from_logits(np.random.default_rng(1).normal(size=(50, 6)), top_k=6)
    expected = score(name, outputs)
    found = decide(Rule(), (ExitScore(SCORES[name], expected.scale, {}, 6),), 0, [outputs], 2)
    assert (found.values == expected.values).all()
    assert (found.outputs.prediction == outputs.prediction).all()
    assert found.scale == expected.scale
    assert np.isfinite(found.shown).all()


def test_a_last_stage_of_bare_classes_answers_everybody() -> None:
    bare = Outputs(np.array([3, 1, 2]))
    for kind in ("score", "patience", "agreement"):
        found = decide(Rule(kind), (ExitScore(SCORES["max_prob"], "log_odds"),), 1, [bare, bare], 2)  # type: ignore[arg-type]
        assert found.outputs.prediction.tolist() == [3, 1, 2]
        assert not np.isnan(found.values).any()


def test_what_is_no_rule() -> None:
    with pytest.raises(UsageError, match="unknown rule 'dice'; expected one of score, ensemble"):
        Rule("dice")  # type: ignore[arg-type]
    for weight in (None, -0.1, 1.1, math.nan):
        with pytest.raises(UsageError, match="the weight of an ensemble is a number from 0 to 1"):
            Rule("ensemble", weight)
    for document in (None, "score", {}, {"weight": 1.0}, {"kind": ["score"]}, {"kind": "score", "weight": True}):
        with pytest.raises(ArtefactError, match="rule"):
            read_as(Rule, document, "the rule", ArtefactError)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_rule_is_asked(kind: str) -> None:
    rule = Rule(kind, 0.5 if kind == "ensemble" else None)  # type: ignore[arg-type]
    assert rule.remembers == (kind != "score")
    assert rule.scores == (kind not in ("agreement", "patience"))
    assert read_as(Rule, {"kind": kind, "weight": rule.weight}, "", ArtefactError) == rule
