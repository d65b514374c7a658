"""Models with fewer rows: each saver on those that it shares with the base, and no comparison turned round by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.documents import as_document
from pilotfish.plan import find_chains, rank_pool, rank_savers, tune
from pilotfish.plan.analysis import analyse
from pilotfish.records import Failure, Run, compare, fair_table
from pilotfish.records.compare import comparable
from support.runs import records

N = 600
SKILL = {"tiny": 0.6, "good": 0.85, "mid": 0.8, "base": 0.9}
COST = {"tiny": 1.0, "good": 2.0, "mid": 5.0, "base": 20.0}
rng = np.random.default_rng(0)
HARD = rng.random(N)
SCORES = {name: 1 - HARD + 0.1 * rng.standard_normal(N) for name in SKILL}


def model(name: str, rows: Any = None, **meta: Any) -> Any:
    """Records of some rows of a model that is wrong where a sample is harder than its skill."""
    kept = np.arange(N) if rows is None else np.asarray(rows)
    wrong = (SKILL[name] < HARD).astype(int)[kept]
    return records(
        meta.pop("as_", name),
        wrong,
        ids=[f"i{i}" for i in kept],
        label=meta.pop("label", np.zeros(len(kept), int)),
        outputs={"log_odds": SCORES[name][kept]},
        costs={"macs": COST[name]},
        **meta,
    )


def a_run(folder: Path, rows: dict[str, Any] | None = None, names: Sequence[str] = tuple(SKILL)) -> Run:
    run = Run(folder)
    for name in names:
        run.write(model(name, (rows or {}).get(name)))
    return run


easy = np.argsort(HARD)[:80]  # where even the smallest is right: shared rows turn the advice round
PARTIAL = {
    "a few easy rows": easy,
    "the first of the folder": np.arange(100),
    "two thirds at random": np.sort(rng.permutation(N)[:400]),
}


@pytest.mark.parametrize("rows", PARTIAL.values(), ids=PARTIAL)
def test_a_partial_saver_changes_nothing_for_the_others(rows: Any, tmp_path: Path) -> None:
    whole = rank_savers(a_run(tmp_path / "whole", names=["good", "mid", "base"]), "base", max_drop=0.01)
    found = rank_savers(a_run(tmp_path / "partial", {"tiny": rows}), "base", max_drop=0.01)
    assert found.best == whole.best == "good"
    assert found.savers[:-1] == whole.savers
    short = found.savers[-1]
    alone = Run(tmp_path / "alone")  # and it is judged as on its rows alone
    for name in ("tiny", "base"):
        alone.write(model(name, rows))
    [expected] = rank_savers(alone, "base", max_drop=0.01).savers
    assert (short.saver, short.n, short.comparable) == ("tiny", len(rows), False)
    assert (short.exit_ratio, short.threshold, short.accuracy) == (
        expected.exit_ratio,
        expected.threshold,
        expected.accuracy,
    )
    told = f"tiny: {len(rows)} of the base's {N} samples; judged on those, not comparable with the others"
    assert told in found.notes
    assert (found.n, found.base_accuracy) == (whole.n, whole.base_accuracy)


def test_a_few_failures_keep_a_saver_in_the_ranking(tmp_path: Path) -> None:
    run = a_run(tmp_path, {"tiny": np.arange(3, N), "good": np.arange(N - 5)})
    found = rank_savers(run, "base", max_drop=0.01)
    assert {s.saver: s.n for s in found.savers} == {"tiny": N - 3, "good": N - 5, "mid": N}
    assert all(s.comparable for s in found.savers)
    [note] = [note for note in found.notes if "ranked on" in note]
    [pooled] = [note for note in rank_pool(run).notes if "judged on" in note]
    [chained] = [note for note in find_chains(run, "base", max_drop=0.01).notes if "judged on" in note]
    assert pooled.endswith("all are judged on the 592 that all have")
    assert chained.endswith("all are judged on the 592 that all have")
    assert "tiny 597" in note
    assert "good 595" in note
    assert "ranked on the 592 of all" in note


def test_the_order_is_that_of_the_shared_samples(tmp_path: Path) -> None:
    """``lucky`` lacks samples that it would get wrong: better by its own figures, worse where all are judged."""
    run = Run(tmp_path)
    order = np.argsort(HARD)
    for name in ("good", "base"):
        run.write(model(name))
    kept = np.sort(order[: int(0.95 * N)])
    wrong = np.zeros(N, int)
    wrong[order[int(0.82 * N) : int(0.95 * N)]] = 1
    wrong[order[:60]] = 1
    run.write(
        records(
            "lucky",
            wrong[kept],
            ids=[f"i{i}" for i in kept],
            label=[0] * len(kept),
            outputs={"log_odds": SCORES["good"][kept]},
            costs={"macs": 2.0},
        )
    )
    found = rank_savers(run, "base", max_drop=0.01)
    pool = Run(tmp_path / "shared")
    for name in ("good", "lucky", "base"):
        pool.write(
            run.read(name).take(np.flatnonzero(np.isin(run.read(name).ids.to_pylist(), [f"i{i}" for i in kept])))
        )
    fair = rank_savers(pool, "base", max_drop=0.01)
    assert [s.saver for s in found.savers] == [s.saver for s in fair.savers]
    assert found.best == fair.best


def test_savers_that_share_their_rows_are_compared_on_them(tmp_path: Path) -> None:
    rows = np.arange(0, N, 5)
    found = rank_savers(a_run(tmp_path, {"tiny": rows, "good": rows, "mid": rows}), "base", max_drop=0.01)
    assert {s.n for s in found.savers} == {len(rows)}
    assert all(s.comparable for s in found.savers)
    assert any(f"good has {len(rows)} of the {N} samples of base" in note for note in found.notes)


def test_certificates_and_held_out_samples_are_of_the_rows_shared(tmp_path: Path) -> None:
    run = a_run(tmp_path, {"tiny": np.sort(rng.permutation(N)[:300])})
    found = rank_savers(run, "base", max_drop=0.05, guarantee=0.9, holdout=0.3)
    plain = rank_savers(run, "base", max_drop=0.05, holdout=0.3)
    assert [s.saver for s in found.savers][-1] == "tiny"
    assert all(s.certified is not None and s.held_out is not None for s in found.savers)
    assert {s.saver: s.n for s in plain.savers} == {"tiny": 210, "good": 420, "mid": 420}


def test_labels_that_one_model_knows_count_for_all(tmp_path: Path) -> None:
    run = Run(tmp_path)
    none = np.full(N, -1)
    for name in ("tiny", "good", "base"):
        run.write(model(name, label=none))
    run.write(model("mid", np.arange(N - 10)))
    found = rank_savers(run, "base", max_drop=0.01)
    assert found.reference == "label"
    assert all(s.n == N - 10 for s in found.savers)


@pytest.mark.parametrize("rows", PARTIAL.values(), ids=PARTIAL)
def test_labels_of_a_few_rows_do_not_stand_for_all(rows: Any, tmp_path: Path) -> None:
    run = Run(tmp_path)
    for name in ("good", "mid", "base"):
        run.write(model(name, label=np.full(N, -1)))
    plain = rank_savers(run, "base", max_drop=0.01)
    run.write(model("tiny", rows))
    found = rank_savers(run, "base", max_drop=0.01)
    assert found.reference == plain.reference == "base"
    assert found.savers[:-1] == plain.savers
    assert (found.savers[-1].saver, found.savers[-1].comparable) == ("tiny", False)
    assert any(note.startswith("labels are known for the samples of tiny alone") for note in found.notes)


@pytest.mark.parametrize("rows", PARTIAL.values(), ids=PARTIAL)
def test_chains_pools_and_analyses_name_it_and_leave_it_out(rows: Any, tmp_path: Path) -> None:
    whole = a_run(tmp_path / "whole", names=["good", "mid", "base"])
    partial = a_run(tmp_path / "partial", {"tiny": rows})
    chains = find_chains(partial, "base", max_drop=0.01)
    assert chains.search == find_chains(whole, "base", max_drop=0.01).search
    assert any(note.startswith(f"tiny: {len(rows)} of the base's {N} samples; left out") for note in chains.notes)
    pool, of_three = rank_pool(partial), rank_pool(whole)
    assert pool.models == of_three.models
    assert (pool.n, pool.best) == (N, of_three.best)
    assert any(note.startswith(f"tiny: {len(rows)} of ") for note in pool.notes)
    found, expected = (analyse(run, "base", draws=2, max_drop=0.01) for run in (partial, whole))
    assert (found.n, found.selection, found.base_accuracy) == (N, expected.selection, expected.base_accuracy)
    assert [p.saver for p in found.pairs] == [*(p.saver for p in expected.pairs), "tiny"]
    assert as_document(found.pairs[:-1]) == as_document(expected.pairs)
    assert any(note.startswith(f"tiny: {len(rows)} of the base's {N} samples; judged on those") for note in found.notes)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"tiny": np.arange(100)}, "tiny has 100 of the 600 samples of base"),
        ({"good": np.arange(590)}, "good has 590 of the 600 samples of base"),
        ({"base": np.arange(400)}, "base has 400 samples, and others up to 600"),
        (
            {"tiny": np.arange(300), "good": np.arange(200, 600)},
            "tiny has 300 of the 600 samples of base; good has 400",
        ),
    ],
)
def test_tune_counts_per_model(rows: dict[str, Any], said: str, tmp_path: Path) -> None:
    found = tune(a_run(tmp_path, rows), ["tiny", "good", "base"], max_drop=0.1, holdout=0)
    [note] = [note for note in found.notes if "left out" in note]
    assert note.startswith(said)
    assert f"of the {found.calibration.n} that all have" in note


def test_failures_are_said_to_be_such(tmp_path: Path) -> None:
    run = a_run(tmp_path, names=["good", "base"])
    run.write(model("tiny", np.arange(590), failures=tuple(Failure(f"i{i}", "truncated") for i in range(590, 600))))
    found = tune(run, ["tiny", "base"], max_drop=0.3, holdout=0)
    assert any("tiny has 590 of the 600 samples of base (10 could not be read or answered)" in n for n in found.notes)


def test_the_report_keeps_the_pair_whole(tmp_path: Path) -> None:
    from pilotfish.report.from_records import about_records

    whole = about_records(
        a_run(tmp_path / "a", names=["good", "mid", "base"]), "base", None, None, "macs", "max_prob", "val"
    )
    found = about_records(a_run(tmp_path / "b", {"tiny": easy}), "base", None, None, "macs", "max_prob", "val")
    assert (found.n, found.base_accuracy, found.stages) == (whole.n, whole.base_accuracy, whole.stages)
    assert found.policy == whole.policy
    assert {p.name for p in found.points} == set(SKILL)
    assert any(note.startswith("tiny: 80 of the base's 600") for note in found.notes)


def test_the_most_accurate_of_those_that_answered() -> None:
    table, notes = fair_table([model("tiny", easy), model("mid"), model("good", np.arange(N - 4)), model("base")])
    assert table.models == ("mid", "good", "base")
    assert len(table) == N - 4
    assert any(note.startswith("tiny: 80 of base's 600 samples; left out") for note in notes)


@pytest.mark.parametrize("seed", range(5))
def test_who_can_be_compared(seed: int) -> None:
    """Beside plain sets: all that are taken leave 90 % of the fullest's rows, and none that is not would."""
    drawn = np.random.default_rng(seed)
    masks = {str(k): drawn.random(50) < drawn.choice([0.2, 0.97, 1.0]) for k in range(6)}
    fair, rows = comparable(masks)
    sets = {name: set(np.flatnonzero(mask)) for name, mask in masks.items()}
    shared = set.intersection(*(sets[name] for name in fair))
    fullest = max(len(s) for s in sets.values())
    assert shared == set(np.flatnonzero(rows))
    assert len(shared) >= 0.9 * fullest
    assert all(len(shared & sets[name]) < 0.9 * fullest for name in masks if name not in fair)


def test_rows_in_another_order_are_no_news() -> None:
    order = np.random.default_rng(1).permutation(N)
    found = compare([model("tiny", order), model("good")], model("base"))
    assert found.short == {}
    assert found.notes == ()
    assert found.tables["tiny"] is found.tables["good"] is found.common


@pytest.mark.parametrize("rows", [np.arange(3), np.arange(40), np.arange(0, N, 12)], ids=["3", "40", "every 12th"])
def test_a_saver_of_too_few_rows_does_not_stop_the_certificates_of_others(rows: Any, tmp_path: Path) -> None:
    found = rank_savers(a_run(tmp_path, {"tiny": rows}), "base", max_drop=0.05, guarantee=0.9, holdout=0.3)
    assert {s.saver: s.certified is None for s in found.savers} == {"good": False, "mid": False, "tiny": True}
    assert any(note.startswith("tiny is not certified: ") and "cannot certify" in note for note in found.notes)
    assert found.best in ("good", "mid")
