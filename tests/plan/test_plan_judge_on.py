"""The last samples as judges, for data in the order of time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pilotfish
from pilotfish.cascade import load_artefact
from pilotfish.errors import UsageError
from pilotfish.plan import tune
from pilotfish.plan.holdout import split_for_certificate, split_rows
from pilotfish.records import Run
from pilotfish.report import write_report
from support.pairs import Pair
from support.runs import write_pair

N = 400


def drifting(folder: Path) -> Run:
    """A saver that is right about the first three quarters and wrong about what comes later."""
    rng = np.random.default_rng(0)
    ok = np.arange(N) < 300
    return write_pair(folder, Pair(rng.random(N).tolist(), ok.tolist(), [True] * N))


@pytest.mark.parametrize(("n", "holdout", "held"), [(10, 0.5, 5), (11, 0.25, 3), (7, 0.9, 6)])
def test_the_last_rows_judge(n: int, holdout: float, held: int) -> None:
    for seed in (0, 1):
        parts = split_rows(n, holdout, seed, judge_on="last")
        assert parts.evaluation.tolist() == list(range(n - held, n))
        assert parts.fit.tolist() == list(range(n - held))
    certified = split_for_certificate(20, 0.25, 0, True, judge_on="last")
    assert certified.evaluation.tolist() == list(range(15, 20))
    assert sorted([*certified.fit, *certified.certify]) == list(range(15))


@pytest.mark.parametrize(
    ("groups", "last"),
    [
        ([0, 0, 1, 1, 2, 2, 3, 3], [4, 5, 6, 7]),  # the cut is between groups
        ([0, 0, 1, 1, 1, 1, 2, 2], [6, 7]),  # a group across the cut stays where it begins
        ([3, 3, 1, 1, 2, 0, 0, 3], [4, 5, 6]),  # and so does one that comes back
        ([0, 0, 0, 0, 1, 1, 1, 0], [4, 5, 6]),
    ],
)
def test_groups_stay_on_the_side_where_they_begin(groups: list[int], last: list[int]) -> None:
    parts = split_rows(8, 0.5, 0, np.array(groups), judge_on="last")
    assert parts.evaluation.tolist() == last
    assert sorted([*parts.fit, *parts.evaluation]) == list(range(8))
    assert {groups[i] for i in parts.fit}.isdisjoint(groups[i] for i in parts.evaluation)


def test_one_group_to_the_end_cannot_be_judged() -> None:
    with pytest.raises(UsageError, match="no group begins among the last 2 of 8 samples"):
        split_rows(8, 0.25, 0, np.array([0, 1, 1, 1, 1, 1, 1, 1]), judge_on="last")


def test_random_is_what_it_was() -> None:
    order = np.random.default_rng(3).permutation(50)
    parts = split_rows(50, 0.5, 3)
    assert parts.evaluation.tolist() == sorted(order[:25])
    assert split_rows(50, 0.5, 3, judge_on="random").fit.tolist() == parts.fit.tolist()


@pytest.mark.parametrize("options", [{"max_drop": 0.02}, {"max_drop": 0.05, "guarantee": 0.9}, {"min_accuracy": 0.97}])
def test_what_drifts_shows_in_the_last_samples(options: dict[str, float], tmp_path: Path) -> None:
    run = drifting(tmp_path)
    found = tune(run, ["saver", "base"], judge_on="last", holdout=0.25, **options)
    assert found.calibration.drop == 0
    assert found.evaluation is not None
    assert found.evaluation.n == 100
    assert found.evaluation.drop == found.evaluation.exit_ratio[0] > 0.5
    assert found.notes[0].startswith("BUDGET MISSED on held-out samples")
    assert found.to_json()["split"]["judge_on"] == "last"
    assert sum(found.split.values()) == N
    assert any("last samples of the records" in note for note in found.notes)


def test_a_random_part_says_nothing_of_it(tmp_path: Path) -> None:
    found = tune(drifting(tmp_path), ["saver", "base"], max_drop=0.02)
    assert set(found.to_json()["split"]) == {"fit", "certify", "evaluation"}
    assert "judge_on" not in found.artefact.origin


def test_the_folder_and_its_page_know(tmp_path: Path) -> None:
    tuning = pilotfish.tune(drifting(tmp_path / "run"), ["saver", "base"], max_drop="2%", judge_on="last")
    artefact = load_artefact(tuning.save(tmp_path / "cascade"))
    assert artefact.origin["judge_on"] == "last"
    page = write_report(tmp_path / "page.html", artefact=artefact).read_text()
    assert "judged on 200 later ones, the last of the records" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judge_on": "first"}, "random or last, found 'first'"),
        ({"judge_on": "last", "holdout": 0}, "holdout above 0"),
        ({"judge_on": "last", "holdout": 0, "guarantee": 0.9}, "holdout above 0"),
    ],
)
def test_what_is_no_split_is_refused(options: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        tune(drifting(tmp_path), ["saver", "base"], max_drop=0.02, **options)  # type: ignore[arg-type]
