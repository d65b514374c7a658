"""What is counted while a cascade is served, against counts by hand."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotfish.cascade import Artefact
from pilotfish.plan import tune
from pilotfish.runtime import Answer
from pilotfish.serve.report.latencies import BUCKETS, FINE, STEPS, Latencies, quantiles_of
from pilotfish.serve.report.metrics import BATCHES, Meter
from pilotfish.serve.served import Served
from support.pairs import Pair
from support.runs import write_pair


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """A saver that costs 1 and a base that costs 10."""
    rng = np.random.default_rng(0)
    scores = rng.permutation(200) / 200
    pair = Pair(scores.tolist(), (rng.random(200) < scores).tolist(), [True] * 200)
    return tune(write_pair(tmp_path_factory.mktemp("run"), pair), ["saver", "base"], max_drop=0.1).artefact


def served(stage: int | None, *flags: str) -> Served:
    error = "broken" if stage is None else None
    return Served(None, Answer("0", 0, None, 0.9, stage, error), flags, cause=None if stage is not None else "model")


# How long answers took


def test_buckets_of_prometheus_are_bounds_of_the_finer_ones() -> None:
    assert FINE[::STEPS] == list(BUCKETS)
    assert all(low < high < low * 1.11 for low, high in pairwise(FINE))


@given(st.lists(st.floats(0, 100), max_size=60))
def test_counts_are_those_of_a_loop(seconds: list[float]) -> None:
    latencies = Latencies(2)
    for value in seconds:
        latencies.add(1, value)
    cumulative = [sum(value <= bound for value in seconds) for bound in (*BUCKETS, np.inf)]
    assert np.cumsum(latencies.counts[1]).tolist() == cumulative
    assert not latencies.counts[0].any()
    assert latencies.sums == pytest.approx([0.0, sum(seconds)])


@given(st.lists(st.floats(0.0002, 50), min_size=1, max_size=80), st.floats(0.01, 0.99))
def test_quantiles_are_near_the_exact_ones(seconds: list[float], level: float) -> None:
    latencies = Latencies(1)
    for value in seconds:
        latencies.add(0, value)
    (found,) = quantiles_of(latencies.recent()[0], [level]) or ()
    exact = sorted(seconds)[max(1, int(np.ceil(level * len(seconds)))) - 1]
    assert found == pytest.approx(exact, rel=0.06)


def test_quantiles_forget_and_counts_do_not() -> None:
    clock = Clock()
    latencies = Latencies(1, seconds=60, slots=6, clock=clock)
    latencies.add(0, 10.0)
    clock.now += 30
    latencies.add(0, 0.001)
    assert quantiles_of(latencies.recent()[0], [1.0]) == pytest.approx([10.0], rel=0.06)
    clock.now += 45  # the first is 75 seconds ago
    assert quantiles_of(latencies.recent()[0], [1.0]) == pytest.approx([0.001], rel=0.06)
    clock.now += 1000
    assert quantiles_of(latencies.recent()[0], [1.0]) is None
    assert latencies.counts.sum() == 2


def test_memory_is_that_of_the_slots() -> None:
    clock = Clock()
    latencies = Latencies(2, seconds=60, slots=6, clock=clock)
    for _ in range(500):
        clock.now += 10
        latencies.add(0, 0.01)
    assert len(latencies._closed) == 6
    assert latencies.counts.sum() == 500


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(0, 1)), max_size=80))
def test_recent_ones_are_of_the_window_give_or_take_a_slot(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    latencies = Latencies(2, seconds=60, slots=6, clock=clock)
    times = []
    for wait, stage in steps:
        clock.now += wait
        latencies.add(stage, 0.5)
        times.append(clock.now)
    counts = latencies.recent()
    surely = sum(clock.now - at <= 50 for at in times)
    perhaps = sum(clock.now - at <= 70 for at in times)
    assert surely <= counts.sum() <= perhaps


def test_one_more_stage_keeps_what_was_counted() -> None:
    latencies = Latencies(1)
    latencies.add(0, 0.2)
    latencies.one_more()
    latencies.add(1, 0.4)
    assert latencies.counts.sum(axis=1).tolist() == [1, 1]
    assert latencies.recent().sum(axis=1).tolist() == [1, 1]


# The meter


def test_answers_are_counted_by_stage_and_their_cost_beside_the_base(artefact: Artefact) -> None:
    meter = Meter(artefact)
    assert (meter.exit_ratio(), meter.saved()) == (None, None)
    for stage in (0, 0, 0, 1):
        meter.answered(served(stage), 0.01)
    meter.answered(served(None), 0.01)
    assert [stage.answered for stage in meter.stages] == [3, 1]
    assert meter.causes.errors["model"] == 1
    assert meter.exit_ratio() == [0.75, 0.25]
    assert meter.spent == pytest.approx(3 * 1 + 11)
    assert meter.saved() == pytest.approx(1 - 14 / 40)
    meter.audited(0)
    assert meter.spent == pytest.approx(24)
    assert meter.audits == 1


def test_an_audit_costs_what_comes_after_the_exit(artefact: Artefact) -> None:
    meter = Meter(artefact)
    meter.costs = (1.0, 3.0, 13.0)
    meter.audited(0)
    meter.audited(1)
    assert (meter.audits, meter.spent) == (2, 12.0 + 10.0)


@pytest.mark.parametrize(
    ("cause", "part", "counted"),
    [
        ("full", "shed", "full"),
        ("deadline", "shed", "deadline"),
        ("bad_request", "errors", "bad_request"),
        ("never heard of", "errors", "other"),
        ("x" * 10000, "errors", "other"),
    ],
)
def test_causes_are_a_short_list(artefact: Artefact, cause: str, part: str, counted: str) -> None:
    meter = Meter(artefact)
    before = len(meter.causes.shed), len(meter.causes.errors)
    meter.refused(cause, 3)
    assert getattr(meter.causes, part)[counted] == 3
    assert (len(meter.causes.shed), len(meter.causes.errors)) == before


def test_batches_are_counted_by_size_and_their_inputs_by_wait(artefact: Artefact) -> None:
    meter = Meter(artefact)
    meter.batch(0, 3, [0.0, 0.01, 0.02], 0.3)
    meter.batch(0, 1, [0.5], 0.1)
    meter.batch(1, 3, [0.0] * 3, 0.6)
    first = meter.stages[0]
    assert (sum(first.queue.counts), first.queue.sum) == (4, pytest.approx(0.53))
    assert (sum(first.compute.counts), first.compute.sum) == (2, pytest.approx(0.4))
    assert first.sizes.counts[BATCHES.index(4.0)] == 1
    assert meter.batches == {3: [2, pytest.approx(0.9)], 1: [1, 0.1]}
    assert meter.input_seconds == pytest.approx(3 * 0.3 + 0.1 + 3 * 0.6)


def test_a_flag_or_an_alarm_that_is_new_is_counted_as_other(artefact: Artefact) -> None:
    meter = Meter(artefact)
    meter.answered(served(0, "governed", "made up"), 0.01)
    assert {flag: n for flag, n in meter.flags.items() if n} == {"governed": 1, "other": 1}


def test_counts_never_fall_while_threads_count(artefact: Artefact) -> None:
    """Prometheus takes a count that falls for a restart."""
    clock = Clock()
    meter = Meter(artefact, clock=clock)

    def work() -> None:
        for _ in range(3000):
            clock.now += 1.0  # slots of ten seconds are closed all the time
            meter.answered(served(0), 0.01)
            meter.batch(0, 2, [0.0, 0.1], 0.01)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    last = 0
    while any(thread.is_alive() for thread in threads):
        (counts, _), _ = meter.answer_seconds()
        assert sum(counts) >= last
        last = sum(counts)
        meter.recent()
    (counts, seconds), _ = meter.answer_seconds()
    assert (sum(counts), seconds) == (9000, pytest.approx(90.0))
    assert (meter.stages[0].answered, sum(meter.stages[0].queue.counts)) == (9000, 18000)
