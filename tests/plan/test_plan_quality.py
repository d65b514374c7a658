"""Savers, chains, pools and analyses of answers that are neither right nor wrong, and of a ratio, against loops."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import UsageError
from pilotfish.plan import METHODS, analyse, find_chains, rank_pool, rank_savers
from pilotfish.records import Run, read_table
from pilotfish.tasks import CLASSES, Metric, task
from support.process import command as pilotfish
from support.runs import records

N, GRADES = 300, 9
COSTS = {"tiny": 1.0, "small": 3.0, "middle": 9.0, "base": 30.0}


def closeness(outputs: Any, truth: np.ndarray) -> np.ndarray:
    return np.asarray(1 - np.abs(outputs.prediction - truth) / (GRADES - 1))


def counts(outputs: Any, truth: np.ndarray) -> np.ndarray:
    right = outputs.prediction == truth
    return np.stack([2.0 * right, 2.0 + (truth > 0) * ~right], axis=1)


CLOSENESS = Metric("closeness", "closeness")
RATIO = Metric("made_f1", "made F1", "ratio", counts, lambda sums: sums[..., 0] / sums[..., 1])


@pytest.fixture(params=["mean", "ratio"])
def run(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Grades 0 … 8, off by the more the cheaper the model, and the less the surer it is."""
    metric = CLOSENESS if request.param == "mean" else RATIO
    made = dataclasses.replace(CLASSES, name="grades", metric=metric, quality=closeness)
    monkeypatch.setitem(task._TASKS, "grades", made)
    rng, run = np.random.default_rng(0), Run(tmp_path)
    label, hard = rng.integers(0, GRADES, N), rng.random(N)
    for k, (name, cost) in enumerate(COSTS.items()):
        off = np.round((3.2 - k) * hard * rng.normal(size=N)).astype(int)
        sure = np.round(np.clip(1 - hard + 0.2 * rng.normal(size=N), 0, 1), 2)
        outputs = {} if name == "base" else {"confidence": sure}
        costs = {"macs": cost}
        answers = np.clip(label + off, 0, GRADES - 1)
        run.write(records(name, answers, label=label, outputs=outputs, costs=costs, task="grades", n_classes=GRADES))
    return run


def metric_of(run: Run) -> Metric:
    return task.find_task("grades").metric


class Loops:
    """The same run sample by sample."""

    def __init__(self, run: Run) -> None:
        table, mean = read_table(run, list(COSTS)[:-1], "base"), metric_of(run).kind == "mean"
        self.quality = {name: table.quality(name).tolist() for name in COSTS}
        states = {name: counts(table.outputs[name], table.reference).tolist() for name in COSTS}
        self.states = {name: [[q, 1.0] for q in self.quality[name]] for name in COSTS} if mean else states
        self.scores = {name: table.outputs[name].confidence.tolist() for name in COSTS if name != "base"}

    def value(self, answered: list[str]) -> float:
        """The metric where sample i is answered by the model answered[i]."""
        rows = [self.states[name][i] for i, name in enumerate(answered)]
        return math.fsum(row[0] for row in rows) / math.fsum(row[1] for row in rows)

    def routed(self, stages: tuple[str, ...], thresholds: tuple[float, ...]) -> list[str]:
        """Who answers each sample."""
        exits = [(name, self.scores[name], t) for name, t in zip(stages[:-1], thresholds, strict=True)]
        return [next((name for name, v, t in exits if v[i] >= t), stages[-1]) for i in range(N)]


@pytest.mark.parametrize("drop", [0.0, 0.01, 0.05])
def test_savers_exit_as_many_as_any_threshold_allows(run: Run, drop: float) -> None:
    found, loops = rank_savers(run, "base", max_drop=drop), Loops(run)
    whole = loops.value(["base"] * N)
    assert (found.metric, found.base_accuracy) == (metric_of(run).name, pytest.approx(whole))
    for saver in found.savers:
        feasible = [0.0]
        for t in sorted(set(loops.scores[saver.saver])):
            answered = loops.routed((saver.saver, "base"), (t,))
            if whole - loops.value(answered) <= drop + 1e-9:
                feasible.append(answered.count(saver.saver) / N)
        assert saver.exit_ratio == max(feasible)
        assert saver.accuracy == pytest.approx(loops.value([saver.saver] * N))
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (document["metric"], document["savers"][0]["accuracy"]) == (found.metric, found.savers[0].accuracy)


@pytest.mark.parametrize("method", METHODS)
def test_savers_take_the_methods_that_judge_a_saver_by_its_score(run: Run, method: str) -> None:
    if METHODS[method].rule != "score":
        with pytest.raises(UsageError, match=f"method {method} "):
            rank_savers(run, "base", method=method)
        return
    found = rank_savers(run, "base", method=method, max_drop=0.05, holdout=0.5)
    for saver in found.savers:
        assert saver.held_out is not None
        low, high = saver.held_out["drop_interval"]
        assert low <= saver.held_out["drop"] <= high
    json.dumps(found.to_json(), allow_nan=False)


def test_certified_savers_bet_on_what_is_lost_and_a_ratio_has_a_jackknife(run: Run) -> None:
    found = rank_savers(run, "base", guarantee=0.9, max_drop=0.3)
    assert found.guarantee is not None
    if metric_of(run).kind == "ratio":
        assert found.guarantee["test"] == "jackknife"
        return
    assert found.guarantee["test"] == "wsr"
    assert all(s.certified is not None and s.certified["bound"] <= 0.3 for s in found.savers)
    with pytest.raises(UsageError, match="test exact counts right and wrong answers"):
        rank_savers(run, "base", guarantee=0.9, max_drop=0.3, test="exact")


@pytest.mark.parametrize("budget", [{"max_drop": 0.01}, {"max_cost": "50%"}], ids=str)
def test_chains_are_judged_in_the_tasks_metric(run: Run, budget: dict[str, Any]) -> None:
    searched, found = find_chains(run, "base", **budget, holdout=0), find_chains(run, "base", **budget)
    loops = Loops(run)
    for chain in searched.search.chains:
        answered = loops.routed(chain.stages, chain.thresholds)
        lost = [loops.quality["base"][i] - loops.quality[name][i] for i, name in enumerate(answered)]
        if metric_of(run).kind == "ratio":  # to first order
            assert chain.drop == pytest.approx(loops.value(["base"] * N) - loops.value(answered), rel=0.15, abs=0.005)
        else:
            assert chain.drop == pytest.approx(math.fsum(lost) / N, abs=1e-12)
    assert all(held.metric == metric_of(run).name for held in found.held_out)
    assert any("is no mean over samples" in note for note in found.notes) == (metric_of(run).kind == "ratio")
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["metric"] == metric_of(run).name


def test_the_pool_is_each_base_ranked_alone(run: Run) -> None:
    found = rank_pool(run, max_drop=0.01)
    if metric_of(run).kind == "ratio":
        assert any("made F1 is no mean over samples" in note for note in found.notes)
        return
    for saver in rank_savers(run, "base", max_drop=0.01).savers:
        row = found.models.index(saver.saver)
        assert found.exit_ratio[row, -1] == saver.exit_ratio
        assert found.thresholds[row, -1] == saver.threshold


def test_an_analysis_says_what_needs_right_and_wrong(run: Run) -> None:
    found = analyse(run, "base", draws=5, max_drop=0.01)
    assert (found.metric, found.base_accuracy) == (metric_of(run).name, pytest.approx(Loops(run).value(["base"] * N)))
    assert all(pair.ranking.right is None and pair.ranking.ece is None for pair in found.pairs)
    assert any("is no matter of right and wrong" in note for note in found.notes)
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "typed",
    [
        "savers --base base --holdout 0.5",
        "savers --all-bases",
        "chains --base base --max-drop 2%",
        "analyse --base base",
        "report --base base --out page.html",
    ],
)
def test_commands_print_it(run: Run, typed: str, tmp_path: Path) -> None:
    verb, *rest = typed.split()
    picture = ["--plot", str(tmp_path / "a.svg"), "--draws", "5"] if verb == "analyse" else []
    ended = pilotfish(tmp_path, verb, run.path, *rest, *picture)
    assert ended.returncode == 0, ended.stderr
