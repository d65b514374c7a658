"""The bench: its arithmetic, its mask and its document. No test here depends on how fast anything is."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pilotfish.data import load_data
from pilotfish.errors import DataError, UsageError
from pilotfish.runtime import BenchResult, Cascade, bench, single_times
from pilotfish.runtime.single_times import REQUESTS, time_requests
from pilotfish.runtime.spread import Latency

if TYPE_CHECKING:
    from conftest import Pair


@pytest.fixture
def cascade(pair: Pair) -> Cascade:
    return Cascade.load(pair.cascade, allow_python=pair.allowed)


def assert_consistent(result: BenchResult, runs: int) -> None:
    document: dict[str, Any] = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert {"machine", "exit_ratio", "model_only", "end_to_end", "speedup"} <= document.keys()
    assert document["runs"] == runs
    assert math.isclose(sum(document["exit_ratio"]), 1)
    assert {"processor", "cores", "python", "numpy"} <= document["machine"].keys()
    for times in (document["model_only"], document["end_to_end"]):
        assert {"stages_ms", "ideal_ms", "realised_ms", "efficiency"} <= times.keys()
        assert len(times["stages_ms"]) == 2
        spread = times["spread"]
        for key in ("ideal_ms", "realised_ms", "efficiency"):
            assert spread[key][0] <= times[key] <= spread[key][1]
    assert document["single"]["n"] == result.single.requests.n == min(result.n, REQUESTS)
    assert document["single"]["exit_ratio"] == pytest.approx(document["exit_ratio"], abs=1 / result.n)
    for key in ("saver", "base", "cascade"):
        assert 0 < document["single"][key]["p50"] <= document["single"][key]["p95"] <= document["single"][key]["p99"]
    if runs == 1:  # one run: the medians are that run's numbers
        for times in (result.model_only, result.end_to_end):
            saver, base = (s.median for s in times.stages_ms)
            assert times.ideal_ms.median == pytest.approx(saver + (1 - result.exit_ratio[0]) * base)
            assert times.efficiency.median == pytest.approx(times.ideal_ms.median / times.realised_ms.median)
        whole = result.end_to_end
        assert whole.base_ms == whole.stages_ms[1]
        assert result.speedup.median == pytest.approx(whole.stages_ms[1].median / whole.realised_ms.median)


def test_the_document_adds_up(pair: Pair, cascade: Cascade) -> None:
    result = bench(cascade, pair.data, runs=1, samples=80)
    assert result.n == 80
    assert_consistent(result, 1)
    answers = cascade.predict(pair.images[:80])
    assert result.exit_ratio[0] == pytest.approx(np.mean([a.stage == 0 for a in answers]), abs=1 / 80)


def test_few_tensors_stand_for_many(pair: Pair, cascade: Cascade, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is gone through again; the exits are still those of the samples."""
    expected = bench(cascade, pair.data, runs=1, samples=80)
    monkeypatch.setattr(
        sys.modules["pilotfish.runtime.bench"], "HELD_BYTES", 7 * 2 * 4 * 48
    )  # seven samples at two stages
    few = bench(cascade, pair.data, runs=1, samples=80)
    assert (few.n, few.exit_ratio) == (80, expected.exit_ratio)
    assert_consistent(few, 1)


@pytest.mark.parametrize("forced", [None, 0.25])
def test_little_time_means_fewer_samples_with_the_same_exits(
    forced: float | None, pair: Pair, cascade: Cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["pilotfish.runtime.bench"], "LEAST_SAMPLES", 20)
    every = bench(cascade, pair.data, runs=1, samples=80, exit_ratio=forced, peers=False)
    few = bench(cascade, pair.data, runs=1, samples=80, exit_ratio=forced, peers=False, seconds=1e-9)
    assert (every.n, few.n) == (80, 20)
    assert few.exit_ratio == pytest.approx(every.exit_ratio, abs=1 / 20)
    assert_consistent(few, 1)
    enough = bench(cascade, pair.data, runs=1, samples=80, exit_ratio=forced, peers=False, seconds=1e9)
    assert enough.n == 80


def test_another_cascade_is_timed_in_the_same_turns(pair: Pair, cascade: Cascade) -> None:
    twin = Cascade(cascade.artefact, cascade.models)
    result = bench(cascade, pair.data, runs=1, samples=40, peers=False, beside={"twin": twin})
    [peer] = result.peers
    assert peer.name == "twin"
    assert peer.end_to_end_ratio.median == pytest.approx(peer.end_to_end.median / result.end_to_end.realised_ms.median)
    assert peer.model_only_ratio is not None
    assert result.to_json()["peers"][0]["model_only_ratio"] == peer.model_only_ratio.median


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_is_forced_by_a_mask(share: float, pair: Pair, cascade: Cascade) -> None:
    calls: list[tuple[str, int, int]] = []
    result = bench(cascade, pair.data, exit_ratio=share, runs=2, samples=40, progress=lambda *c: calls.append(c))
    assert_consistent(result, 2)
    assert result.exit_ratio == (share, 1 - share)
    assert result.to_json()["forced_exit_ratio"] == share
    assert all(0 <= done <= total for _, done, total in calls)
    assert ("file to answer", 3, 3) in calls


class Clock:
    """Time that passes where models and files say so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize("forced", [None, [0, 1] * 35], ids=["scores decide", "forced"])
def test_a_request_is_its_file_and_the_stages_it_reaches(
    forced: list[int] | None, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(single_times, "time", clock)
    for name, seconds in (("saver", 1), ("base", 10)):
        own = getattr(pair.module, name)

        def slow(batch: np.ndarray, own: Any = own, seconds: int = seconds) -> np.ndarray:
            assert len(batch) == 1
            clock.now += seconds
            return own(batch)  # type: ignore[no-any-return]

        slow.preprocessing, slow.weights_hash = own.preprocessing, own.weights_hash  # type: ignore[attr-defined]
        monkeypatch.setattr(pair.module, name, slow)
    cascade = Cascade.load(pair.cascade, allow_python=pair.allowed)

    def read(row: int) -> np.ndarray:
        clock.now += row / 1000  # decoded once, whatever it reaches
        found: np.ndarray = pair.images[row]
        return found

    rows, told = list(range(70)), list[tuple[int, int]]()
    stops = np.array(forced or [cascade.predict_one(pair.images[row]).stage for row in rows])
    mask = None if forced is None else stops
    found = time_requests(cascade, read, rows, mask, lambda *done: told.append(done))
    assert (found.n, told[0], told[-1]) == (70, (0, 70), (70, 70))
    assert found.exit_ratio == ((stops == 0).mean(), (stops == 1).mean())
    reading = np.array(rows, float)
    expected = {"saver": 1000 + reading, "base": 10_000 + reading, "cascade": 1000 + 10_000 * stops + reading}
    for key, ms in expected.items():
        percentiles = [np.sort(ms)[math.ceil(q * 70) - 1] for q in (0.5, 0.95, 0.99)]
        latency: Latency = getattr(found, key)
        assert [latency.p50, latency.p95, latency.p99] == pytest.approx(percentiles)


@pytest.mark.parametrize("n", [1, 2, 99, 100, 101, 500])
def test_percentiles_are_times_that_were_measured(n: int) -> None:
    ms = np.random.default_rng(n).exponential(size=n)
    found = Latency.of(ms.tolist())
    for share, value in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        assert value in ms
        assert (ms <= value).mean() >= share
        assert (ms < value).mean() < share


def test_samples_that_cannot_be_read_are_left_out(pair: Pair, cascade: Cascade) -> None:
    floats = np.zeros((5, 8, 8, 3), np.float32)
    np.savez(pair.folder / "floats.npz", x=floats)
    with pytest.raises(DataError, match=r"none of the 5 samples of .* could be read"):
        bench(cascade, load_data(f"arrays:{pair.folder}/floats.npz"))


@pytest.mark.parametrize("options", [{"exit_ratio": 1.5}, {"exit_ratio": -0.1}, {"runs": 0}, {"samples": 0}])
def test_settings_that_make_no_sense(options: dict[str, Any], pair: Pair, cascade: Cascade) -> None:
    with pytest.raises(UsageError, match=r"is a share from 0 to 1|must be at least 1"):
        bench(cascade, pair.data, **options)
