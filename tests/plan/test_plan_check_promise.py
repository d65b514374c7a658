"""A cascade is held against what was promised when it was tuned, on records of new samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pilotfish
from pilotfish.cascade import Artefact, Limits, load_artefact, save_artefact
from pilotfish.errors import UsageError
from pilotfish.plan import Evaluation
from pilotfish.plan.check_promise import check_promise
from pilotfish.records import Failure, Run, read_table
from support.runs import records

NAMES = ("fire", "smoke", "none")


def write(run: Run, split: str, n: int, wrong: dict[str, float], seed: int = 0, **meta: Any) -> None:
    """Records of a saver that is wrong on a share of each class, sure or not, and of a base that is right on 95 %."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(NAMES), n)
    ok = rng.random(n) >= np.array([wrong.get(name, 0.0) for name in NAMES])[label]
    base_ok = rng.random(n) < 0.95
    confidence = np.where(ok, 1.0, 0.7) * rng.random(n)
    for name, right, macs in (("saver", ok, 1.0), ("base", base_ok, 10.0)):
        columns = {"confidence": confidence} if name == "saver" else {}
        run.write(
            records(
                name,
                np.where(right, label, (label + 1) % 3),
                label=label.tolist(),
                split=split,
                outputs=columns,
                costs={"macs": macs},
                n_classes=3,
                class_names=NAMES,
                **meta,
            )
        )


def cascade(folder: Path, **options: Any) -> Path:
    """A tuned cascade, and its run in ``run``."""
    write(Run(folder / "run"), "val", 3000, {"fire": 0.05, "smoke": 0.05, "none": 0.05})
    tuned = pilotfish.tune(folder / "run", ["saver", "base"], **({"max_drop": 0.01} | options))
    return tuned.save(folder / "cascade")


def on(folder: Path, n: int, wrong: dict[str, float], seed: int = 1) -> Evaluation:
    write(Run(folder / "run"), "new", n, wrong, seed)
    return pilotfish.evaluate(folder / "cascade", run=folder / "run", split="new")


@pytest.mark.parametrize("guarantee", [None, 0.9])
def test_the_limit_is_the_guarantee_s_target_or_the_interval_s_end(guarantee: float | None, tmp_path: Path) -> None:
    artefact = load_artefact(cascade(tmp_path, guarantee=guarantee))
    found = on(tmp_path, 2000, {"fire": 0.05, "smoke": 0.05, "none": 0.05})
    assert artefact.evaluation is not None
    assert found.promised == artefact.evaluation
    assert found.limit == (0.01 if guarantee else artefact.evaluation.drop_interval[1])
    assert on(tmp_path, 3000, dict.fromkeys(NAMES, 0.4)).verdict == "broken"


def test_holdout_0_is_said(tmp_path: Path) -> None:
    cascade(tmp_path, holdout=0)
    assert any("holdout 0" in note for note in on(tmp_path, 500, {}).notes)


@pytest.mark.parametrize("guarantee", [None, 0.9])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"fire": 0.9}, ["class fire:"]),
        ({"fire": 0.9, "smoke": 0.9}, ["class fire:", "class smoke:"]),
        ({}, []),
    ],
)
def test_a_class_that_loses_too_much_breaks_the_promise(
    wrong: dict[str, float], said: list[str], guarantee: float | None, tmp_path: Path
) -> None:
    cascade(tmp_path, max_drop=0.05, class_max_drop={"fire": 0.05}, worst_class_drop=0.06, guarantee=guarantee)
    found = on(tmp_path, 2000, wrong)
    assert [note.partition(" drop")[0] for note in found.notes if note.startswith("class ")] == said
    assert found.verdict == ("broken" if wrong else "holds")
    assert wrong or "limits of single classes" not in found.headline
    assert {one.name for one in found.found.classes} == set(NAMES)
    document = found.to_json()
    assert {one["name"] for one in document["found"]["classes"]} == set(NAMES)


def test_a_class_with_few_samples_is_left_open(tmp_path: Path) -> None:
    cascade(tmp_path, max_drop=0.05, class_max_drop={"fire": 0.05})
    found = on(tmp_path, 12, {})
    assert found.verdict == "cannot tell"
    assert any("too few samples to tell of 1 of 1 limited classes: fire" in note for note in found.notes)


@pytest.mark.parametrize(("kind", "target"), [("drop", 0.08), ("agreement", 0.15), ("accuracy", 0.8), ("cost", 9.0)])
def test_what_could_not_be_answered_counts_as_lost(kind: str, target: float, tmp_path: Path) -> None:
    """The bound of those that were answered, with the others as bad as they can be, is within the limit or not."""
    folder, n = cascade(tmp_path), 1000
    given = {"kind": kind, "target": target, "confidence": 0.9, "bound": target, "n": 300}
    save_artefact(replace(load_artefact(folder), guarantee=given), folder)
    plain = on(tmp_path, n, dict.fromkeys(NAMES, 0.08))
    assert (plain.verdict, plain.unanswered) == ("holds", 0)
    artefact, table = load_artefact(folder), read_table(Run(tmp_path / "run"), ["saver"], "base", "new")
    for more in (1, 20, 90, 600, 9000):
        found = check_promise(artefact, table, unanswered=np.full(more, -1))
        worst = {"accuracy": 0.0, "cost": 11.0}.get(kind, 1.0)
        bound = ((plain.bound or 0.0) * n + worst * more) / (n + more)
        holds = bound >= target if kind == "accuracy" else bound <= target
        assert (found.verdict, found.unanswered) == ("holds" if holds else "cannot tell", more)
        assert any("leave it open" in note for note in found.notes) is not holds
        assert f"(n = 1,000, and {more:,} more could not be answered" in found.headline
        assert (found.p, found.bound, found.found) == (plain.p, plain.bound, plain.found)
    assert found.verdict == "cannot tell"


@pytest.mark.parametrize(("label", "verdict"), [(0, "cannot tell"), (1, "holds"), (-1, "holds")])
def test_a_class_loses_those_of_its_own_that_could_not_be_answered(label: int, verdict: str, tmp_path: Path) -> None:
    folder = cascade(tmp_path, max_drop="50%", class_max_drop={"fire": 0.05}, guarantee=0.9)
    assert on(tmp_path, 3000, {}).verdict == "holds"
    table = read_table(Run(tmp_path / "run"), ["saver"], "base", "new")
    assert check_promise(load_artefact(folder), table, unanswered=np.full(200, label)).verdict == verdict


@pytest.mark.parametrize("size", [20, 50, 100])
def test_groups_are_what_more_samples_are_counted_by(size: int, tmp_path: Path) -> None:
    cascade(tmp_path, guarantee=0.9)
    write(Run(tmp_path / "run"), "new", 600, {})
    clips = [f"clip{i // size}" for i in range(600)]
    found = pilotfish.evaluate(tmp_path / "cascade", run=tmp_path / "run", split="new", group_by=clips)
    assert found.verdict == "cannot tell"
    assert (found.needed or 0) / size >= 100  # groups: about so many certify one point with nothing lost


def test_failures_in_records_are_unanswered(tmp_path: Path) -> None:
    cascade(tmp_path, guarantee=0.9)
    failures = tuple(Failure(f"broken-{i}", "truncated") for i in range(500))
    write(Run(tmp_path / "run"), "new", 1000, {}, failures=failures)
    found = pilotfish.evaluate(tmp_path / "cascade", run=tmp_path / "run", split="new")
    assert (found.verdict, found.n, found.unanswered) == ("cannot tell", 1000, 500)


@pytest.mark.parametrize(
    ("times", "verdict", "said"),
    [
        (np.linspace(1, 9, 200), "holds", "p95 of single requests is 8.598 ms here, the limit 10 ms: 0 of 200 took"),
        (np.r_[np.full(180, 5.0), np.full(20, 12.0)], "cannot tell", "20 of 200 took longer, more than the 5%"),
        (np.r_[np.full(191, 5.0), np.full(9, 12.0)], "holds", "so few requests cannot show that it holds"),
        (None, "holds", "was not judged"),
    ],
)
def test_a_limit_of_the_latency_is_judged_by_requests_that_were_timed(
    times: np.ndarray | None, verdict: str, said: str, tmp_path: Path
) -> None:
    folder = cascade(tmp_path, guarantee=0.9)
    artefact = replace(load_artefact(folder), limits=Limits(latency_p95=10.0))
    write(Run(tmp_path / "run"), "new", 1000, {})
    table = read_table(Run(tmp_path / "run"), ["saver"], "base", "new")
    found = check_promise(artefact, table, requests=times)
    assert found.verdict == verdict
    assert any(said in note for note in found.notes)
    assert found.headline.endswith("its limit 10 ms")
    assert found.latency_interval is None or found.latency_interval[0] <= (found.found.latency_p95 or 0)
    assert found.to_json()["found"].get("latency_p95") == (None if times is None else np.sort(times)[189])


def keep(folder: Path, rows: np.ndarray, **change: Any) -> Evaluation:
    """The evaluation of some of the rows of the records of split ``new``."""
    run = Run(folder / "run")
    for name in ("saver", "base"):
        one = run.read(name, "new").take(rows)
        run.write(replace(one, **{key: np.full(len(rows), value) for key, value in change.items()}))
    return pilotfish.evaluate(folder / "cascade", run=run, split="new")


@pytest.mark.parametrize("limits", [{"class_max_drop": {"fire": 0.05}}, {"worst_class_drop": 0.05}])
@pytest.mark.parametrize("guarantee", [None, 0.9])
def test_a_class_without_samples_is_left_open(limits: dict[str, Any], guarantee: float | None, tmp_path: Path) -> None:
    cascade(tmp_path, max_drop=0.05, guarantee=guarantee, **limits)
    assert on(tmp_path, 3000, {}).verdict == "holds"
    label = Run(tmp_path / "run").read("base", "new").label
    found = keep(tmp_path, np.flatnonzero(label != 0))
    assert found.verdict == "cannot tell"
    assert found.headline.endswith("; limits of single classes decide, see the notes")
    assert any("limited classes: fire: none" in note for note in found.notes)
    assert "fire" not in {one.name for one in found.found.classes}


@pytest.mark.parametrize("limits", [{}, {"class_max_drop": {"fire": 0.05}}, {"worst_class_drop": 0.05}])
def test_without_labels_the_limits_of_classes_stay_open(limits: dict[str, Any], tmp_path: Path) -> None:
    cascade(tmp_path, max_drop="15%", guarantee=0.9, **limits)
    on(tmp_path, 3000, {})
    found = keep(tmp_path, np.arange(3000), label=-1)
    assert found.verdict == ("cannot tell" if limits else "holds")
    assert any("limits of single classes" in note for note in found.notes) == bool(limits)
    assert ("limits of single classes" in found.headline) == bool(limits)


def test_a_class_within_what_was_asked_for_is_not_broken(tmp_path: Path) -> None:
    """Though it loses more than the interval says that tune printed."""
    folder = cascade(tmp_path, max_drop="50%", class_max_drop={"fire": "50%"})
    artefact = load_artefact(folder)
    assert artefact.evaluation is not None
    assert artefact.evaluation.classes[0].drop_interval[1] < 0.1
    found = on(tmp_path, 3000, {"fire": 0.4})
    assert not any(note.startswith("class fire") for note in found.notes)


def test_many_classes_do_not_hide_a_broken_one(tmp_path: Path) -> None:
    rng, run = np.random.default_rng(0), Run(tmp_path / "run")
    for split, lost in (("val", False), ("new", True)):
        label = np.append(np.arange(6000) % 600, np.full(60 * lost, 7))
        for name, right in (("saver", ~(lost & (label == 7))), ("base", np.ones(len(label), bool))):
            run.write(
                records(
                    name,
                    np.where(right, label, (label + 1) % 600),
                    label=label.tolist(),
                    split=split,
                    outputs={"confidence": rng.random(len(label))} if name == "saver" else {},
                    costs={"macs": 1.0 if name == "saver" else 10.0},
                    n_classes=600,
                )
            )
    pilotfish.tune(run, ["saver", "base"], max_drop=0.05, worst_class_drop=0.05).save(tmp_path / "cascade")
    found = pilotfish.evaluate(tmp_path / "cascade", run=run, split="new")
    assert (found.verdict, len(found.found.classes)) == ("broken", 600)
    assert [note.partition(":")[0] for note in found.notes if note.startswith("class ")] == ["class 7"]


def test_a_base_that_became_another_is_said(tmp_path: Path) -> None:
    cascade(tmp_path)
    run = Run(tmp_path / "run")
    write(run, "new", 2000, {}, 1)
    base = run.read("base", "new")
    rng = np.random.default_rng(0)
    worse = np.where(rng.random(2000) < 0.1, (base.label + 2) % 3, base.outputs.prediction)
    run.write(replace(base, outputs=replace(base.outputs, prediction=worse)))
    found = pilotfish.evaluate(tmp_path / "cascade", run=run, split="new")
    assert any(note.startswith("the base itself has ") for note in found.notes)
    assert not any(note.startswith("the base itself") for note in on(tmp_path, 2000, {}).notes)


@pytest.mark.parametrize("kind", ["drop", "accuracy", "cost"])
def test_without_costs_or_labels_a_promise_of_them_stays_open(kind: str, tmp_path: Path) -> None:
    folder = cascade(tmp_path)
    artefact = load_artefact(folder)
    given = {"kind": kind, "target": 0.0001, "confidence": 0.9, "bound": 0.0, "n": 100}
    stages = tuple(replace(stage, costs={}) for stage in artefact.stages)
    save_artefact(replace(artefact, guarantee=given, stages=stages), folder)
    write(Run(tmp_path / "run"), "new", 300, {})
    run = Run(tmp_path / "run")
    for name in ("saver", "base"):
        one = run.read(name, "new")
        run.write(replace(one, label=np.full(300, -1)))
    found = pilotfish.evaluate(folder, run=run, split="new")
    assert (found.verdict, found.p, found.found.cost) == ("cannot tell", None, None)
    assert any(("labels" in note) or ("cost" in note) for note in found.notes)


def test_a_point_that_was_moved_is_not_judged_by_another_s_promise(tmp_path: Path) -> None:
    folder = cascade(tmp_path)
    table = read_table(Run(tmp_path / "run"), ["saver"], "base")
    artefact = load_artefact(folder)
    assert check_promise(artefact, table).n == 3000
    with pytest.raises(UsageError, match="the operating point was moved"):
        check_promise(artefact.at(max_cost="100%"), table)


def test_other_stages_are_refused(tmp_path: Path) -> None:
    artefact: Artefact = load_artefact(cascade(tmp_path))
    table = read_table(Run(tmp_path / "run"), [], "base")
    with pytest.raises(UsageError, match="the cascade has stages saver, base"):
        check_promise(artefact, table)


def test_groups_that_were_and_are_no_longer_are_said(tmp_path: Path) -> None:
    write(Run(tmp_path / "run"), "val", 1000, {})
    pilotfish.tune(tmp_path / "run", ["saver", "base"], max_drop=0.05, group_by="^(..?)").save(tmp_path / "cascade")
    assert any("give --group-by" in note for note in on(tmp_path, 500, {}).notes)
