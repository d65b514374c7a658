"""The drift alarm: what its bets are, how often it is false, what it finds, and what survives a restart."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from pilotfish.cascade import Artefact
from pilotfish.errors import UsageError
from pilotfish.plan import tune
from pilotfish.serve.watch.bands import Band, band_of, place_band, place_of
from pilotfish.serve.watch.drift import Alarm, Drift, bets
from support.pairs import Pair
from support.runs import write_pair

RATES = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 1e-12, 1 - 1e-12, 0.5])
QUANTILES = tuple(np.linspace(-2, 2, 101).tolist())


def fed(drift: Drift, exits: np.ndarray, scores: np.ndarray | None = None) -> Alarm | None:
    """The alarm that a stream raises, if it raises one."""
    known = np.zeros(len(exits)) if scores is None else scores
    return next((a for e, s in zip(exits.tolist(), known.tolist(), strict=True) if (a := drift.seen(e, s))), None)


@given(RATES, RATES, st.floats(0, 1))
def test_bets_are_fair_in_the_band_and_never_negative(one: float, other: float, inside: float) -> None:
    lo, hi = sorted((one, other))
    constant, slope, up = bets(lo, hi)
    mean = lo + inside * (hi - lo)
    assert (constant + slope * mean <= 1 + 1e-9).all()
    assert (constant >= -1e-9).all()
    assert (constant + slope >= -1e-9).all()
    assert up.any() == (hi < 1)
    assert (~up).any() == (1 - lo < 1)
    assert (slope[up] > 0).all()
    assert (slope[~up] < 0).all()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(-3, 3) | st.just(math.nan)), max_size=60),
    st.sampled_from([(0.6, 0.7), (0.0, 0.1), (0.9, 1.0)]),
    st.booleans(),
)
def test_it_is_the_average_of_plain_detectors(
    stream: list[tuple[bool, float]], ends: tuple[float, float], scored: bool
) -> None:
    """R = (R + 1) e for every bet by itself, in plain Python."""
    drift = Drift(Band(*ends, 100), QUANTILES if scored else (), 100 if scored else 0, average_run=1e80)  # never
    groups = [(bets(*ends), False)]
    if scored:
        assert drift.score_band is not None
        groups.append((bets(drift.score_band.lo, drift.score_band.hi), True))
    total = 0.0
    for group, of_scores in groups:
        sums = []
        for constant, slope in zip(group.constant.tolist(), group.slope.tolist(), strict=True):
            found = 0.0
            for exits, score in stream:
                if of_scores and math.isnan(score):
                    continue
                x = place_of(QUANTILES, score) / 200 if of_scores else float(exits)
                found = (found + 1) * (constant + slope * x)
            sums.append(found)
        total += float(np.mean(sums)) / len(groups)
    for exits, score in stream:
        drift.seen(exits, score)
    assert drift.level * 1e80 == pytest.approx(total, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("rate", [0.6, 0.65, 0.7])
def test_false_alarms_are_as_rare_as_is_said(rate: float) -> None:
    """Within T inputs in at most T / A of quiet streams, at both ends of the band and inside. A is small, so that there
    are some to count."""
    streams, T, A = 600, 400, 2000.0
    rng = np.random.default_rng(1)
    constant, slope, _ = bets(0.6, 0.7)
    sums = np.zeros((streams, len(constant)))
    cried = np.zeros(streams, bool)
    for _ in range(T):
        x = rng.random(streams) < rate
        sums = (sums + 1) * (constant + slope * x[:, None])
        cried |= sums.mean(axis=1) >= A
    assert binomtest(int(cried.sum()), streams, T / A, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize(
    ("true", "kind", "direction"),
    [(0.45, "exit ratio", "down"), (0.85, "exit ratio", "up"), (0.0, "exit ratio", "down"), (1.0, "exit ratio", "up")],
)
def test_a_changed_exit_ratio_raises_the_alarm(true: float, kind: str, direction: str) -> None:
    rng = np.random.default_rng(0)
    drift = Drift(Band(0.63, 0.71, 800, 0.67), average_run=1e5, clock=lambda: 123.0)
    assert fed(drift, rng.random(2000) < 0.67) is None
    alarm = fed(drift, rng.random(3000) < true)
    assert alarm is not None
    assert (alarm.kind, alarm.direction) == (kind, direction)
    assert (alarm.baseline, alarm.lo, alarm.hi, alarm.n, alarm.at) == (0.67, 0.63, 0.71, 800, 123.0)
    assert alarm.seen > 2000
    assert alarm is drift.alarm
    assert alarm.lately == pytest.approx(true, abs=0.12)  # those before the change are left out
    assert alarm.lately_n <= alarm.seen - 2000 + 300
    said = str(alarm)
    assert "0.670" in said
    assert "0.630 to 0.710 from 800 samples" in said


@pytest.mark.parametrize(("by", "direction"), [(0.6, "up"), (-0.6, "down")])
def test_scores_that_moved_raise_it_where_the_exit_ratio_stays(by: float, direction: str) -> None:
    rng = np.random.default_rng(3)
    usual = rng.normal(size=1000)
    drift = Drift(Band(0.0, 1.0, 1), np.quantile(usual, np.linspace(0, 1, 101)).tolist(), 1000, average_run=1e5)
    exits = np.ones(4000, bool)
    assert fed(drift, exits, rng.normal(size=4000)) is None
    alarm = fed(drift, exits, rng.normal(by, 1, 4000))
    assert alarm is not None
    assert (alarm.kind, alarm.direction, alarm.n, alarm.baseline) == ("score", direction, 1000, 0.5)
    assert drift.recent.psi is not None
    assert drift.recent.psi > 0


@pytest.mark.parametrize("always", [True, False])
def test_a_band_that_ends_at_0_or_1_is_watched_from_its_other_side(always: bool) -> None:
    drift = Drift(Band(0.99, 1.0, 400) if always else Band(0.0, 0.01, 400), average_run=1e4)
    assert fed(drift, np.full(20_000, always)) is None
    assert fed(drift, np.full(50, not always)) is not None


def test_a_band_of_nothing_says_that_nothing_is_watched() -> None:
    drift = Drift(Band(0.0, 1.0, 3))
    assert fed(drift, np.ones(100, bool)) is None
    assert "nothing is monitored" in drift.promise


def test_the_promise_names_run_bands_and_their_error() -> None:
    promise = Drift(Band(0.6, 0.7, 500), QUANTILES, 500, average_run=250_000).promise
    assert "T / 250,000" in promise
    assert "0.600 to 0.700" in promise
    assert "2.0%" in promise


def test_it_is_still_after_an_alarm_until_it_is_acknowledged() -> None:
    drift = Drift(Band(0.6, 0.7, 500), average_run=1e4)
    assert fed(drift, np.zeros(500, bool)) is not None
    assert fed(drift, np.zeros(500, bool)) is None
    assert drift.alarm is not None
    drift.quiet()
    assert (drift.alarm, drift.n, drift.level) == (None, 0, 0.0)
    assert fed(drift, np.zeros(500, bool)) is not None


@pytest.mark.parametrize("alarmed", [False, True])
def test_a_restart_changes_nothing(alarmed: bool) -> None:
    rng = np.random.default_rng(5)
    exits, scores = rng.random(1500) < (0.3 if alarmed else 0.66), rng.normal(size=1500)
    band = Band(0.6, 0.7, 500)
    one, other = (Drift(band, QUANTILES, 500, average_run=1e4) for _ in range(2))
    fed(one, exits, scores)
    other.restore(json.loads(json.dumps(one.to_state())))
    assert other.to_state() == one.to_state()
    assert (other.alarm is not None) == alarmed
    fed(one, exits[:200], scores[:200])
    fed(other, exits[:200], scores[:200])
    assert other.to_state() == one.to_state()
    assert other.recent.histogram == one.recent.histogram


@pytest.mark.parametrize(
    "damage",
    [
        {"sums": [1.0]},
        {"sums": None},
        {"sums": [math.inf] * 40},
        {"n": -1},
        {"alarm": {"kind": "x"}},
        {"recent": {"exits": "01", "places": "00"}},
        {"recent": {"exits": "0", "places": "ff"}},
        {"recent": None},
    ],
)
def test_a_damaged_state_is_refused_and_changes_nothing(damage: dict[str, object]) -> None:
    drift = Drift(Band(0.6, 0.7, 500), QUANTILES, 500)
    fed(drift, np.ones(10, bool))
    before = drift.to_state()
    with pytest.raises(ValueError):
        drift.restore({**before, **damage})
    assert drift.to_state() == before


def test_the_state_of_another_band_is_not_taken() -> None:
    drift, other = Drift(Band(0.6, 0.7, 500)), Drift(Band(0.6, 0.71, 500))
    fed(other, np.zeros(5, bool))
    assert not drift.restore(other.to_state())
    assert drift.n == 0


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=300), st.booleans())
def test_the_mean_place_of_the_samples_themselves_lies_in_the_band(values: list[float], rounded: bool) -> None:
    """F of the very samples that it comes from has a mean of 1/2 but for what 101 quantiles leave open."""
    ordered = np.sort(np.round(values) if rounded else np.array(values))
    ranks = (np.ceil(np.arange(101) / 100 * len(ordered)).astype(int) - 1).clip(0)
    quantiles = ordered[ranks].tolist()
    mean = np.mean([place_of(quantiles, value) / 200 for value in ordered.tolist()])
    band = place_band(quantiles, len(ordered), error=0.5)
    assert band.lo <= mean <= band.hi


def test_the_band_of_places_holds_as_often_as_is_said() -> None:
    """Continuous scores and ones that many samples share."""
    rng = np.random.default_rng(7)
    for levels in (None, 4):
        missed = 0
        for _ in range(300):
            sample, fresh = rng.normal(size=200), rng.normal(size=4000)
            if levels:
                sample, fresh = np.round(sample * levels / 4), np.round(fresh * levels / 4)
            quantiles = np.sort(sample)[(np.ceil(np.arange(101) / 100 * 200).astype(int) - 1).clip(0)].tolist()
            band = place_band(quantiles, 200, error=0.1)
            mean = np.mean([place_of(quantiles, value) for value in fresh[:400].tolist()]) / 200
            slack = 3 * 0.29 / math.sqrt(400)  # of the mean of 400
            missed += not band.lo - slack <= mean <= band.hi + slack
        assert binomtest(missed, 300, 0.1, alternative="greater").pvalue > 1e-3


# The band of a cascade.


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    rng = np.random.default_rng(0)
    scores = rng.random(600)
    pair = Pair(scores.tolist(), (rng.random(600) < scores).tolist(), (rng.random(600) < 0.9).tolist())
    return tune(write_pair(tmp_path_factory.mktemp("run"), pair), ["saver", "base"], max_drop=0.05).artefact


def test_held_out_samples_make_the_band(artefact: Artefact) -> None:
    judged = artefact.evaluation
    assert judged is not None
    band = band_of(artefact, error=0.05)
    k = round(judged.exit_ratio[0] * judged.n)
    exact = binomtest(k, judged.n).proportion_ci(0.95, "exact")
    assert (band.lo, band.hi) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert (band.baseline, band.n, band.note) == (judged.exit_ratio[0], judged.n, "")


def test_groups_are_what_is_counted(artefact: Artefact) -> None:
    assert artefact.evaluation is not None
    grouped = dataclasses.replace(artefact, evaluation=dataclasses.replace(artefact.evaluation, groups=40))
    wide, narrow = band_of(grouped), band_of(artefact)
    assert wide.n == 40
    assert wide.hi - wide.lo > narrow.hi - narrow.lo


def test_a_moved_point_has_the_figures_of_the_frontier(artefact: Artefact) -> None:
    moved = artefact.at(max_drop=0.0)
    band = band_of(moved, error=0.05)
    row = int(np.flatnonzero(artefact.frontier.thresholds[:, 0] == moved.operating_point.thresholds[0])[0])
    assert band.baseline == artefact.frontier.exit_ratio[row, 0]
    half = math.sqrt(math.log(40) / (2 * artefact.calibration.n))
    assert band.hi == pytest.approx(min(1.0, float(artefact.frontier.exit_ratio[row, 0]) + half))
    assert "chosen on" in band.note
    assert band_of(artefact.at(max_drop=0.05)).note == ""  # the point that was judged, once more


def test_without_held_out_samples_a_note_says_so(artefact: Artefact) -> None:
    band = band_of(dataclasses.replace(artefact, evaluation=None))
    assert "no samples were held out" in band.note
    assert band.baseline == artefact.calibration.exit_ratio[0]


@pytest.mark.parametrize("ends", [(0.7, 0.6), (-0.1, 0.5), (0.5, 1.1), (math.nan, 0.5)])
def test_a_band_is_two_shares(ends: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="band"):
        Band(*ends, 10)


@pytest.mark.parametrize(
    ("drift", "said"),
    [
        (Drift(Band(0.6, 0.7, 900), QUANTILES, 900), []),
        (Drift(Band(0.2, 0.8, 12), QUANTILES, 900), ["12 samples only show"]),
        (Drift(Band(0.6, 0.7, 900)), ["only the exit ratio is monitored"]),
        (Drift(Band(0.6, 0.7, 900, note="no samples were held out"), QUANTILES, 900), ["held out"]),
    ],
)
def test_what_is_odd_about_the_watch_is_said(drift: Drift, said: list[str]) -> None:
    assert len(drift.notes) == len(said)
    assert all(part in note for part, note in zip(said, drift.notes, strict=True))
