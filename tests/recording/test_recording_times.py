"""Time per sample by scenario: recorded once, added to later, and what savers are chosen by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.data import Dataset
from pilotfish.errors import RecordsError
from pilotfish.machine import cpu_count, device_name
from pilotfish.models import Model
from pilotfish.models.costs.timing import BATCH_SIZES, CUDA_BATCH_SIZES, Timing, time_batches
from pilotfish.models.preprocessing import AS_IT_IS
from pilotfish.plan import rank_savers
from pilotfish.recording import RecordOptions, planned, record_model, time_samples
from pilotfish.records import Run, SampleTimes
from pilotfish.records.parquet import decode_meta, record_columns
from pilotfish.tasks import CLASSES
from support.pairs import Pair
from support.process import command
from support.runs import write_pair

RNG = np.random.default_rng(0)


def test_scenarios_are_named_by_device_and_batch_size(
    arrays: Callable[..., Dataset], matrix_model: Callable[..., Model], tmp_path: Path
) -> None:
    data, run = arrays(x=RNG.standard_normal((30, 6)).astype(np.float32)), Run(tmp_path)
    model = matrix_model(RNG.standard_normal((6, 4)).astype(np.float32), n_classes=4)
    record_model(data, model, run, "m", RecordOptions())
    costs = run.read("m").meta.costs
    assert {"ms", "ms@cpu", "ms@cpu-b1", "ms@cpu-b8"} <= set(costs)
    assert costs["ms"] == costs["ms@cpu"] <= min(costs[f"ms@cpu-b{n}"] for n in (1, 2, 4, 8))


def test_times_are_added_to_records_that_have_none(
    arrays: Callable[..., Dataset], matrix_model: Callable[..., Model], tmp_path: Path
) -> None:
    data, run = arrays(x=RNG.standard_normal((30, 6)).astype(np.float32)), Run(tmp_path)
    model = matrix_model(RNG.standard_normal((6, 4)).astype(np.float32), n_classes=4)
    record_model(data, model, run, "m", RecordOptions(timing=False, costs={"usd": 0.5}))
    before = run.read("m", columns=record_columns(CLASSES, everything=True))
    assert not any(key.startswith("ms") for key in before.meta.costs)
    again = record_model(data, model, run, "m", RecordOptions())
    assert again.skipped
    after = run.read("m", columns=record_columns(CLASSES, everything=True))
    assert {"ms@cpu", "ms@cpu-b1"} <= set(after.meta.costs)
    assert after.meta.costs["usd"] == 0.5
    assert np.array_equal(after.outputs.log_odds, before.outputs.log_odds)
    once = dict(after.meta.costs)
    record_model(data, model, run, "m", RecordOptions())
    assert dict(run.read("m").meta.costs) == once  # measured once per device


def test_the_scenarios_of_the_papers_are_measured() -> None:
    assert BATCH_SIZES[0] == 1
    assert {1, 128, 512} <= set(CUDA_BATCH_SIZES)
    timing = Timing({1: 2.0, 128: 0.5, 512: 0.505}, throughput=0.4)
    assert timing.best == 128
    assert timing.costs("cuda") == {
        "ms": 0.4,
        "ms@cuda": 0.4,
        "ms@cuda-b1": 2.0,
        "ms@cuda-b128": 0.5,
        "ms@cuda-b512": 0.505,
    }


def test_lanes_are_measured_where_a_backend_can_run_on_fewer_threads() -> None:
    class Counted:
        name = "counted"

        def __init__(self, threads: int, log: list[tuple[int, int]]) -> None:
            self.threads, self.log = threads, log

        def with_threads(self, threads: int) -> Counted:
            return Counted(threads, self.log)

        def step(self, inputs: np.ndarray, carry: object = None) -> tuple[np.ndarray, None]:
            self.log.append((self.threads, len(inputs)))
            return np.zeros((len(inputs), 2), np.float32), None

    log: list[tuple[int, int]] = []
    found = time_batches(Counted(8, log), (3,), seconds=0.2)
    assert {threads for threads, _ in log} <= {1, 8}
    assert found.throughput <= min(found.ms.values())


class Slow:
    """A backend whose calls take a minute per sample, on a clock of its own."""

    name = "slow"

    def __init__(self, clock: list[float], log: list[int]) -> None:
        self.clock, self.log = clock, log

    def with_threads(self, threads: int) -> Slow:
        return self

    def step(self, inputs: np.ndarray, carry: object = None) -> tuple[np.ndarray, None]:
        self.clock[0] += 60.0 * len(inputs)
        self.log.append(len(inputs))
        return np.zeros((len(inputs), 2), np.float32), None


def test_a_slow_model_is_timed_on_the_smallest_batches_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = [0.0], []
    monkeypatch.setattr("pilotfish.models.costs.timing.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("pilotfish.models.costs.timing.cpu_count", lambda: 2)
    found = time_batches(Slow(clock, log), (3,))
    assert sorted(found.ms) == [1, 2, 4, 8]
    assert list(found.lanes) == [2]  # one size of many calls is enough


@pytest.mark.parametrize(
    ("before", "sizes"),
    [
        (Timing({1: 2.0, 8: 1.0, 16: 1.5}, 0.5, {2: 0.9, 8: 0.5}), {1, 8}),
        (Timing({1: 1.0, 8: 1.0}, 1.0), {1}),
        (Timing({1: 3.0, 32: 1.0}, 1.0, {4: 1.1}), {1, 32, 4}),
    ],
)
def test_another_round_times_what_was_fastest(
    before: Timing, sizes: set[int], arrays: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pilotfish.models.costs.timing.cpu_count", lambda: 2)
    clock, log = [0.0], []
    monkeypatch.setattr("pilotfish.models.costs.timing.time.perf_counter", lambda: clock[0])
    backend = Slow(clock, log)
    model = Model("m", backend, AS_IT_IS, n_classes=2, weights_hash="0", input_shape=(3,))
    found = planned.measured_times(arrays(x=np.zeros((4, 3))), model, RecordOptions(), 0.1, before)
    assert found is not None
    assert set(log) == sizes
    assert set(found.lanes) == (set() if len(before.lanes) == 0 else {min(before.lanes, key=before.lanes.__getitem__)})


def test_the_best_saver_depends_on_the_scenario(tmp_path: Path) -> None:
    """Two savers of equal answers: one quick by itself, the other in large batches (TinySaver, Table 6)."""
    pair = Pair([0.9, 0.8, 0.7, 0.6], [True, True, False, True], [True, True, True, False])
    write_pair(tmp_path, pair, saver_cost=1.0, base_cost=10.0)
    run = Run(tmp_path)
    import dataclasses

    base, saver = run.read("base"), run.read("saver")
    times = {"small": (1.0, 5.0), "wide": (5.0, 1.0), "base": (10.0, 10.0)}

    def write(records: object, name: str) -> None:
        one, many = times[name]
        costs = {"macs": 1.0, "ms@cuda-b1": one, "ms@cuda-b512": many}
        meta = dataclasses.replace(records.meta, model=name, costs=costs)  # type: ignore[attr-defined]
        Run(tmp_path / "times").write(dataclasses.replace(records, meta=meta))  # type: ignore[type-var]

    write(base, "base")
    write(saver, "small")
    write(saver, "wide")
    other = Run(tmp_path / "times")
    assert rank_savers(other, "base", cost="ms@cuda-b1").best == "small"
    assert rank_savers(other, "base", cost="ms@cuda-b512").best == "wide"
    with pytest.raises(
        RecordsError, match=r"no cost 'ms@gpu-b1' in its records; there are ms@cuda-b1, ms@cuda-b512, macs"
    ):
        rank_savers(other, "base", cost="ms@gpu-b1")


class Clock:
    """Time as the tests would have it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_samples, "time", clock)
    return clock


class Steps:
    """A backend without a model, which keeps what it was given. On a *clock* a call takes *seconds*."""

    name = "steps"

    def __init__(self, clock: Clock | None = None, seconds: float = 0.0) -> None:
        self.clock, self.seconds, self.calls = clock or Clock(), seconds, []

    def step(self, inputs: np.ndarray, carry: object = None) -> tuple[np.ndarray, None]:
        self.clock.now += self.seconds
        self.calls.append(inputs)
        return np.stack([-inputs[:, 0], inputs[:, 0]], axis=1), None


def stepping(*clocked: Any) -> Model:
    return Model("onnx:steps.onnx", Steps(*clocked), AS_IT_IS, "w", n_classes=2)


def numbered(arrays: Callable[..., Dataset], n: int) -> Dataset:
    """Samples that differ, and say which they are."""
    return arrays(x=np.arange(2 * n, dtype=np.float32).reshape(n, 2))


@pytest.mark.parametrize("n", [500, 200, 40, 7])
def test_single_samples_are_timed_alone_in_random_order(arrays: Callable[..., Dataset], n: int, tmp_path: Path) -> None:
    data, model, run = numbered(arrays, n), stepping(), Run(tmp_path / "run")
    record_model(data, model, run, "m", RecordOptions())
    [times] = run.read("m").meta.single_times
    assert (len(times), times.device, times.backend, times.machine) == (200, "cpu", "steps", device_name("cpu"))
    calls = [call for call in model.backend.calls if len(call) == 1][-200:]
    order = [int(call[0, 0]) // 2 for call in calls]
    assert len(set(order)) == min(n, 200)
    assert order != sorted(order)
    assert all(0 <= ms < 1000 for ms in (*times.read, *times.run))


def test_reading_and_running_are_told_apart(
    arrays: Callable[..., Dataset], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = numbered(arrays, 40)

    def read(row: int) -> np.ndarray:
        clock.now += 0.001 * row
        return plain.read(row)

    monkeypatch.setattr(time_samples, "sample_reader", lambda data, encoded: read)
    found = time_samples.time_samples(plain, stepping(clock, 0.004), "cpu", 60.0)
    assert found is not None
    assert set(found.read) == set(range(40))
    assert set(found.run) == {4.0}
    assert found.percentiles([0.0, 1.0]).tolist() == [4.0, 43.0]


def test_a_single_sample_has_all_cores(arrays: Callable[..., Dataset], clock: Clock) -> None:
    asked = []

    class Threaded(Steps):
        def with_threads(self, threads: int) -> Steps:
            asked.append(threads)
            return self

    model = Model("onnx:steps.onnx", Threaded(clock), AS_IT_IS, "w", n_classes=2)
    assert time_samples.time_samples(numbered(arrays, 60), model, "cpu", 1.0) is not None
    assert asked == [cpu_count()]


@pytest.mark.parametrize(
    ("seconds", "within", "timed"),
    [(0.004, 10.0, 200), (0.004, 0.399, 97), (0.004, 0.121, 30), (0.3, 2.0, 30), (0.4, 2.0, 0), (0.4, 13.0, 30)],
)
def test_too_little_time_means_fewer_samples_or_none(
    arrays: Callable[..., Dataset], clock: Clock, seconds: float, within: float, timed: int
) -> None:
    model = stepping(clock, seconds)
    found = time_samples.time_samples(numbered(arrays, 300), model, "cpu", within)
    assert (0 if found is None else len(found)) == timed
    if not timed:
        assert len(model.backend.calls) == 6  # and it is soon given up


def test_nothing_is_timed_that_was_not_asked_for_or_may_cost_money(
    arrays: Callable[..., Dataset], matrix_model: Callable[..., Model], tmp_path: Path
) -> None:
    data, run = numbered(arrays, 60), Run(tmp_path / "run")
    record_model(data, matrix_model(np.eye(2, dtype=np.float32), n_classes=2), run, "callable", RecordOptions())
    record_model(data, stepping(), run, "untimed", RecordOptions(timing=False))
    assert [run.read(name).meta.single_times for name in ("callable", "untimed")] == [(), ()]


def test_a_model_that_fails_alone_has_no_times_of_single_samples(arrays: Callable[..., Dataset]) -> None:
    class Pairs(Steps):
        def step(self, inputs: np.ndarray, carry: object = None) -> tuple[np.ndarray, None]:
            if len(inputs) == 1:
                raise ValueError("batch norm needs more than one value")
            return super().step(inputs)

    model = Model("onnx:pairs.onnx", Pairs(), AS_IT_IS, "w", n_classes=2)
    assert time_samples.time_samples(numbered(arrays, 60), model, "cpu", 1.0) is None


def test_records_without_times_of_single_samples_get_them_once(arrays: Callable[..., Dataset], tmp_path: Path) -> None:
    data, run = numbered(arrays, 60), Run(tmp_path / "run")
    record_model(data, stepping(), run, "m", RecordOptions(timing=False))
    before = run.read("m")
    assert record_model(data, stepping(), run, "m", RecordOptions()).skipped
    after = run.read("m")
    assert len(after.meta.single_times) == 1
    assert np.array_equal(before.outputs.log_odds, after.outputs.log_odds)
    record_model(data, stepping(), run, "m", RecordOptions())
    assert run.read("m").meta.single_times == after.meta.single_times


def test_percentiles_are_of_whole_samples() -> None:
    read, run = (5.0, 1.0, 1.0, 1.0), (1.0, 5.0, 2.0, 9.0)
    times = SampleTimes("cpu", "cpu, X, 2 cores", "onnxruntime", 2, read, run)
    assert times.percentiles([0.25, 0.5, 0.75, 0.95]).tolist() == [3.0, 6.0, 6.0, 10.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"run": [1.0]},
        {"read": [], "run": []},
        {"read": [1.0, -1.0], "run": [1.0, 1.0]},
        {"read": [1.0, "inf"], "run": [1.0, 1.0]},
        {"read": [1.0] * 1001, "run": [1.0] * 1001},
        {"run": [0.0, 0.0]},
        {"threads": -1},
        {"machine": None},
    ],
)
def test_damaged_times_are_refused_in_a_line(wrong: dict[str, Any]) -> None:
    times = {"device": "cpu", "machine": "m", "backend": "b", "threads": 2, "read": [1.0, 2.0], "run": [1.0, 2.0]}
    meta = {"schema_version": 1, "model": "m", "split": "val", "single_times": [{**times, **wrong}]}
    with pytest.raises(RecordsError, match="damaged metadata: single_times"):
        decode_meta(json.dumps(meta).encode(), {}, "m.val.parquet")


def test_inspect_shows_what_a_single_sample_takes(
    arrays: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned, "measured_times", lambda *_: None)
    data, run = numbered(arrays, 60), Run(tmp_path / "run")
    record_model(data, stepping(), run, "m", RecordOptions())
    [times] = run.read("m").meta.single_times
    [entry] = json.loads(command(tmp_path, "inspect", "run", "--json").stdout)["records"]
    p50, p95 = times.percentiles().tolist()
    assert entry["single_ms"] == [{"device": "cpu", "machine": times.machine, "n": 200, "p50": p50, "p95": p95}]
    assert f"{p50:.1f} / {p95:.1f} ms" in command(tmp_path, "inspect", "run").stdout
    record_model(data, stepping(), Run(tmp_path / "plain"), "m", RecordOptions(timing=False))
    assert "p50" not in command(tmp_path, "inspect", "plain").stdout
