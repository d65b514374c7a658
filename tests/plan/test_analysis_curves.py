"""r_match curves, the choice of a saver, transfer between splits: against counts by hand and in loops."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.documents import as_document
from pilotfish.errors import UsageError
from pilotfish.plan.analysis import gain_curve, selection, transfers
from pilotfish.plan.analysis.transfer import two_sample
from pilotfish.plan.trace import Trace, trace_of
from support import brute
from support.pairs import Pair as Drawn
from support.pairs import graded_traces, pairs

DROPS = st.sampled_from(["0", "0.01", "0.1", "0.5"])


def pair_of(drawn: Drawn, saver: str = "s", saver_cost: float = 2.0, base_cost: float | None = 10.0) -> Trace:
    return drawn.trace(None if base_cost is None else (saver_cost, base_cost), saver)


def chosen(drawn: Drawn, drop: str) -> brute.Point:
    found = brute.largest_within(brute.every_threshold(*drawn), len(drawn.scores), Fraction(drop))
    return found or brute.Point(math.inf, 0, 0)


@given(pairs())
def test_the_curve_is_every_threshold(drawn: Drawn) -> None:
    points, n = brute.every_threshold(*drawn), len(drawn.scores)
    curve = gain_curve(pair_of(drawn))
    assert curve.exit_ratio.tolist() == [p.exited / n for p in points]
    assert curve.gain.tolist() == [p.gain / n for p in points]
    best = chosen(drawn, "0")
    assert (curve.r_match, curve.threshold) == (best.exited / n, best.threshold)
    for point, saver, base in zip(points[1:], curve.saver[1:], curve.base[1:], strict=True):
        inside = [i for i, s in enumerate(drawn.scores) if s >= point.threshold]
        assert saver == pytest.approx(sum(drawn.saver_ok[i] for i in inside) / len(inside))
        assert base == pytest.approx(sum(drawn.base_ok[i] for i in inside) / len(inside))
    json.dumps(as_document(curve), allow_nan=False)


@given(graded_traces())
def test_the_curve_adds_up_any_quality(trace: Trace) -> None:
    curve, (score,) = gain_curve(trace), trace.values
    for r, gain, saver, base in zip(curve.exit_ratio, curve.gain, curve.saver, curve.base, strict=True):
        exits = score >= (math.inf if r == 0 else np.sort(score[~np.isnan(score)])[::-1][round(r * len(score)) - 1])
        s, b = trace.quality[0][exits], trace.quality[1][exits]
        assert gain * len(trace) == pytest.approx(s.sum() - b.sum())
        assert r == 0 or (saver, base) == pytest.approx((s.mean(), b.mean()))
    assert curve.r_match == max(curve.exit_ratio[curve.gain >= 0])


@given(graded_traces(costs=(2.0, 10.0)), graded_traces(costs=(2.0, 10.0)))
def test_a_threshold_is_carried_over_for_any_quality(a: Trace, b: Trace) -> None:
    found, back = transfers({"val": a, "v2": b}, 0.1)
    (chosen,) = selection([a], [b], 0.1).savers
    exits = b.values[0] >= found.threshold
    assert found.drop == pytest.approx(float((b.quality[1] - b.quality[0])[exits].sum()) / len(b), abs=1e-12)
    assert (found.exit_ratio, found.drop, found.threshold) == (chosen.exit_ratio, chosen.drop, chosen.threshold)
    assert (found.delta_cost, found.own_exit_ratio) == (chosen.delta, chosen.own_exit_ratio)
    assert found.own_exit_ratio == back.tuned_exit_ratio
    json.dumps(as_document(found), allow_nan=False)


def test_a_long_curve_is_thinned_and_keeps_what_matters() -> None:
    rng = np.random.default_rng(0)
    pair = trace_of([rng.permutation(20_000) / 20_000], rng.random((2, 20_000)) < 0.9)
    full, thin = gain_curve(pair, most=10**6), gain_curve(pair)
    assert len(full.exit_ratio) == 20_001
    assert len(thin.exit_ratio) <= 500
    assert thin.r_match == full.r_match
    assert thin.r_match in thin.exit_ratio
    assert (thin.exit_ratio[0], thin.exit_ratio[-1]) == (0.0, 1.0)
    at = dict(zip(full.exit_ratio.tolist(), full.gain.tolist(), strict=True))
    assert all(at[r] == g for r, g in zip(thin.exit_ratio.tolist(), thin.gain.tolist(), strict=True))
    assert np.diff(thin.exit_ratio).max() < 0.01


@given(st.lists(st.tuples(pairs(largest=12), pairs(largest=12)), min_size=1, max_size=5), DROPS)
def test_selection(drawn: list[tuple[Drawn, Drawn]], drop: str) -> None:
    costs = [1.0 + i for i in range(len(drawn))]
    train = [pair_of(a, f"s{i}", costs[i]) for i, (a, _) in enumerate(drawn)]
    judged = [pair_of(b, f"s{i}", costs[i]) for i, (_, b) in enumerate(drawn)]
    found = selection(train, judged, float(drop))
    on_train, there = {}, {}
    for i, (a, b) in enumerate(drawn):
        point = chosen(a, drop)
        kept = brute.count(*b, point.threshold)
        on_train[f"s{i}"] = Fraction(1 + i, 10) - Fraction(point.exited, len(a.scores))
        there[f"s{i}"] = Fraction(1 + i, 10) - Fraction(kept.exited, len(b.scores))
        row = next(s for s in found.savers if s.saver == f"s{i}")
        assert row.train_delta == pytest.approx(float(on_train[f"s{i}"]))
        assert row.delta == pytest.approx(float(there[f"s{i}"]))
        assert row.drop == -kept.gain / len(b.scores)
        assert row.own_exit_ratio == chosen(b, drop).exited / len(b.scores)
    train_deltas = [s.train_delta for s in found.savers]
    assert train_deltas == sorted(train_deltas, key=lambda d: d or 0.0)
    first = found.savers[0].saver
    assert found.selected == (first if on_train[first] < 0 else None)
    reached = there[first] if on_train[first] < 0 else Fraction(0)
    assert found.regret == pytest.approx(float(reached - min(0, *there.values())), abs=1e-12)
    assert found.regret >= -1e-12
    assert (found.spearman is None) >= (len(drawn) < 3)


def test_selection_by_hand() -> None:
    """The saver that looks best on train lets nobody exit elsewhere: its whole cost is regretted."""
    good = Drawn([0.9, 0.8, 0.7, 0.6], [True] * 4, [True] * 4)
    shifted = Drawn([0.1, 0.1, 0.1, 0.1], [True] * 4, [True] * 4)
    half = Drawn([0.9, 0.8, 0.2, 0.1], [True, True, False, False], [True] * 4)
    train = [pair_of(Drawn([*good.scores, 0.0], [True] * 4 + [False], [True] * 5), "glib"), pair_of(half, "plain")]
    found = selection(train, [pair_of(shifted, "glib"), pair_of(half, "plain")])
    assert (found.selected, found.best, found.by) == ("glib", "plain", "delta_cost")
    assert [s.delta for s in found.savers] == pytest.approx([0.2, -0.3])
    assert found.regret == pytest.approx(0.5)
    assert found.spearman is None


def test_selection_without_costs_goes_by_exit_ratio() -> None:
    drawn = Drawn([0.9, 0.1], [True, False], [True, True])
    found = selection([pair_of(drawn, base_cost=None)], [pair_of(drawn, base_cost=None)])
    assert (found.by, found.savers[0].delta, found.savers[0].exit_ratio, found.selected) == (
        "exit_ratio",
        None,
        0.5,
        "s",
    )


@given(pairs(), pairs(), DROPS)
def test_transfer(a: Drawn, b: Drawn, drop: str) -> None:
    both = transfers({"val": pair_of(a), "v2": pair_of(b)}, float(drop))
    assert [(t.tuned_on, t.judged_on) for t in both] == [("val", "v2"), ("v2", "val")]
    for found, here, there in zip(both, (a, b), (b, a), strict=True):
        point = chosen(here, drop)
        kept = brute.count(*there, point.threshold)
        r_here, r = point.exited / len(here.scores), kept.exited / len(there.scores)
        assert (found.threshold, found.tuned_exit_ratio, found.exit_ratio) == (point.threshold, r_here, r)
        assert found.drop == -kept.gain / len(there.scores)
        assert found.drop_interval[0] <= found.drop <= found.drop_interval[1]
        assert found.delta_cost == pytest.approx(0.2 - r)
        assert found.own_exit_ratio == chosen(there, drop).exited / len(there.scores)
        cost_here, cost_there = 2 + (1 - r_here) * 10, 2 + (1 - r) * 10
        assert found.cost_shift * 10 == pytest.approx(cost_there - cost_here, abs=1e-12)
        json.dumps(as_document(found), allow_nan=False)


def test_two_sample_by_hand_and_by_permutation() -> None:
    assert two_sample(50, 100, 40, 100) == pytest.approx((1.4213381, 0.1552184), abs=1e-6)  # 0.1 / sqrt(.45 .55 .02)
    assert two_sample(5, 5, 7, 7) == (0.0, 1.0)
    assert two_sample(0, 5, 0, 7) == (0.0, 1.0)
    z, p = two_sample(900, 1000, 600, 1000)
    assert z > 10
    assert p < 1e-20
    rng = np.random.default_rng(0)
    ones = np.arange(1000) < 450
    shifts = [abs(rng.permutation(ones)[:400].mean() - ones.mean()) for _ in range(2000)]
    seen = 200 / 400
    expected = np.mean([s >= abs(seen - 0.45) - 1e-12 for s in shifts])
    assert two_sample(200, 400, 250, 600)[1] == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("drop", [5.0, math.nan])
def test_what_is_no_drop_is_refused(drop: float) -> None:
    pair = pair_of(Drawn([0.5], [True], [True]))
    with pytest.raises(UsageError, match="max_drop is a fraction"):
        selection([pair], [pair], drop)
    with pytest.raises(UsageError, match="max_drop is a fraction"):
        transfers({"a": pair, "b": pair}, drop)
