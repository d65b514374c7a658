"""A base that is no better than chance: refused by tune, named by savers and chains, let through when it is allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pilotfish.errors import RecordsError
from pilotfish.plan import find_chains, rank_pool, rank_savers, tune
from pilotfish.records import NO_LABEL, Run
from support.errors import assert_one_line
from support.runs import records

N, CLASSES = 400, 10


def pool(folder: Path, moved: int = 0, base: float = 0.95, n: int = N, labelled: bool = True) -> Run:
    """``small`` (right half of the time) and ``big``, with labels that are shifted by *moved*."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, n)
    label = truth + moved if labelled else np.full(n, NO_LABEL)
    run = Run(folder)
    for name, skill, macs in (("small", 0.5, 10.0), ("big", base, 100.0)):
        said = np.where(rng.random(n) < skill, truth, rng.integers(0, CLASSES, n))
        outputs = {"confidence": rng.random(n)}
        run.write(records(name, said.tolist(), label=label.tolist(), outputs=outputs, costs={"macs": macs}))
    return run


def test_tune_refuses_it_and_says_what_explains_it(tmp_path: Path) -> None:
    run = pool(tmp_path, moved=1)
    with pytest.raises(RecordsError) as caught:
        tune(run, ("small", "big"), max_drop=0.01)
    assert_one_line(
        caught.value,
        "the base big: accuracy",
        "no better than chance",
        "shifted by -1 would give 9",
        "--allow-bad-base",
    )
    allowed = tune(run, ("small", "big"), max_drop=0.01, allow_bad_base=True)
    said = [note for note in allowed.notes if "no better than chance" in note]
    assert [note.partition(":")[0] for note in said] == ["big", "small"]


def test_a_base_of_random_answers_is_refused_and_a_weak_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="no better than chance"):
        tune(pool(tmp_path / "random", base=0.0), ("small", "big"), max_drop=0.01)
    weak = tune(pool(tmp_path / "weak", base=0.2), ("small", "big"), max_drop=0.01)
    assert not any("chance" in note for note in weak.notes)


def test_a_bad_saver_is_a_note(tmp_path: Path) -> None:
    run = pool(tmp_path)
    label = run.read("big").label
    said = np.random.default_rng(5).integers(0, CLASSES, N)
    confidence = {"confidence": np.linspace(0, 1, N)}
    run.write(records("dice", said.tolist(), label=label.tolist(), outputs=confidence, costs={"macs": 1.0}))
    for notes in (
        tune(run, ("dice", "big"), max_drop=0.01).notes,
        rank_savers(run, "big").notes,
        find_chains(run, "big", max_drop=0.01).notes,
        rank_pool(run).notes,
    ):
        assert next(n for n in notes if "chance" in n).startswith("dice: accuracy")
        assert sum("chance" in n for n in notes) == 1


def test_savers_and_chains_name_it(tmp_path: Path) -> None:
    run = pool(tmp_path, moved=1)
    found = rank_savers(run, "big")
    assert found.notes[0].startswith("big: accuracy")
    assert not any("alone" in note for note in found.notes)  # where the base is wrong, no saver is advised
    assert any("labels shifted by -1" in n for n in find_chains(run, "big", max_drop=0.01).notes)
    assert not any("chance" in n for n in rank_savers(pool(tmp_path / "healthy"), "big").notes)


def test_many_bad_models_do_not_fill_the_screen(tmp_path: Path) -> None:
    run = pool(tmp_path, moved=1)
    small = run.read("small")
    for i in range(8):
        confidence = {"confidence": np.linspace(0, 1, N)}
        prediction, label = small.outputs.prediction.tolist(), small.label.tolist()
        run.write(records(f"s{i}", prediction, label=label, outputs=confidence, costs={"macs": 1.0 + i}))
    notes = [n for n in rank_savers(run, "big").notes if "chance" in n or "so it is with" in n]
    assert len(notes) == 5
    assert "6 more: " in notes[-1]


@pytest.mark.parametrize(("n", "labelled"), [(40, True), (N, False)])
def test_few_samples_are_a_note_and_without_labels_there_is_no_such_test(
    n: int, labelled: bool, tmp_path: Path
) -> None:
    run = pool(tmp_path, base=0.0, n=n, labelled=labelled)
    notes = tune(run, ("small", "big"), max_drop=0.05).notes
    assert any("not clearly better than chance" in note for note in notes) == labelled
