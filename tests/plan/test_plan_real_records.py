"""The same references on real predictions: CIFAR-10 pairs and FrugalML's priced APIs. Skipped where the data is not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish import import_predictions, savers, tune
from pilotfish.records import Run, open_run
from support import brute
from support.runs import REAL_DATA

COSTS = {"wrn16_4": 7, "base": 20}


def real(name: str) -> dict[str, Any]:
    path = REAL_DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not here (looked in {REAL_DATA})")
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[str]]:
    data, folder = real("cifar10_test.npz"), tmp_path_factory.mktemp("cifar10")
    run, place = folder / "run", list(data["prob_models"]).index("wrn16_4")
    np.savez(folder / "saver.npz", probs=data["probs"][place], label=data["label"])
    import_predictions(folder / "saver.npz", run, "wrn16_4", costs={"macs": COSTS["wrn16_4"]})
    for name, classes in zip(data["class_models"], data["classes"], strict=True):
        np.savez(folder / "base.npz", prediction=classes, label=data["label"])
        import_predictions(folder / "base.npz", run, str(name), costs={"macs": COSTS["base"]})
    return open_run(run), [str(name) for name in data["class_models"]]


def pair_points(run: Run, saver: str, base: str) -> tuple[list[brute.Point], int, int]:
    s, b = run.read(saver), run.read(base)
    scores = s.outputs.log_odds if s.outputs.log_odds is not None else s.outputs.confidence
    assert scores is not None
    right = [(r.outputs.prediction == r.label).tolist() for r in (s, b)]
    return brute.walk(scores.tolist(), *right), len(s), sum(right[1])


def test_cifar10_savers_and_tune_equal_brute_force(cifar10: tuple[Run, list[str]]) -> None:
    run, bases = cifar10
    assert len(bases) == 16
    for base in bases:
        points, n, base_right = pair_points(run, "wrn16_4", base)
        best = brute.largest_within(points, n)
        assert best is not None
        found = savers(run, base)
        delta = Fraction(COSTS["wrn16_4"], COSTS["base"]) - Fraction(best.exited, n)
        assert [s.saver for s in found.savers] == ["wrn16_4"]
        assert found.savers[0].exit_ratio == best.exited / n
        assert found.savers[0].delta_cost == pytest.approx(float(delta), abs=1e-15)
        assert found.best == ("wrn16_4" if delta < 0 else None)
        assert found.base_accuracy == base_right / n
        for drop in ("0", "0.001", "0.005", "0.01"):
            best = brute.largest_within(points, n, Fraction(drop))
            assert best is not None
            chosen = tune(run, ["wrn16_4", base], max_drop=float(drop), holdout=0)
            assert chosen.artefact.operating_point.thresholds == (best.threshold,)
            assert chosen.calibration.drop == -best.gain / n
            assert chosen.calibration.exit_ratio[0] == best.exited / n
            exact = brute.cost(best, n, Fraction(COSTS["wrn16_4"]), Fraction(COSTS["base"]))
            assert chosen.calibration.cost == pytest.approx(float(exact), rel=1e-12)


def test_cifar10_confidences_do_not_saturate(cifar10: tuple[Run, list[str]]) -> None:
    log_odds = cifar10[0].read("wrn16_4").outputs.log_odds
    assert log_odds is not None
    assert len(np.unique(log_odds)) > 9990
    assert np.isfinite(log_odds).all()


@pytest.mark.parametrize("task", ["DIGIT", "FERPLUS", "IMDB"])
def test_frugalml_confidences_with_ties_and_real_prices(tmp_path: Path, task: str) -> None:
    data = real("frugalml.npz")
    names = [f"{i}:{name}" for i, name in enumerate(data[f"{task}/models"])]
    prices = dict(zip(names, data[f"{task}/cost_per_10k"].tolist(), strict=True))
    for i, name in enumerate(names):
        arrays = {"prediction": data[f"{task}/pred"][i], "confidence": data[f"{task}/conf"][i]}
        arrays["label"] = data[f"{task}/label"]
        np.savez(tmp_path / "api.npz", **arrays)
        import_predictions(tmp_path / "api.npz", tmp_path / "run", name, costs={"usd": prices[name]})
    run = open_run(tmp_path / "run")
    base = max(names, key=lambda name: prices[name])
    found = {s.saver: s for s in savers(run, base, cost="usd").savers}
    assert set(found) == {name for name in names if prices[name] < prices[base]}
    for name, result in found.items():
        chosen = tune(run, [name, base], max_drop=0.01, cost="usd", holdout=0)
        points, n, _ = pair_points(run, name, base)
        assert len(points) < n  # ties
        match, within = brute.largest_within(points, n), brute.largest_within(points, n, Fraction(1, 100))
        assert match is not None
        assert within is not None
        assert result.exit_ratio == match.exited / n
        assert chosen.artefact.operating_point.thresholds == (within.threshold,)
        assert chosen.calibration.drop == -within.gain / n
