"""The governor: no window holds more escalations than it allows, whoever asks, whatever the clock does."""

from __future__ import annotations

import itertools
import json
import math
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.errors import UsageError
from pilotfish.serve.watch.governor import Governor
from support.clock import Clock

EIGHTHS = st.integers(0, 400).map(lambda k: k / 8)  # exact in nanoseconds
ARRIVALS = st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.125, 1.0]) | EIGHTHS, st.sampled_from("abc")), max_size=80)
RATES = st.sampled_from([0.25, 1.0, 2.0, 3.0, 7.5, 1000.0])
BURSTS = st.sampled_from([1.0, 1.5, 2.0, 5.0])


def most_in_any_window(times: list[float], rate: float, burst: float) -> bool:
    """Whether every window [s, t] between two escalations holds at most b + rho (t - s) of them."""
    for i, j in itertools.combinations_with_replacement(range(len(times)), 2):
        if j - i + 1 > burst + rate * (times[j] - times[i]) + 1e-6:
            return False
    return True


@settings(deadline=None)
@given(ARRIVALS, RATES, BURSTS, st.none() | RATES, BURSTS, st.integers(1, 3))
def test_no_window_holds_more_than_burst_and_rate(
    arrivals: list[tuple[float, str]], rate: float, burst: float, own: float | None, own_burst: float, rows: int
) -> None:
    clock = Clock()
    governor = Governor(rate, burst, own, None if own is None else own_burst, clients=rows, clock=clock)
    granted: list[tuple[float, str]] = []
    for gap, client in arrivals:
        clock.now += gap
        if governor.take(client):
            granted.append((clock.now, client))
    assert most_in_any_window([at for at, _ in granted], rate, burst)
    if own is not None:
        for client in "abc":
            assert most_in_any_window([at for at, who in granted if who == client], own, own_burst)
    assert (governor.granted, governor.denied) == (len(granted), len(arrivals) - len(granted))


@settings(deadline=None)
@given(st.lists(EIGHTHS, max_size=60), RATES, BURSTS)
def test_it_gives_what_a_plain_bucket_gives(gaps: list[float], rate: float, burst: float) -> None:
    """At rates that are whole numbers of nanoseconds, which 3 and 7.5 are not: those may come a tick later."""
    if rate in (3.0, 7.5):
        return
    clock, tokens = Clock(), burst
    governor = Governor(rate, burst, clock=clock)
    for gap in gaps:
        clock.now += gap
        tokens = min(burst, tokens + rate * gap)
        assert governor.tokens == pytest.approx(tokens, abs=1e-6)
        expected = tokens >= 1
        assert governor.take("a") == expected
        tokens -= expected


@given(st.lists(st.floats(-1e6, 1e6), max_size=60))
def test_clocks_that_jump_never_give_more_than_the_time_that_passed(jumps: list[float]) -> None:
    clock = Clock()
    governor = Governor(1.0, 3.0, clock=clock)
    latest, granted = clock.now, []
    for jump in jumps:
        clock.now += jump
        latest = max(latest, clock.now)
        if governor.take("a"):
            granted.append(latest)
    assert most_in_any_window(granted, 1.0, 3.0)


@pytest.mark.parametrize("rate", [0.5, 2.0, 0.0])
def test_it_says_how_long_to_wait(rate: float) -> None:
    clock = Clock()
    governor = Governor(rate, 2.0, clock=clock)
    assert governor.wait("a") == 0
    assert [governor.take("a") for _ in range(3)] == [True, True, False]
    if rate == 0:
        assert governor.wait("a") == 3600  # never; an hour is as long as anybody is told
        clock.now += 1e9
        assert not governor.take("a")
        return
    wait = governor.wait("a")
    assert wait == pytest.approx(1 / rate)
    clock.now += wait - 1e-6
    assert not governor.take("a")
    clock.now += 2e-6
    assert governor.take("a")


def test_one_client_cannot_take_what_others_need() -> None:
    clock = Clock()
    governor = Governor(10.0, 10.0, 2.0, 2.0, clock=clock)
    assert sum(governor.take("greedy") for _ in range(100)) == 2
    assert governor.take("modest")
    assert governor.wait("greedy") == pytest.approx(0.5)
    assert governor.wait("modest") == 0


@pytest.mark.parametrize("others", [5, 500])
def test_a_flood_of_addresses_does_not_refill_anybody(others: int) -> None:
    """Rows are let go only when they say nothing, and there is room for every one that can say something."""
    clock = Clock()
    governor = Governor(100.0, 1000.0, 1.0, 2.0, clients=4, clock=clock)
    assert [governor.take("a") for _ in range(3)] == [True, True, False]
    taken = sum(governor.take(f"10.0.0.{i}") for i in range(others))
    assert not governor.take("a")
    assert taken <= 3 + 2  # three rows of one each, and the shared bucket
    clock.now += 60
    assert [governor.take("a") for _ in range(3)] == [True, True, False]
    assert len(governor) == 1


def test_the_table_never_runs_over_where_it_holds_what_can_get_through() -> None:
    """b + (rho / client_rate) client_burst rows are enough."""
    clock, most = Clock(), 0
    governor = Governor(20.0, 10.0, 1.0, 3.0, clients=10_000, clock=clock)
    for i in range(4000):
        clock.now += 0.01
        governor.take(f"address {i}")
        most = max(most, len(governor))
    assert 0 < most <= 10 + 20 / 1 * 3


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_a_restart_owes_what_was_owed(seconds: float) -> None:
    """However long it took: a process that is killed again and again gives nothing away."""
    clock = Clock(5.0 + seconds)
    one, other = (Governor(1.0, 5.0, 0.5, 2.0, clock=made) for made in (Clock(), clock))
    for client in "aab":
        one.take(client)
    other.restore(json.loads(json.dumps(one.to_state())))
    assert other.tokens == pytest.approx(one.tokens)
    assert not other.take("a")
    assert other.take("b")


@pytest.mark.parametrize(
    "state", [{}, {"all": -1, "clients": {}}, {"all": 0, "clients": {"a": -5}}, {"all": "x", "clients": {}}, {"all": 0}]
)
def test_a_damaged_state_is_refused(state: dict[str, object]) -> None:
    governor = Governor(1.0, 5.0, 0.5, clock=Clock())
    governor.take("a")
    before = governor.to_state()
    with pytest.raises(ValueError, match="governor"):
        governor.restore(state)
    assert governor.to_state() == before


@pytest.mark.parametrize("rate_and_burst", [(-1.0, 2.0), (1.0, 0.5), (math.nan, 2.0), (math.inf, 2.0), (1.0, math.inf)])
def test_rates_and_bursts_that_mean_nothing_are_refused(rate_and_burst: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="burst at least 1"):
        Governor(*rate_and_burst)


def test_threads_share_one() -> None:
    governor = Governor(0.0, 500.0, 0.0, 100.0, clock=Clock())
    taken: list[bool] = []

    def ask(client: str) -> None:
        taken.extend(governor.take(client) for _ in range(300))

    threads = [threading.Thread(target=ask, args=(str(i % 4),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == governor.granted == 400
    assert governor.denied == 8 * 300 - 400
