"""Time per sample by scenario: recorded once, added to later, and what savers are chosen by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pilotfish.data import Dataset
from pilotfish.errors import RecordsError
from pilotfish.models import Model
from pilotfish.models.costs.timing import BATCH_SIZES, CUDA_BATCH_SIZES, Timing, time_batches
from pilotfish.plan import rank_savers
from pilotfish.recording import RecordOptions, record_model
from pilotfish.records import Run
from pilotfish.records.parquet import record_columns
from pilotfish.tasks import CLASSES
from support.pairs import Pair
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
