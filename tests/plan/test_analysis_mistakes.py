"""Correctable mistakes by the saver's confidence (Little-Big Q1), against counts over random orders of ties."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given

from pilotfish.plan.analysis import mistake_quantiles
from pilotfish.plan.trace import Trace, trace_of
from support.pairs import Pair as Drawn
from support.pairs import graded_traces, pairs


def in_lowest(scores: list[float], marked: list[bool], q: Fraction) -> Fraction:
    """The expected share of the marked samples among the q x N lowest, ties in a random order, NaN lowest."""
    keys = [-math.inf if math.isnan(s) else s for s in scores]
    room = q * len(keys)
    found = Fraction(0)
    for value in sorted(set(keys)):
        group = [m for k, m in zip(keys, marked, strict=True) if k == value]
        taken = min(room, Fraction(len(group)))
        found += taken * Fraction(sum(group), len(group))
        room -= taken
    return found / sum(marked)


@given(pairs())
def test_counts_and_shares(pair: Drawn) -> None:
    found = mistake_quantiles(pair.trace())
    correctable = [b and not s for s, b in zip(pair.saver_ok, pair.base_ok, strict=True)]
    assert found.correctable == sum(correctable)
    assert found.correctable + found.uncorrectable == pair.saver_ok.count(False)
    assert found.lost == sum(s and not b for s, b in zip(pair.saver_ok, pair.base_ok, strict=True))
    assert found.unscored == sum(math.isnan(s) for s in pair.scores)
    if not found.correctable:
        assert (found.mean_confidence, found.confidence_at, found.found_in_lowest) == (None, (), ())
        return
    assert [q for q, _ in found.found_in_lowest] == [k / 10 for k in range(1, 10)]
    for k, (_, share) in enumerate(found.found_in_lowest, 1):
        assert share == pytest.approx(float(in_lowest(pair.scores, correctable, Fraction(k, 10))), abs=1e-9)
    confidences = [c for _, c in found.confidence_at]
    assert confidences == sorted(confidences)


def test_confidences_are_shown_as_people_read_them() -> None:
    score = np.log(np.array([0.2, 0.4, 0.6, 0.9]) / np.array([0.8, 0.6, 0.4, 0.1]))
    pair = trace_of([score], [[False, False, False, True], [True] * 4], scales=["log_odds"])
    found = mistake_quantiles(pair)
    assert found.mean_confidence == pytest.approx(0.4)
    assert dict(found.confidence_at)[0.5] == pytest.approx(0.4)
    assert dict(found.found_in_lowest)[0.5] == pytest.approx(2 / 3)
    assert found.to_json()["confidence_at"][4] == {"q": 0.5, "confidence": pytest.approx(0.4)}


@given(graded_traces())
def test_a_worse_answer_is_a_mistake_where_answers_are_not_right_or_wrong(trace: Trace) -> None:
    found, (s, b) = mistake_quantiles(trace), trace.quality.tolist()
    assert found.correctable == sum(mine < theirs for mine, theirs in zip(s, b, strict=True))
    assert found.lost == sum(mine > theirs for mine, theirs in zip(s, b, strict=True))
    assert found.uncorrectable is None
