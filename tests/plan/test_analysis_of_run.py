"""A whole run: which savers, which split they are chosen on, what is left out and said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pilotfish.errors import PilotfishError, RecordsError, UsageError
from pilotfish.plan.analysis import analyse, pair_of
from pilotfish.plan.holdout import split_rows
from pilotfish.plan.sweep import sweep
from pilotfish.records import Run, import_file, open_run, read_table
from support.runs import REAL_DATA, records

N = 240
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "imagenet_lite"
LITE = "lite:efficientnet_lite"


def write(run: Run, split: str, seed: int, models: dict[str, tuple[float, float | None]], n: int = N) -> None:
    """models: name -> (accuracy, macs); confidences rise with being right."""
    rng = np.random.default_rng(seed)
    for name, (accuracy, macs) in models.items():
        right = rng.random(n) < accuracy
        score = rng.random(n) + 0.5 * right
        costs = {} if macs is None else {"macs": macs}
        run.write(
            records(name, (~right).astype(int), label=[0] * n, split=split, outputs={"confidence": score}, costs=costs)
        )


POOL = {"s": (0.7, 1.0), "m": (0.8, 4.0), "l": (0.85, 7.0), "base": (0.9, 10.0), "dear": (0.95, 20.0)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "run")
    write(made, "val", 1, POOL)
    return made


def test_one_split_is_halved(run: Run) -> None:
    found = analyse(run, "base", max_drop=0.05, draws=5, seed=3)
    assert sorted(p.saver for p in found.pairs) == ["l", "m", "s"]
    assert (found.train, found.n, found.reference) == (None, N, "label")
    assert any("halved by --seed" in note for note in found.notes)
    assert any("240 samples" in note and "noisy" in note for note in found.notes)
    assert found.selection is not None
    assert [p.saver for p in found.pairs] == [s.saver for s in found.selection.savers]
    assert (found.selection.n_train, found.selection.n_judged) == (N // 2, N // 2)
    table, halves = read_table(run, ["s"], "base"), split_rows(N, 0.5, 3)
    chief = next(p for p in found.pairs if p.saver == "s")
    pair = pair_of(table, "s")
    for rows, curve in ((halves.fit, "train"), (halves.evaluation, "validation")):
        part = pair.take(rows)
        path = sweep(part.values[0], part.quality[0], part.quality[1])
        assert chief.curves is not None
        assert getattr(chief.curves, curve).r_match == path.exited[path.last_feasible()] / path.n
    assert chief.curve.n == N
    assert chief.transfers == ()
    json.dumps(found.to_json(), allow_nan=False)


def test_a_train_split_is_used_where_there_is_one(run: Run) -> None:
    write(run, "train", 2, {name: POOL[name] for name in ("s", "m", "base")}, n=500)
    write(run, "v2", 5, {name: POOL[name] for name in ("s", "base")}, n=90)
    found = analyse(run, "base", draws=5)
    assert found.train == "train"
    assert found.selection is not None
    assert sorted(s.saver for s in found.selection.savers) == ["m", "s"]
    assert (found.selection.n_train, found.selection.n_judged) == (500, N)
    pairs = {p.saver: p for p in found.pairs}
    assert found.pairs[-1].saver == "l"  # not recorded on train, so analysed but not ranked
    assert pairs["l"].curves is None
    assert pairs["l"].transfers == ()
    assert pairs["m"].curves is not None
    assert pairs["m"].curves.train.n == 500
    assert len(pairs["m"].transfers) == 2
    ways = {(t.tuned_on, t.judged_on) for t in pairs["s"].transfers}
    assert ways == {(a, b) for a in ("val", "train", "v2") for b in ("val", "train", "v2") if a != b}
    other = analyse(run, "base", train="v2", draws=5)
    assert other.selection is not None
    assert [s.saver for s in other.selection.savers] == ["s"]


def test_named_savers_alone_and_without_costs(run: Run) -> None:
    assert [p.saver for p in analyse(run, "base", savers=["m", "m"], draws=2).pairs] == ["m"]
    write(run, "free", 1, {name: (accuracy, None) for name, (accuracy, _) in POOL.items()})
    found = analyse(run, "base", split="free", draws=2)
    assert len(found.pairs) == 4  # with no costs any model may be a saver
    assert all(p.break_even is None for p in found.pairs)
    assert found.selection is not None
    assert found.selection.by == "exit_ratio"
    assert any("no cost 'macs'" in note for note in found.notes)
    json.dumps(found.to_json(), allow_nan=False)


def test_who_cannot_be_a_saver_is_left_out_and_named(run: Run) -> None:
    run.write(records("mute", [0] * N, label=[0] * N, costs={"macs": 1.0}))
    write(run, "val", 9, {"unpriced": (0.7, None)})
    found = analyse(run, "base", draws=2)
    assert any("left out: mute" in note for note in found.notes)
    assert any("not ranked: unpriced" in note for note in found.notes)
    assert found.pairs[-1].saver == "unpriced"
    assert found.pairs[-1].break_even is None


def test_without_labels_the_base_is_the_reference(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write(records("s", [5, 6, 7, 8], outputs={"confidence": [0.9, 0.8, 0.7, 0.6]}, costs={"macs": 1.0}))
    run.write(records("base", [5, 6, 1, 1], costs={"macs": 10.0}))
    found = analyse(run, "base", draws=2)
    assert (found.reference, found.base_accuracy) == ("base", 1.0)
    assert found.pairs[0].ranking.right.auroc == 1.0
    assert found.pairs[0].mistakes.lost == 0
    assert found.pairs[0].break_even is not None
    assert found.pairs[0].break_even.oracle_ratio == 0.5


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"base": "bas"}, RecordsError, "no records of model 'bas' on split 'val'; nearest names: base"),
        ({"split": "test"}, RecordsError, "no records on split 'test'"),
        ({"train": "test"}, RecordsError, "no records of base on split 'test'"),
        ({"train": "val"}, UsageError, "--train and --split are both val"),
        ({"cost": "euro"}, RecordsError, "no cost 'euro'"),
        ({"score": "max_prop"}, UsageError, "unknown score 'max_prop'"),
        ({"savers": ["base"]}, UsageError, "base is the base"),
        ({"savers": ["x"]}, RecordsError, "no records of model 'x'"),
        ({"base": "s"}, RecordsError, "no model of"),
        ({"max_drop": 5.0}, UsageError, "max_drop is a fraction"),
        ({"draws": 1}, UsageError, "at least 2 draws"),
        ({"seed": -1}, UsageError, "a seed is"),
    ],
)
def test_errors_say_what_to_do(run: Run, options: dict[str, object], kind: type[PilotfishError], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        analyse(run, **{"base": "base", **options})  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1


def test_the_shipped_example() -> None:
    found = analyse(open_run(EXAMPLES), f"{LITE}2@300", max_drop=0.005, draws=20)
    assert len(found.pairs) == 11
    assert found.selection is not None
    assert found.selection.selected == f"{LITE}0@224"
    assert found.selection.spearman is not None
    assert found.selection.spearman > 0.8
    for pair in found.pairs:
        assert pair.break_even is not None
        assert pair.break_even.oracle_ratio >= pair.break_even.exit_ratio
        assert pair.ranking.right.auroc is not None
        assert pair.ranking.right.auroc > 0.75


def test_cifar10(tmp_path: Path) -> None:
    """Little-Big's Q1 holds on real predictions: correctable mistakes lie where the saver is unsure."""
    path = REAL_DATA / "cifar10_test.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here (looked in {REAL_DATA})")
    run = Run(tmp_path / "run")
    with np.load(path, allow_pickle=False) as data:
        for name, macs, arrays in (
            ("wrn16_4", 390.0, {"probs": data["probs"][list(data["prob_models"]).index("wrn16_4")]}),
            ("wrn_28_10", 5250.0, {"prediction": data["classes"][list(data["class_models"]).index("wrn_28_10")]}),
        ):
            np.savez(tmp_path / "m.npz", label=data["label"], **arrays)
            run.write(import_file(tmp_path / "m.npz", name, costs={"macs": macs}))
    (found,) = analyse(run, "wrn_28_10", max_drop=0.005).pairs
    assert dict(found.mistakes.found_in_lowest)[0.3] > 0.9
    assert found.break_even is not None
    assert 0.75 < found.break_even.exit_ratio < 0.85 < 0.95 < found.break_even.oracle_ratio
    assert found.ranking.right.auroc == pytest.approx(0.915, abs=0.002)
    assert 0 < found.noise.exit_ratio.sd < 0.05
    metrics = pytest.importorskip("sklearn.metrics")
    pair = pair_of(read_table(run, ["wrn16_4"], "wrn_28_10"), "wrn16_4")
    assert found.ranking.right.auroc == pytest.approx(metrics.roc_auc_score(pair.quality[0], pair.values[0]), abs=1e-12)
