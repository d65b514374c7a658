"""A limit of the p95 of single requests: sums of times, the exits it needs, what is certified and what refused."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from pilotfish.cascade import load_artefact
from pilotfish.errors import BudgetError, RecordsError, UsageError
from pilotfish.machine import device_name
from pilotfish.plan import latency, tune
from pilotfish.plan.certificate import Clause, Promise, certified, certify, last_kept
from pilotfish.plan.constraints import _lateness as lateness
from pilotfish.plan.evaluate import measure, outcomes
from pilotfish.plan.latency import LATE, RequestTimes, request_times, times_of
from pilotfish.plan.path import PolicyPath, threshold_path
from pilotfish.plan.trace import Trace, trace_of
from pilotfish.records import Run, SampleTimes, read_table
from support.process import command, refusal
from support.runs import records

DELTA = 0.1
MACHINE = device_name("cpu")
ms = st.lists(st.integers(0, 40).map(lambda k: k / 4), min_size=1, max_size=5)


def every_sum(parts: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(combination) for combination in itertools.product(*parts)]


def share_above(sums: Sequence[float], limit: float) -> float:
    return sum(one > limit for one in sums) / len(sums)


@given(ms, st.lists(ms, min_size=1, max_size=4), st.integers(0, 160), st.randoms())
@settings(max_examples=80)
def test_every_combination_of_times_counts_once(
    read: list[float], runs: list[list[float]], limit: int, random: Any
) -> None:
    times = times_of(read, [(run, False) for run in runs])
    sums = [every_sum([read, *runs[: k + 1]]) for k in range(len(runs))]
    late = [share_above(each, limit / 4) for each in sums]
    assert times.late(limit / 4) == pytest.approx(late)
    weights = [random.randint(0, 3) for _ in runs]
    shares = np.array(weights) / sum(weights) if any(weights) else np.eye(len(runs))[0]
    at = sorted(set(itertools.chain(*sums)))
    exact = next(x for x in at if sum(q * share_above(s, x) for q, s in zip(shares, sums, strict=True)) <= LATE + 1e-12)
    assert times.p95(shares) == pytest.approx(exact, abs=1e-9)


def test_an_exit_that_goes_on_holds_the_times_of_the_one_before() -> None:
    times = times_of([1.0], [([2.0, 4.0], False), ([5.0, 7.0], True), ([10.0], False)])
    assert times.p95([1, 0, 0]) == pytest.approx(5.0)
    assert times.p95([0, 1, 0]) == pytest.approx(8.0)  # and not 12
    assert times.p95([0, 0, 1]) == pytest.approx(18.0)


def test_what_is_rounded_looks_slower_and_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    read, runs = rng.gamma(2, 1, 30), [(rng.gamma(4, k + 1, 30), False) for k in range(3)]
    exact = times_of(read, runs)
    monkeypatch.setattr(latency, "MOST", 50)
    rounded = times_of(read, runs)
    for limit in np.linspace(1, 80, 20):
        assert (rounded.late(limit) >= exact.late(limit) - 1e-12).all()
        assert rounded.late(limit) == pytest.approx(exact.late(limit), abs=0.1)
        assert (np.diff(exact.late(limit)) >= 0).all()


def times(
    scale: float, seed: int = 0, machine: str = MACHINE, device: str = "cpu", n: int = 60, threads: int = 2
) -> SampleTimes:
    rng = np.random.default_rng(seed)
    read, run = rng.gamma(8, 0.1, n).round(4), (scale * rng.gamma(20, 0.05, n)).round(4)
    return SampleTimes(device, machine, "onnx", threads, tuple(read.tolist()), tuple(run.tolist()))


def write_run(folder: Path, single: dict[str, tuple[SampleTimes, ...]], n: int = 1200) -> Run:
    """A saver whose sure answers are right and whose others are not always, and a base."""
    rng = np.random.default_rng(3)
    run, label, score = Run(folder), rng.integers(0, 2, n), rng.random(n)
    for model, cost, right in (("saver", 1.0, 0.6 + 0.4 * score), ("base", 9.0, np.full(n, 0.95))):
        said = np.where(rng.random(n) < right, label, 1 - label)
        outputs = {"confidence": score} if model == "saver" else {}
        known = {"costs": {"macs": cost}, "n_classes": 2, "single_times": single.get(model, ())}
        run.write(records(model, said.tolist(), label=label.tolist(), outputs=outputs, **known))
    return run


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_run(tmp_path_factory.mktemp("run"), {"saver": (times(2.0),), "base": (times(20.0, 1),)})


def request(run: Run, stages: Sequence[str] = ("saver", "base")) -> RequestTimes:
    return request_times(read_table(run, list(stages[:-1]), stages[-1]), stages, "macs")[0]


def test_the_needed_exits_are_said_and_met(timed: Run) -> None:
    """At 15 ms hardly any sample that goes on is in time, so nearly 95 % must exit, whatever they lose."""
    of = request(timed)
    late = of.late(15.0)
    needed = (late[1] - LATE) / (late[1] - late[0])  # solved for the exit ratio
    assert 0.9 < needed < 0.99
    free = tune(timed, ["saver", "base"], max_drop=0.3)
    found = tune(timed, ["saver", "base"], max_cost="100%", max_latency_p95=15.0)
    assert found.calibration.exit_ratio[0] >= needed
    assert found.calibration.exit_ratio[0] < needed + 0.01  # no more than it takes: exits lose answers
    assert found.calibration.latency_p95 == pytest.approx(of.p95(found.calibration.exit_ratio))
    assert found.calibration.latency_p95 <= 15.0
    assert f"p95 at most 15 ms needs {100 * needed:.1f}% of the samples to exit at saver" in found.notes
    assert any(
        note.startswith("p95 is of one request at a time, from 60 single samples per stage") for note in found.notes
    )
    document = found.to_json()
    assert document["calibration"]["latency_p95"] == found.calibration.latency_p95
    assert "latency_p95" not in free.to_json()["calibration"]


@given(limit=st.integers(4, 40), drop=st.integers(0, 30))
@settings(max_examples=25, deadline=None)
def test_the_best_policy_within_both(limit: int, drop: int, timed: Run) -> None:
    of, budget = request(timed), drop / 100
    table = tune(timed, ["saver", "base"], max_drop=1.0, holdout=0)
    frontier = table.artefact.frontier  # of all thresholds
    try:
        found = tune(timed, ["saver", "base"], max_drop=budget, holdout=0, max_latency_p95=float(limit))
    except BudgetError:
        fine = [
            frontier.exit_ratio[i] @ of.late(limit) <= LATE and frontier.drop[i] <= budget for i in range(len(frontier))
        ]
        assert not any(fine)
        return
    assert found.calibration.drop <= budget + 1e-12
    assert np.dot(found.calibration.exit_ratio, of.late(limit)) <= LATE
    moved = found.artefact.at(max_drop=1.0)
    assert frontier.cost is not None
    assert moved.frontier.cost is not None
    kept = frontier.exit_ratio @ of.late(limit) <= LATE
    assert moved.frontier.cost.min() == pytest.approx(frontier.cost[kept].min())


def test_limits_stay_with_the_cascade(timed: Run, tmp_path: Path) -> None:
    tune(timed, ["saver", "base"], max_drop=0.3, max_latency_p95=15.0).save(tmp_path / "c")
    read = load_artefact(tmp_path / "c")
    assert read.limits is not None
    assert read.limits.latency_p95 == 15.0
    with pytest.raises(
        BudgetError, match="no operating point has drop at most 0% with p95 at most 15 ms; the smallest"
    ):
        read.at(max_drop=0.0)


SLOW = r"no threshold keeps p95 at most 2 ms: even if every sample exits at saver, it is \d\.\d+ ms"


@pytest.mark.parametrize(
    ("single", "limit", "error", "message"),
    [
        ({}, 15.0, RecordsError, "times of single samples, and the records of saver, base hold none; record them"),
        ({"saver": (times(2.0),)}, 15.0, RecordsError, "and the records of base hold none"),
        (
            {"saver": (times(2.0),), "base": (times(20.0, machine="cpu, other, 64 cores"),)},
            15.0,
            RecordsError,
            "times of single samples are of different machines: saver on cpu, .*; base on cpu, other, 64 cores; record",
        ),
        (
            {"saver": (times(2.0),), "base": (times(1.0, device="cuda"),)},
            15.0,
            RecordsError,
            r"not timed on one kind of device \(saver on cpu; base on cuda\); record all on one",
        ),
        ({"saver": (times(2.0),), "base": (times(20.0),)}, 2.0, BudgetError, SLOW),
        (
            {"saver": (times(2.0),), "base": (times(20.0),)},
            0.0,
            UsageError,
            "milliseconds above 0, such as 20, found 0.0",
        ),
        (
            {"saver": (times(2.0),), "base": (times(20.0),)},
            math.nan,
            UsageError,
            "milliseconds above 0, such as 20, found nan",
        ),
        ({"saver": (times(2.0),), "base": (times(20.0),)}, "20 ms", UsageError, "above 0, such as 20, found '20 ms'"),
    ],
    ids=["none", "one", "machines", "devices", "too slow", "zero", "nan", "text"],
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, single: Any, limit: float, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        tune(write_run(tmp_path, single, 200), ["saver", "base"], max_drop=0.1, max_latency_p95=limit)
    assert len(str(caught.value).splitlines()) == 1


def test_on_the_command_line(timed: Run, tmp_path: Path) -> None:
    asked = ["tune", timed.path, "--stages", "saver,base", "--max-drop", "30%"]
    assert "no threshold keeps p95 at most 1 ms" in refusal(tmp_path, *asked, "--max-latency-p95", "1")
    found = command(tmp_path, *asked, "--max-latency-p95", "15", "--guarantee", "90%")
    assert found.returncode == 0, found.stderr
    assert "p95 of single requests: " in found.stdout
    assert "(limit 15.00 ms; bound " in found.stdout
    assert "p95 at most 15.00 ms (bound " in found.stdout  # of the guarantee
    document = json.loads(command(tmp_path, *asked, "--max-latency-p95", "15", "--json").stdout)
    assert document["calibration"]["latency_p95"] <= 15


def test_times_of_another_machine_and_of_other_threads_are_notes(tmp_path: Path) -> None:
    other = "cpu, other, 64 cores"
    single = {"saver": (times(2.0, machine=other),), "base": (times(20.0, 1, other, threads=64),)}
    notes = tune(write_run(tmp_path, single, 200), ["saver", "base"], max_drop=0.3, max_latency_p95=15.0).notes
    assert any(f"of another machine than this one, which is {MACHINE}" in note for note in notes)
    assert any("different numbers of threads (saver with 2, base with 64)" in note for note in notes)
    assert any(f"on {other}" in note for note in notes)


def test_times_of_the_device_of_the_cost(tmp_path: Path) -> None:
    gpu = [times(scale, k, "cuda, H100", "cuda:0") for k, scale in enumerate((0.1, 0.5))]
    run = write_run(tmp_path, {"saver": (times(2.0), gpu[0]), "base": (times(20.0, 1), gpu[1])}, 100)
    table = read_table(run, ["saver"], "base")
    assert request_times(table, ["saver", "base"], "macs")[0].p95([0, 1]) > 10
    assert request_times(table, ["saver", "base"], "ms@cuda-b1")[0].p95([0, 1]) < 5
    with pytest.raises(RecordsError, match="not timed on one kind of device"):
        request_times(table, ["saver", "base"], "ms@mps")


def drawn(seed: int, n: int, stages: int) -> Trace:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(stages - 1, n))
    chance = np.stack([*(1 / (1 + np.exp(-2 * values - 1))), np.full(n, 0.9)])
    return trace_of(values, rng.random(chance.shape) < chance, [float(10**k) for k in range(stages)])


def path_of(trace: Trace, policies: int) -> PolicyPath:
    quantiles = np.linspace(1, 0, policies)
    return threshold_path(np.stack([np.quantile(v, quantiles) for v in trace.values], axis=1))


OF = {k: times_of(np.full(1, 1.0), [((np.arange(20) + 5) * 3.0**i / 10, False) for i in range(k)]) for k in (2, 3)}


def clause(trace: Trace, limit: float, delta: float = DELTA) -> Clause:
    late = Promise("cost", LATE, delta)
    return Clause(f"p95 at most {limit:g} ms", None, lateness(trace, OF[trace.stages], limit), late)


@pytest.mark.parametrize(("stages", "limit"), [(2, 8.0), (3, 25.0)])
def test_what_exits_and_what_is_late_are_two_sequences_of_half_delta(stages: int, limit: float) -> None:
    """Exits lose answers and save time, so the drop is tested from "exit nobody" on and the latency from the end."""
    trace = drawn(stages, 2000, stages)
    path, drop = path_of(trace, 60), Promise("drop", 0.2, DELTA)
    found = certify(trace, path, drop, 0.9, [clause(trace, limit)])
    assert found.index == last_kept(trace, path, Promise("drop", 0.2, DELTA / 2))
    late, share = OF[stages].late(limit), measure(trace, path).exit_ratio
    if stages == 2:
        high = [
            beta.ppf(1 - DELTA / 2, round(q * 2000) + 1, 2000 - round(q * 2000)) if q < 1 else 1 for q in share[:, 1]
        ]
        fine = [late[0] + q * (late[1] - late[0]) <= LATE for q in high]
        assert last_kept(*(lambda c: (c.trace, path, c.promise))(clause(trace, limit, DELTA / 2))) == fine.index(True)
    assert share[found.index] @ late <= LATE
    with pytest.raises(
        BudgetError, match=rf"no operating point keeps p95 at most {limit:g} ms as well as the budget with"
    ):
        certify(trace, path, Promise("drop", 0.005, DELTA), 0.9, [clause(trace, limit)])
    with pytest.raises(
        BudgetError, match=r"no operating point has p95 at most 2 ms with 90% .*% may take longer at the c"
    ):
        certify(trace, path, drop, 0.9, [clause(trace, 2.0)])


def test_a_cost_and_a_latency_are_one_sequence() -> None:
    trace = drawn(5, 2000, 2)
    path, cost = path_of(trace, 60), Promise("cost", 8.0, DELTA)
    late = clause(trace, 8.0)
    found = certify(trace, path, cost, 0.9, [late])
    alone = [last_kept(trace, path, cost), last_kept(late.trace, path, late.promise)]
    assert found.index == max(i for i in alone if i is not None)


def test_a_guarantee_has_the_least_limit_that_would_hold(timed: Run) -> None:
    found = tune(timed, ["saver", "base"], max_drop=0.3, max_latency_p95=15.0, guarantee=0.9, holdout=0)
    assert found.guarantee is not None
    said = found.guarantee["latency"]
    assert set(said) == {"target", "bound", "n"}
    q = found.calibration.exit_ratio[1]
    high = beta.ppf(1 - DELTA / 2, round(q * 1200) + 1, 1200 - round(q * 1200))
    assert said["bound"] == pytest.approx(request(timed).p95([1 - high, high]), abs=1e-4)
    assert found.calibration.latency_p95 <= said["bound"] <= said["target"] == 15.0
    with pytest.raises(BudgetError, match="no operating point"):
        tune(timed, ["saver", "base"], max_drop=0.01, max_latency_p95=15.0, guarantee=0.9, holdout=0)


def test_promised_latencies_hold() -> None:
    """Of draws from one population at most delta may break drop or p95, within two standard errors."""
    population = drawn(9, 4000, 2)
    broken, draws, kept, limit = 0, 80, 0, 8.9
    for i in range(draws):
        trace = population.take(np.random.default_rng(i).choice(4000, 500))
        path = path_of(trace, 40)
        try:
            index = certified(trace, path, Promise("drop", 0.16, DELTA, "paired_cp"), 0.9, [clause(trace, limit)])
        except BudgetError:
            continue
        kept += 1
        answered_by, gap = outcomes(population, path.policy(index))
        shares = np.bincount(answered_by, minlength=2) / 4000
        broken += bool(gap.mean() > 0.16 or shares @ OF[2].late(limit) > LATE)
    assert kept > draws / 2
    assert broken / draws <= DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / draws)
