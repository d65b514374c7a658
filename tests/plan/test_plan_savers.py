"""Savers ranked by ΔC = C_S/C_B - r_match (TinySaver Eq. 10), from records on disk."""

from __future__ import annotations

import json
import math
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotfish.errors import PilotfishError, RecordsError, UsageError
from pilotfish.plan import rank_savers
from pilotfish.records import Run
from support import brute
from support.pairs import TIED, Pair
from support.runs import records, write_pair

N = 12


@st.composite
def pools(draw: st.DrawFn) -> tuple[dict[str, tuple[int, list[float], list[bool]]], list[bool]]:
    """Savers by name: cost, scores, who is right; and the base's answers. The base costs 100."""
    answers = st.lists(st.booleans(), min_size=N, max_size=N)
    scores = st.lists(TIED | st.just(math.nan), min_size=N, max_size=N)
    costs = st.integers(0, 130)
    pool = {f"s{i}": (draw(costs), draw(scores), draw(answers)) for i in range(draw(st.integers(0, 4)))}
    return pool, draw(answers)


@given(pools(), st.integers(0, 300))
@settings(max_examples=40)
def test_ranking_is_equation_10(
    pool: tuple[dict[str, tuple[int, list[float], list[bool]]], list[bool]], drop: int
) -> None:
    savers, base_ok = pool
    exact: dict[str, Fraction] = {}
    r: dict[str, Fraction] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        run.write(records("base", [int(not b) for b in base_ok], label=[0] * N, costs={"macs": 100.0}))
        for name, (cost, scores, right) in savers.items():
            wrong = [int(not s) for s in right]
            run.write(records(name, wrong, label=[0] * N, outputs={"confidence": scores}, costs={"macs": float(cost)}))
            if cost < 100:
                best = brute.largest_within(brute.every_threshold(scores, right, base_ok), N, Fraction(drop, 1000))
                assert best is not None
                r[name] = Fraction(best.exited, N)
                exact[name] = Fraction(cost, 100) - r[name]
        found = rank_savers(run, "base", max_drop=drop / 1000)
    assert [s.saver for s in found.savers] == sorted(exact, key=lambda name: (exact[name], -r[name], name))
    for saver in found.savers:
        assert saver.exit_ratio == pytest.approx(float(r[saver.saver]), abs=1e-15)
        assert saver.delta_cost == pytest.approx(float(exact[saver.saver]), abs=1e-15)
    saving = [name for name in exact if exact[name] < 0]
    assert found.best == (found.savers[0].saver if saving else None)
    json.dumps(found.to_json(), allow_nan=False)


def saver(name: str, cost: float | None, exits: int, n: int = 10, **meta: object) -> object:
    """A saver that can answer *exits* of n samples and is wrong about the rest, which the base knows."""
    costs = {} if cost is None else {"macs": cost}
    wrong = [0] * exits + [1] * (n - exits)
    scores = {"confidence": np.linspace(1, 0.1, n)}
    return records(name, wrong, label=[0] * n, outputs=scores, costs=costs, **meta)


def run_of(folder: Path, *models: object, base_cost: float | None = 100.0) -> Run:
    run = Run(folder)
    for model in models:
        run.write(model)  # type: ignore[arg-type]
    run.write(records("base", [0] * 10, label=[0] * 10, costs={} if base_cost is None else {"macs": base_cost}))
    return run


def test_by_hand(tmp_path: Path) -> None:
    run = run_of(tmp_path, saver("a", 10.0, 5), saver("b", 40.0, 9), saver("c", 90.0, 9), saver("dear", 100.0, 10))
    found = rank_savers(run, "base")
    assert [(s.saver, s.exit_ratio) for s in found.savers] == [("b", 0.9), ("a", 0.5), ("c", 0.9)]
    assert [s.delta_cost for s in found.savers] == pytest.approx([-0.5, -0.4, 0.0])
    assert [s.cost_ratio for s in found.savers] == [0.4, 0.1, 0.9]
    assert [s.accuracy for s in found.savers] == [0.9, 0.5, 0.9]
    assert found.savers[0].threshold == pytest.approx(0.2)
    assert (found.best, found.base_accuracy, found.n) == ("b", 1.0, 10)


def test_no_saver_saves(tmp_path: Path) -> None:
    found = rank_savers(run_of(tmp_path, saver("a", 50.0, 5), saver("b", 60.0, 5)), "base")
    assert found.best is None  # ΔC of a is exactly 0: no saving
    assert [s.saver for s in found.savers] == ["a", "b"]
    assert found.to_json()["best"] is None


def test_the_last_of_its_pool_has_no_savers(tmp_path: Path) -> None:
    found = rank_savers(run_of(tmp_path), "base")
    assert (found.best, found.savers) == (None, ())


def test_without_costs_the_exit_ratio_ranks(tmp_path: Path) -> None:
    found = rank_savers(run_of(tmp_path, saver("a", None, 3), saver("b", 1e9, 7), base_cost=None), "base")
    assert [(s.saver, s.cost_ratio, s.delta_cost) for s in found.savers] == [("b", None, None), ("a", None, None)]
    assert found.best is None
    assert any("no cost 'macs'" in note for note in found.notes)


def test_a_saver_without_a_cost_ranks_after_the_others(tmp_path: Path) -> None:
    found = rank_savers(run_of(tmp_path, saver("free", None, 10), saver("a", 90.0, 1)), "base")
    assert [s.saver for s in found.savers] == ["a", "free"]
    assert any("free has no cost 'macs'" in note for note in found.notes)


def test_a_model_of_classes_alone_is_left_out_and_named(tmp_path: Path) -> None:
    found = rank_savers(run_of(tmp_path, saver("a", 10.0, 5), records("mute", [0] * 10, costs={"macs": 1.0})), "base")
    assert [s.saver for s in found.savers] == ["a"]
    assert any("without a confidence, and so left out: mute" in note for note in found.notes)


def test_without_labels_the_base_is_the_reference(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write(records("s", [5, 6, 7], outputs={"confidence": [0.9, 0.8, 0.7]}))
    run.write(records("base", [5, 6, 1]))
    found = rank_savers(run, "base")
    assert (found.reference, found.base_accuracy) == ("base", 1.0)
    assert found.savers[0].exit_ratio == pytest.approx(2 / 3)


def test_the_papers_rules_choose_their_own_points(tmp_path: Path) -> None:
    pair = Pair([0.95, 0.9, 0.81, 0.5], [True, False, True, True], [True, True, False, True])
    run = write_pair(tmp_path, pair)
    for method, expected in (
        ("sweep", brute.Point(-math.inf, 4, 0)),
        ("grid50", brute.grid50(*pair, Fraction(0))),
        ("first_violation", brute.first_violation(*pair)),
    ):
        (found,) = rank_savers(run, "base", method=method).savers
        assert (found.threshold, found.exit_ratio) == pytest.approx((expected.threshold, expected.exited / 4))
    assert rank_savers(run, "base", method="first_violation").savers[0].exit_ratio == 0.5


def test_held_out_samples_judge_what_the_others_chose(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pair = Pair(rng.random(400).tolist(), (rng.random(400) < 0.8).tolist(), (rng.random(400) < 0.85).tolist())
    run = write_pair(tmp_path, pair)
    found = rank_savers(run, "base", holdout=0.25, seed=3)
    held = found.savers[0].held_out
    assert found.n == 300
    assert held is not None
    rows = np.sort(np.random.default_rng(3).permutation(400)[:100])
    part = [[values[i] for i in rows] for values in pair]
    point = brute.count(part[0], part[1], part[2], found.savers[0].threshold)
    assert held["exit_ratio"] == pytest.approx(point.exited / 100)
    assert held["drop"] == pytest.approx(-point.gain / 100)
    assert held["delta_cost"] == pytest.approx(0.1 - point.exited / 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "bas"}, "no records of model 'bas' on split 'val'; nearest names: base"),
        ({"split": "test"}, "no records on split 'test'; it has split val: use --split"),
        ({"cost": "euro"}, "base has no cost 'euro' in its records"),
        ({"score": "max_prop"}, "unknown score 'max_prop'; nearest names: max_prob"),
        ({"method": "grid"}, "unknown method 'grid'; nearest names: grid50"),
        ({"max_drop": 5}, "max_drop is a fraction"),
        ({"max_drop": math.nan}, "max_drop is a fraction"),
        ({"holdout": 0.999}, "10 samples cannot be split"),
    ],
)
def test_errors_say_what_to_do(tmp_path: Path, options: dict[str, object], message: str) -> None:
    run = run_of(tmp_path, saver("a", 10.0, 5))
    with pytest.raises(PilotfishError) as caught:
        rank_savers(run, **{"base": "base", **options})  # type: ignore[arg-type]
    assert isinstance(caught.value, RecordsError | UsageError)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
