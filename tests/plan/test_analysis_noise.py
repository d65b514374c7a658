"""Tuning noise: a draw's threshold is that of an exact sweep over the drawn samples, judged by counting."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.errors import UsageError
from pilotfish.plan.analysis import tuning_noise
from pilotfish.plan.analysis.noise import tuner
from pilotfish.plan.holdout import split_rows
from pilotfish.plan.sweep import sweep
from pilotfish.plan.trace import Trace, trace_of
from support import brute
from support.pairs import Pair as Drawn
from support.pairs import graded_traces, pairs


def repeated(drawn: Drawn, rows: list[int]) -> Drawn:
    return Drawn(*([values[i] for i in rows] for values in drawn))  # type: ignore[misc]


def threshold(drawn: Drawn, drop: str) -> float:
    best = brute.largest_within(brute.every_threshold(*drawn), len(drawn.scores), Fraction(drop))
    return math.inf if best is None else best.threshold


@given(st.data(), pairs(), st.sampled_from(["-0.2", "0", "0.005", "0.1"]))
def test_a_draw_is_tuned_as_a_sweep_over_its_samples(data: st.DataObject, drawn: Drawn, drop: str) -> None:
    n = len(drawn.scores)
    rows = data.draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))
    tune = tuner(drawn.trace(), float(drop))
    assert tune(np.bincount(rows, minlength=n)) == threshold(repeated(drawn, rows), drop)


@given(st.data(), graded_traces(), st.sampled_from([-0.2, 0.0, 0.1]))
def test_a_draw_is_tuned_for_any_quality(data: st.DataObject, trace: Trace, drop: float) -> None:
    n = len(trace)
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n)))
    drawn = trace.take(rows)
    path = sweep(drawn.values[0], drawn.quality[0], drawn.quality[1])
    assert tuner(trace, drop)(np.bincount(rows, minlength=n)) == path.thresholds[path.last_feasible(drop)]


def test_draws_are_judged_on_the_other_half() -> None:
    rng = np.random.default_rng(1)
    score = np.round(rng.random(300), 2)
    saver = rng.random(300) < 0.5 + score / 2
    drawn = Drawn(score.tolist(), saver.tolist(), (rng.random(300) < 0.9).tolist())
    found = tuning_noise(drawn.trace(), 0.01, draws=25, seed=4)
    parts = split_rows(300, 0.5, 4)
    fit, judged = repeated(drawn, parts.fit.tolist()), repeated(drawn, parts.evaluation.tolist())
    draws = np.random.default_rng([4, 1])
    points = []
    for _ in range(25):
        t = threshold(repeated(fit, draws.integers(0, 150, 150).tolist()), "0.01")
        points.append(brute.count(*judged, t))
    exits, drops = [p.exited / 150 for p in points], [-p.gain / 150 for p in points]
    assert (found.exit_ratio.mean, found.exit_ratio.sd) == pytest.approx((np.mean(exits), np.std(exits, ddof=1)))
    assert (found.drop.mean, found.drop.sd) == pytest.approx((np.mean(drops), np.std(drops, ddof=1)))
    assert found.cost_sd == found.exit_ratio.sd
    assert found.broken == sum(Fraction(-p.gain, 150) > Fraction(1, 100) for p in points) / 25
    plain = brute.count(*judged, threshold(fit, "0.01"))
    assert found.plain == (plain.exited / 150, -plain.gain / 150)
    assert found == tuning_noise(drawn.trace(), 0.01, draws=25, seed=4)


def test_more_samples_are_less_noise() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(40_000)
    pair = trace_of([score], [rng.random(40_000) < 0.4 + 0.6 * score, rng.random(40_000) < 0.85])
    few = tuning_noise(pair.take(np.arange(400)), 0.0, draws=60)
    many = tuning_noise(pair, 0.0, draws=60)
    assert many.exit_ratio.sd < few.exit_ratio.sd / 2


def test_a_score_that_is_never_known_lets_nobody_exit() -> None:
    pair = trace_of([np.full(6, np.nan)], [[True] * 6] * 2)
    found = tuning_noise(pair, 0.5, draws=5)
    assert (found.exit_ratio.mean, found.drop.sd, found.broken) == (0.0, 0.0, 0.0)
    assert found.to_json()["threshold"] == ["inf", "inf"]


@pytest.mark.parametrize("options", [{"draws": 1}, {"holdout": 0.0}, {"holdout": 1.0}, {"max_drop": 7.0}, {"seed": -1}])
def test_what_makes_no_sense_is_refused(options: dict[str, float]) -> None:
    pair = trace_of([np.arange(4.0)], [[True] * 4] * 2)
    with pytest.raises(UsageError):
        tuning_noise(pair, **options)  # type: ignore[arg-type]
