"""Which cascade of a pool is taken: the best of all on the samples that choose, and no others."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from pilotfish.errors import BudgetError
from pilotfish.flow.best_cascade import Asked, best_chain, best_pair, most_accurate
from pilotfish.plan.holdout import split_for_certificate, split_rows
from pilotfish.records import Records, RecordsMeta, Run
from pilotfish.records.records import string_ids
from pilotfish.tasks.labels import labels_of
from support.runs import records

N = 64
COSTS = {"tiny": 1.0, "small": 2.5, "middle": 4.0, "base": 10.0}


def pool(folder: Path, seed: int, n: int = N, worse: np.ndarray | None = None) -> Run:
    """Four models, the dearer the more often right; scores tell a little. worse: rows where no saver is right."""
    rng = np.random.default_rng(seed)
    run = Run(folder)
    for k, (name, cost) in enumerate(COSTS.items()):
        right = rng.random(n) < 0.6 + 0.1 * k
        if worse is not None and name != "base":
            right[worse] = False
        score = np.round(np.where(right, rng.beta(4, 2, n), rng.beta(2, 2, n)), 2)
        run.write(
            records(
                name,
                (~right).astype(int),
                label=np.zeros(n, int),
                outputs={"confidence": score.astype(np.float32)},
                costs={"ms@cpu": cost},
            )
        )
    return run


def asked(max_drop: float, guarantee: float | None = None, **more: object) -> Asked:
    budget = {"max_drop": max_drop, "max_cost": None, "min_metric": None, "min_accuracy": None}
    return Asked(budget | more, "ms@cpu", "val", 0.5, 0, guarantee=guarantee)


def cheapest(run: Run, rows: np.ndarray, max_drop: float, most: int = 3) -> float:
    """By trying every chain with every vector of thresholds on *rows*."""
    read = {name: run.read(name) for name in COSTS}
    right = {name: read[name].outputs.prediction[rows] == 0 for name in COSTS}
    score = {name: read[name].outputs.confidence[rows] for name in COSTS if name != "base"}
    best = COSTS["base"]
    for stages in (s for k in range(1, most) for s in itertools.combinations(list(COSTS)[:-1], k)):
        cuts = [[*np.unique(score[name]), np.inf] for name in stages]
        for thresholds in itertools.product(*cuts):
            left, ok, cost = np.ones(len(rows), bool), np.zeros(len(rows), bool), 0.0
            for name, t in zip(stages, thresholds, strict=True):
                cost += COSTS[name] * left.mean()
                gone = left & (score[name] >= t)
                ok |= gone & right[name]
                left &= ~gone
            ok |= left & right["base"]
            cost += COSTS["base"] * left.mean()
            if right["base"].sum() - ok.sum() <= max_drop * len(rows) + 1e-9:
                best = min(best, cost)
    return best


@pytest.mark.parametrize(("seed", "max_drop"), [(0, 0.0), (1, 0.05), (2, 0.1)])
def test_the_chain_is_the_best_of_all_on_the_samples_that_choose(seed: int, max_drop: float, tmp_path: Path) -> None:
    run = pool(tmp_path, seed)
    rows = split_rows(N, 0.5, 0).fit
    for stages in (2, 3):
        best = cheapest(run, rows, max_drop, stages)
        if best == COSTS["base"]:
            with pytest.raises(BudgetError, match="no saver: of 3 candidates for base"):
                best_chain(run, list(COSTS), "base", asked(max_drop), stages)
            continue
        found = best_chain(run, list(COSTS), "base", asked(max_drop), stages)
        assert found.calibration.cost == pytest.approx(best)
        assert found.calibration.drop <= max_drop
        assert found.calibration.n == len(rows)
    if best < COSTS["base"]:
        assert found.calibration.cost <= (best_pair(run, list(COSTS), "base", asked(max_drop)).calibration.cost or 0)


def test_a_least_accuracy_and_a_cost_are_budgets_too(tmp_path: Path) -> None:
    run = pool(tmp_path, 1)
    kept = best_chain(run, list(COSTS), "base", asked(0.05), 3).calibration
    same = asked(None, min_accuracy=kept.base_value - 0.05)  # type: ignore[arg-type]
    assert best_chain(run, list(COSTS), "base", same, 3).calibration.cost == kept.cost
    spent = best_chain(run, list(COSTS), "base", asked(None, max_cost=kept.cost), 3).calibration  # type: ignore[arg-type]
    assert spent.drop <= kept.drop
    assert (spent.cost or 99) <= (kept.cost or 0) + 1e-9


def test_only_the_models_that_are_named_are_stages(tmp_path: Path) -> None:
    run = pool(tmp_path, 1)
    for left in ("tiny", "small", "middle"):
        found = best_chain(run, [name for name in COSTS if name != left], "base", asked(0.1), 3)
        assert left not in [stage.name for stage in found.artefact.stages]


def test_with_a_guarantee_the_samples_that_certify_choose_nothing(tmp_path: Path) -> None:
    n = 600
    parts = split_for_certificate(n, 0.5, 0, True)
    promised = asked(0.2, guarantee=0.9)
    found = best_chain(pool(tmp_path / "a", 3, n), list(COSTS), "base", promised, 3)
    assert found.split == {"fit": len(parts.fit), "certify": len(parts.certify), "evaluation": len(parts.evaluation)}
    assert found.guarantee is not None
    assert found.guarantee["n"] == len(parts.certify)
    assert found.artefact.origin["apart"] is True
    spoiled = pool(tmp_path / "b", 3, n, worse=parts.certify[: len(parts.certify) // 8])
    other = best_chain(spoiled, list(COSTS), "base", promised, 3)
    assert [s.name for s in other.artefact.stages] == [s.name for s in found.artefact.stages]
    assert other.calibration.exit_ratio[-1] > found.calibration.exit_ratio[-1]  # the promise is kept by exiting less


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.7])
def test_the_base_of_many_labels_is_the_best_by_its_own_threshold(scale: float, tmp_path: Path) -> None:
    rng, run = np.random.default_rng(0), Run(tmp_path)
    truth = rng.random((400, 5)) < 0.3
    sure = np.clip(0.5 + 0.3 * (2 * truth - 1) + 0.1 * rng.standard_normal(truth.shape), 0, 1)
    rough = np.clip(0.5 + 0.2 * (2 * truth - 1) + 0.3 * rng.standard_normal(truth.shape), 0, 1)
    for name, probs in (("good", scale * sure), ("poor", rough)):
        meta = RecordsMeta(name, "val", n_classes=5, costs={"macs": 1.0}, task="labels")
        label = truth.astype(np.int8)
        run.write(Records(string_ids(np.arange(400)), label, labels_of(probs.astype(np.float32)), meta))
    assert most_accurate(run, ["good", "poor"], "val") == "good"
