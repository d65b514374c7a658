"""A page is about the samples that it names: of another split, of other data, of records made again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.cascade import Artefact
from pilotfish.errors import UsageError
from pilotfish.plan import tune
from pilotfish.plan.evaluate import evaluate
from pilotfish.plan.trace import make_trace
from pilotfish.records import Run, read_table
from pilotfish.report import write_report
from pilotfish.report.from_records import about_records
from support.errors import assert_one_line
from support.runs import records

N = 400


def a_run(folder: Path, split: str = "val", seed: int = 0, skill: float = 0.8, names: str = "sb", **meta: Any) -> Run:
    rng = np.random.default_rng(seed)
    run, hard = Run(folder), rng.random(N)
    for k, name in enumerate(names):
        wrong = (hard > skill + 0.15 * k / (len(names) - 1)).astype(int)
        score = 1 - hard + 0.2 * rng.standard_normal(N)
        run.write(
            records(
                name, wrong, label=[0] * N, outputs={"log_odds": score}, split=split, costs={"macs": 10.0**k}, **meta
            )
        )
    return run


def subject(run: Run, artefact: Artefact, split: str) -> Any:
    names = [stage.name for stage in artefact.stages]
    return about_records(run, names[-1], names, artefact, "macs", artefact.score, split)


def judged_by_hand(run: Run, artefact: Artefact, split: str) -> Any:
    names = [stage.name for stage in artefact.stages]
    table = read_table(run, names[:-1], names[-1], split)
    trace = make_trace(table, names, artefact.rule, artefact.scores, None, "macs")
    return evaluate(trace, tuple((t,) for t in artefact.operating_point.thresholds))


OTHERS = {
    "another split": {"split": "next", "seed": 1, "skill": 0.5},
    "another fingerprint": {"split": "val", "seed": 2, "skill": 0.5, "data": {"fingerprint": "f" * 64, "n": N}},
    "records made again": {"split": "val", "seed": 3, "skill": 0.5, "created": "2030-01-01T00:00:00+00:00"},
}


@pytest.mark.parametrize("names", ["sb", "smb"])
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_figures_are_of_the_samples_that_are_named(other: dict[str, Any], names: str, tmp_path: Path) -> None:
    artefact = tune(a_run(tmp_path / "run", names=names), list(names), max_drop=0.05).artefact
    run = a_run(tmp_path / "other", names=names, **other)
    split = other["split"]
    found, expected = subject(run, artefact, split), judged_by_hand(run, artefact, split)
    assert found.split == split
    assert found.policy.judged == found.policy.on_curve == expected
    assert found.policy.judged not in (artefact.evaluation, artefact.calibration)
    assert f"samples of split {split} of the run at hand" in found.policy.protocol
    assert "chosen on split val of run run" in found.policy.protocol
    assert found.frontier.value.max() <= 1
    if len(names) > 2:  # the curve is of these samples, too
        assert not np.isin(artefact.frontier.value, found.frontier.value).all()
    page = write_report(tmp_path / "page.html", run=run, artefact=artefact, split=split).read_text()
    assert f"{100 * expected.accuracy:.2f}%" in page


def test_the_same_records_keep_the_held_out_figures(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    artefact = tune(run, ["s", "b"], max_drop=0.05).artefact
    found = subject(run, artefact, "val")
    assert found.policy.judged == artefact.evaluation
    assert found.policy.drawn == judged_by_hand(run, artefact, "val")


def test_a_budget_that_other_samples_miss_is_said_first(tmp_path: Path) -> None:
    artefact = tune(a_run(tmp_path / "run"), ["s", "b"], max_drop=0.05).artefact
    run = a_run(tmp_path / "next", split="next", seed=1, skill=0.3)
    said: list[str] = []
    page = write_report(tmp_path / "page.html", run=run, artefact=artefact, split="next", tell=said.append)
    assert said[0].startswith("BUDGET MISSED on split next: ")
    text = page.read_text()
    assert text.index("BUDGET MISSED on split next") < text.index('<ul class="tiles">')


def test_a_cascade_brings_its_own_split(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", split="test")
    a_run(tmp_path / "run", split="val", seed=5, skill=0.2)
    artefact = tune(run, ["s", "b"], max_drop=0.05, split="test").artefact
    page = write_report(tmp_path / "page.html", run=run, artefact=artefact).read_text()
    assert "samples of split test" in page
    assert artefact.evaluation is not None
    assert f"{100 * artefact.evaluation.accuracy:.2f}%" in page


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"split": "next"}, ("of split val", "split next was asked for", "--run")),
        ({"cost": "ms"}, ("tuned by cost macs, not ms",)),
        ({"score": "margin"}, ("tuned by score max_prob, not margin",)),
        ({"bench": {"stages": ["x", "b"]}}, ("the times are of x → b", "about s → b")),
    ],
)
def test_what_the_folder_cannot_say_is_refused(options: dict[str, Any], parts: tuple[str, ...], tmp_path: Path) -> None:
    artefact = tune(a_run(tmp_path / "run"), ["s", "b"], max_drop=0.05).artefact
    with pytest.raises(UsageError) as error:
        write_report(tmp_path / "page.html", artefact=artefact, **options)
    assert_one_line(error.value, *parts)
    assert not (tmp_path / "page.html").exists()


def test_fewer_rows_than_it_was_tuned_on_are_other_samples(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    artefact = tune(run, ["s", "b"], max_drop=0.05).artefact
    for name in "sb":
        run.write(run.read(name).take(np.arange(100)))
    found = subject(run, artefact, "val")
    assert found.n == found.policy.judged.n == 100
    assert dataclasses.asdict(found.policy.judged) == dataclasses.asdict(judged_by_hand(run, artefact, "val"))
