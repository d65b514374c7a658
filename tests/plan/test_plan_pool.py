"""All pairs of a pool at once, against the sweep of each pair."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.errors import PilotfishError, RecordsError, UsageError
from pilotfish.plan import rank_savers, sweep
from pilotfish.plan.pool import match_pool, rank_pool
from pilotfish.plan.trace import Trace, trace_of
from pilotfish.records import Records, RecordsMeta, Run
from pilotfish.records.records import string_ids
from pilotfish.tasks.mask_answers import Masks
from support.pairs import TIED, WILD
from support.runs import records


def check(trace: Trace, drop: float, threads: int = 2) -> None:
    exited, thresholds = match_pool(trace, drop, threads)
    for s in range(trace.stages):
        for b in range(trace.stages):
            if trace.added[s] < trace.added[b]:
                path = sweep(trace.values[s], trace.quality[s], trace.quality[b])
                at = path.last_feasible(drop)
                assert (exited[s, b], thresholds[s, b]) == (path.exited[at], path.thresholds[at])
            else:
                assert (exited[s, b], thresholds[s, b]) == (-1, math.inf)


@given(st.data())
@settings(max_examples=150)
def test_each_pair_is_its_sweep(data: st.DataObject) -> None:
    m, n = data.draw(st.integers(2, 4)), data.draw(st.integers(1, 20))
    one = data.draw(st.sampled_from([TIED, WILD, TIED | st.just(math.nan), st.just(0.5), st.just(math.nan)]))
    good = data.draw(st.sampled_from([st.booleans(), st.integers(0, 8).map(lambda eighths: eighths / 8)]))
    scores = [data.draw(st.lists(one, min_size=n, max_size=n)) for _ in range(m - 1)]
    quality = [data.draw(st.lists(good, min_size=n, max_size=n)) for _ in range(m)]
    costs = sorted(data.draw(st.lists(st.integers(0, 3), min_size=m, max_size=m)))
    check(trace_of(scores, quality, costs), data.draw(st.sampled_from([0.0, 0.001, 0.05, 0.3, -0.1])))


@pytest.mark.parametrize("distinct", [1, 2, 7, 300, 10**6])
@pytest.mark.parametrize("drop", [0.0, 0.01])
@pytest.mark.parametrize("graded", [False, True])
def test_many_blocks_and_heavy_ties(distinct: int, drop: float, graded: bool) -> None:
    rng = np.random.default_rng(distinct)
    m, n = 4, 20_000
    scores = rng.integers(0, distinct, (m - 1, n)).astype(np.float64)
    scores[rng.random((m - 1, n)) < 0.01] = np.nan
    right = rng.random((m, n)) < np.array([[0.7], [0.7], [0.702], [0.9]])  # near-equals cross zero again and again
    check(trace_of(scores, np.where(right, 0.75, 0.125) if graded else right, range(m)), drop, threads=1 + distinct % 3)


def test_what_is_no_drop_is_refused() -> None:
    with pytest.raises(UsageError, match="fraction"):
        match_pool(trace_of(np.zeros((1, 3)), np.zeros((2, 3), bool), (1.0, 2.0)), 2.0)


def a_run(folder: Path, n: int = 300, shuffled: bool = False) -> Run:
    """Four models with a confidence, one of classes alone, one without a cost."""
    rng, run = np.random.default_rng(3), Run(folder)
    label = np.zeros(n, np.int64)
    hard = rng.random(n)
    for k, name in enumerate(["tiny", "small", "middle", "large", "classes", "unpriced"]):
        wrong = (hard > 0.5 + 0.1 * k).astype(int)
        outputs = None if name == "classes" else {"log_odds": np.round(1 - hard + 0.2 * rng.normal(size=n), 1)}
        order = rng.permutation(n) if shuffled and k == 1 else np.arange(n)
        kept = {key: value[order] for key, value in (outputs or {}).items()}
        costs = {} if name == "unpriced" else {"macs": 10.0**k}
        ids = [f"i{i}" for i in order]
        run.write(records(name, wrong[order], ids=ids, label=label[order], outputs=kept, costs=costs))
    return run


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("drop", [0.0, 0.02])
def test_a_run_ranked_at_once_is_each_base_ranked_alone(tmp_path: Path, shuffled: bool, drop: float) -> None:
    run = a_run(tmp_path, shuffled=shuffled)
    found = rank_pool(run, max_drop=drop)
    assert found.models == ("tiny", "small", "middle", "large", "classes")
    for column, base in enumerate(found.models[1:], start=1):
        alone = rank_savers(run, base, max_drop=drop)
        assert found.best[base] == alone.best
        for saver in alone.savers:
            if saver.delta_cost is None:
                continue
            row = found.models.index(saver.saver)
            assert found.exit_ratio[row, column] == saver.exit_ratio
            assert found.thresholds[row, column] == saver.threshold
            assert found.delta_cost[row, column] == pytest.approx(saver.delta_cost, abs=1e-15)
    assert any("unpriced" in note for note in found.notes)
    assert any("classes" in note for note in found.notes)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["exit_ratio"][0][0] is None
    assert document["best"]["tiny"] is None


def test_without_labels_there_is_no_common_truth(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for k, name in enumerate("ab"):
        run.write(records(name, outputs={"log_odds": [0.1, 0.2, 0.3]}, costs={"macs": 1.0 + k}))
    with pytest.raises(RecordsError, match="labels"):
        rank_pool(run)


def test_an_unknown_cost_or_score_is_told(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    with pytest.raises(PilotfishError, match=r"have a cost 'joules'.*macs"):
        rank_pool(run, cost="joules")
    with pytest.raises(UsageError, match="max_prob"):
        rank_pool(run, score="maxprob")


@pytest.mark.parametrize("score", [None, "max_prob", "grid"])
def test_a_pool_says_the_score_that_it_is_ranked_by(score: str | None, tmp_path: Path) -> None:
    rng, run = np.random.default_rng(0), Run(tmp_path)
    for name, macs in (("small", 1.0), ("big", 10.0)):
        union = rng.integers(50, 100, (30, 3))
        outputs = Masks(union // 2, union, score=rng.random(30) if name == "small" else None)
        meta = RecordsMeta(name, "val", n_classes=3, costs={"macs": macs}, task="mask")
        run.write(Records(string_ids(np.arange(30)), np.ones(30, np.int8), outputs, meta))
    found = rank_pool(run, score=score)
    assert found.score == "grid"
    assert "big has no score 'grid' and can be a base only" in found.notes
