"""Limits on what single classes lose, beside the budget: chosen, certified, refused, kept and shown."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pilotfish
from pilotfish.cascade import Limits, load_artefact
from pilotfish.errors import BudgetError, UsageError
from pilotfish.plan import tune
from pilotfish.plan.certificate import TESTS, Clause, Promise, certified, certify, exact, last_kept
from pilotfish.plan.class_drops import changes, drops_of, keeps_to
from pilotfish.plan.constraints import find_constraints
from pilotfish.plan.evaluate import outcomes
from pilotfish.plan.methods import METHODS
from pilotfish.plan.path import PolicyPath, sets_path, threshold_path
from pilotfish.plan.sweep import sweep
from pilotfish.plan.trace import Trace, trace_of
from pilotfish.records import Run, read_table
from pilotfish.tasks import CLASSES
from support import brute
from support.pairs import Pair, pairs
from support.process import command, refusal
from support.runs import records

DELTA = 0.1
NAMES = ("fire", "smoke, thin", "a=b")


def write_classes(
    folder: Path, pair: Pair, label: list[int], names: tuple[str, ...] | None = NAMES, **more: Any
) -> Run:
    """A run of ``saver`` and ``base`` over three classes; a wrong answer is the class after the true one."""
    run, truth = Run(folder), np.array(label)
    scores, saver_ok, base_ok = pair.arrays
    for model, ok, cost, outputs in (("saver", saver_ok, 3.0, {"confidence": scores}), ("base", base_ok, 10.0, {})):
        said = np.where(ok, truth, (truth + 1) % 3)
        known = {"n_classes": 3, "class_names": names, "costs": {"macs": cost}, **more}
        run.write(records(model, said.tolist(), label=label, outputs=outputs, **known))
    return run


def drawn(seed: int, n: int, stages: int = 2, graded: bool = False, groups: int | None = None) -> tuple[Trace, Any]:
    """(a trace, the class of each sample: class 2 is hard for the savers)."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 3, n)
    values = rng.normal(size=(stages - 1, n))
    easy = 1 / (1 + np.exp(-2 * values - 1 + (place == 2)))
    chance = np.stack([*easy, np.full(n, 0.9)])
    quality = chance.round(2) if graded else rng.random(chance.shape) < chance
    costs = [float(10**k) for k in range(stages)]
    return trace_of(values, quality, costs, groups=None if groups is None else rng.integers(0, groups, n)), place


def path_of(trace: Trace, policies: int) -> PolicyPath:
    quantiles = np.linspace(1, 0, policies)
    return threshold_path(np.stack([np.quantile(v, quantiles) for v in trace.values], axis=1))


def lost(trace: Trace, path: PolicyPath, i: int, rows: Any) -> float:
    """The drop of policy i among some rows, in plain words."""
    _, gap = outcomes(trace, path.policy(i))
    return float(sum(gap[rows].tolist()) / len(rows)) if len(rows) else 0.0


@st.composite
def classed(draw: st.DrawFn) -> tuple[Pair, list[int]]:
    pair = draw(pairs(largest=14))
    return pair, draw(st.lists(st.integers(0, 2), min_size=len(pair.scores), max_size=len(pair.scores)))


@given(classed(), st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=40)
def test_the_most_that_exits_within_budget_and_limits(drawn: tuple[Pair, list[int]], drop: int, limit: int) -> None:
    pair, label = drawn
    n, within = len(label), []
    for point in brute.every_threshold(*pair):
        exits = [score >= point.threshold for score in pair.scores]
        if all(
            sum(b - s for e, s, b, y in zip(exits, *pair[1:], label, strict=True) if e and y == k)
            <= Fraction(limit, 40) * label.count(k)
            for k in set(label)
        ):
            within.append(point)
    best = brute.largest_within(within, n, Fraction(drop, 40))
    with tempfile.TemporaryDirectory() as folder:
        run = write_classes(Path(folder), pair, label)
        found = tune(
            run, ["saver", "base"], holdout=0, max_drop=drop / 40, worst_class_drop=limit / 40, allow_bad_base=True
        )
    assert best is not None  # nobody exits
    assert found.artefact.operating_point.thresholds == (best.threshold,)
    assert [c.n for c in found.calibration.classes] == [label.count(k) for k in sorted(set(label))]


def sets_of(trace: Trace) -> PolicyPath:
    sets = tuple(((a, a + 1.0),) for a in np.linspace(2, -2, 9).tolist())
    return sets_path(sets, 2, "delta", np.linspace(0, 1, 9))


@pytest.mark.parametrize(
    ("stages", "make"),
    [
        (2, lambda t: threshold_path(sweep(t.values[0], *t.quality).thresholds[:, None])),
        (2, sets_of),
        (2, lambda t: PolicyPath(np.array([[math.inf], [0.5], [1.0], [-0.5], [math.inf], [-math.inf]]))),
        (3, lambda t: path_of(t, 30)),
        (4, lambda t: path_of(t, 20)),
    ],
    ids=["sweep", "exit sets", "back and forth", "three stages", "four stages"],
)
@pytest.mark.parametrize("graded", [False, True])
def test_policies_that_keep_to_limits_as_one_by_one(stages: int, make: Any, graded: bool) -> None:
    trace, place = drawn(stages, 160, stages, graded)
    path, limits = make(trace), np.array([0.01, 0.2, 0.04])
    kept = keeps_to(trace, path, place, limits)
    rows = [np.flatnonzero(place == k) for k in range(3)]
    expected = [all(lost(trace, path, i, rows[k]) <= limits[k] + 1e-9 for k in range(3)) for i in range(len(path))]
    assert kept.tolist() == expected
    assert 0 < kept.sum() < len(path)
    for k, at in enumerate(changes(trace, path, place, 3)):
        answers = [tuple(outcomes(trace, path.policy(i))[0][rows[k]]) for i in range(len(path))]
        assert set(at.tolist()) >= {0, 1} | {i for i in range(1, len(path)) if answers[i] != answers[i - 1]}
    only_first = np.where(place == 0, 0, -1)
    assert keeps_to(trace, path, only_first, limits[:1]).tolist() == [
        lost(trace, path, i, rows[0]) <= limits[0] + 1e-9 for i in range(len(path))
    ]


def clauses(trace: Trace, path: PolicyPath, place: Any, limits: list[float], test: str, reduced: bool) -> list[Clause]:
    at = changes(trace, path, place, len(limits))
    return [
        Clause(f"class {k}", str(k), trace.take(np.flatnonzero(place == k)), Promise("drop", limit, DELTA, test), at[k])
        if reduced
        else Clause(f"class {k}", str(k), trace.take(np.flatnonzero(place == k)), Promise("drop", limit, DELTA, test))
        for k, limit in enumerate(limits)
    ]


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("how", ["pair", "chain", "graded", "groups"])
def test_the_sequence_ends_where_any_test_fails(test: str, how: str) -> None:
    """Each class by its own test at the whole delta; policies at which a class does not change need no test."""
    trace, place = drawn(3, 900, 3 if how == "chain" else 2, how == "graded", 300 if how == "groups" else None)
    path, promise, limits = path_of(trace, 40), Promise("drop", 0.08, DELTA, test), [0.2, 0.12, 0.3]
    each = clauses(trace, path, place, limits, test, reduced=False)
    alone = [last_kept(trace, path, promise), *(last_kept(clause.trace, path, clause.promise) for clause in each)]
    found = certify(trace, path, promise, 0.9, clauses(trace, path, place, limits, test, reduced=True))
    assert found.index == min(i for i in alone if i is not None) > 0
    assert None not in alone
    said = found.to_json()["classes"]
    assert [(one["target"], one["n"]) for one in said.values()] == [
        (limit, int((place == k).sum())) for k, limit in enumerate(limits)
    ]
    for k, one in enumerate(said.values()):
        assert lost(trace, path, found.index, np.flatnonzero(place == k)) - 1e-9 <= one["bound"] <= one["target"]


def test_bounds_that_are_printed_together_share_delta() -> None:
    trace, place = drawn(5, 900)
    path = path_of(trace, 12)
    found = certify(
        trace, path, Promise("drop", 0.3, DELTA), 0.9, clauses(trace, path, place, [0.5] * 3, "exact", True)
    )
    for k, one in enumerate(found.to_json()["classes"].values()):
        _, gap = outcomes(trace.take(np.flatnonzero(place == k)), path.policy(found.index))
        counts = int((gap > 0).sum()), int((gap < 0).sum()), len(gap)
        assert one["bound"] == pytest.approx(exact.upper_bound(*counts, DELTA / 4), abs=1e-9)
        assert one["bound"] > exact.upper_bound(*counts, DELTA)


def test_cost_is_tested_from_the_other_end_so_each_sequence_has_half() -> None:
    """Cheap policies lose, careful ones cost: what both sequences kept holds, each at delta / 2."""
    trace, place = drawn(8, 3000)
    path, cost = path_of(trace, 400), Promise("cost", 8.0, DELTA)
    half = [Promise("drop", limit, DELTA / 2) for limit in (0.2, 0.2, 0.25)]
    most = min(last_kept(trace.take(np.flatnonzero(place == k)), path, one) or 0 for k, one in enumerate(half))
    least = last_kept(trace, path, Promise("cost", 8.0, DELTA / 2))
    found = certify(trace, path, cost, 0.9, clauses(trace, path, place, [0.2, 0.2, 0.25], "exact", True))
    assert least is not None
    assert found.index == least <= most
    assert last_kept(trace, path, cost) < least  # at the whole delta it would go further
    with pytest.raises(
        BudgetError, match=r"no operating point keeps the cost as well as class 0, class 1, class 2 with"
    ):
        certify(
            trace, path, Promise("cost", 4.0, DELTA), 0.9, clauses(trace, path, place, [0.05, 0.2, 0.2], "exact", True)
        )


@pytest.mark.parametrize("test", TESTS)
def test_promises_per_class_hold(test: str) -> None:
    """Of draws from one population at most delta may break any of three promises, within two standard errors."""
    population, place = drawn(11, 4000)
    rows, broken, draws, limits = np.arange(4000), 0, 60, np.array([0.1, 0.1, 0.15])
    for i in range(draws):  # as many of each class: numbers per class are taken as given
        sample = np.concatenate([np.random.default_rng(i).choice(rows[place == k], 200) for k in range(3)])
        trace, where = population.take(sample), place[sample]
        path = path_of(trace, 20)
        index = certified(
            trace,
            path,
            Promise("drop", 0.08, DELTA, test),
            0.9,
            clauses(trace, path, where, limits.tolist(), test, True),
        )
        whole = drops_of(population, path.policy(index), place, "abc")
        broken += (
            any(c.drop > limit for c, limit in zip(whole, limits, strict=True))
            or lost(population, path, index, rows) > 0.08
        )
    assert broken / draws <= DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / draws)


@pytest.fixture(scope="module")
def pair_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """2,000 samples; what is easy for class fire is hard for class a=b."""
    rng = np.random.default_rng(4)
    n = 2000
    label, score = rng.integers(0, 3, n), rng.random(n)
    saver_ok = rng.random(n) < np.where(label == 2, 0.7, 0.9) * (0.6 + 0.4 * score)
    pair = Pair(score.tolist(), saver_ok.tolist(), (rng.random(n) < 0.93).tolist())
    return write_classes(tmp_path_factory.mktemp("run"), pair, label.tolist())


@pytest.mark.parametrize("method", ["sweep", "pcee", "pcee-ws", "dyce", "msdnet", "grid50"])
@pytest.mark.parametrize("guarantee", [None, 0.9])
def test_every_method_keeps_to_limits(pair_run: Run, method: str, guarantee: float | None) -> None:
    options = {"method": method, "guarantee": guarantee}
    free = tune(pair_run, ["saver", "base"], max_drop=0.3, **options)
    found = tune(pair_run, ["saver", "base"], max_drop=0.3, class_max_drop={"a=b": 0.09}, **options)
    assert found.calibration.exit_ratio[0] < free.calibration.exit_ratio[0]
    (one,) = found.calibration.classes
    assert (one.name, one.limit) == ("a=b", 0.09)
    assert one.drop <= 0.09
    assert (found.guarantee is not None) == (guarantee is not None)
    if found.guarantee is not None:
        assert found.guarantee["classes"].keys() == {"a=b"}
        assert found.guarantee["classes"]["a=b"]["target"] == 0.09
    assert free.to_json()["calibration"].get("classes") is None


def test_named_limits_come_before_the_limit_of_all(pair_run: Run) -> None:
    found = pilotfish.tune(
        pair_run, ["saver", "base"], max_drop="20%", class_max_drop={"a=b": "20%"}, worst_class_drop="5%"
    )
    assert {c.name: c.limit for c in found.calibration.classes} == {"a=b": 0.2, "fire": 0.05, "smoke, thin": 0.05}
    assert all(c.drop <= (c.limit or 0) for c in found.calibration.classes)
    document = found.to_json()["calibration"]["classes"]
    assert [set(one) for one in document] == [{"name", "n", "drop", "drop_interval", "limit"}] * 3


def test_another_operating_point_keeps_to_the_limits(pair_run: Run, tmp_path: Path) -> None:
    found = tune(pair_run, ["saver", "base"], max_drop=0.01, class_max_drop={"a=b": 0.05}, holdout=0)
    found.save(tmp_path / "cascade")
    read = load_artefact(tmp_path / "cascade")
    assert read.limits == found.artefact.limits
    assert read.calibration == found.calibration
    moved = read.at(max_drop=0.5)  # as much as there is
    fresh = tune(pair_run, ["saver", "base"], max_drop=0.5, class_max_drop={"a=b": 0.05}, holdout=0)
    assert moved.operating_point == fresh.artefact.operating_point
    assert fresh.calibration.classes[0].drop <= 0.05
    with pytest.raises(
        BudgetError, match=r"no operating point has cost at most 3 with drops at most a=b 5%; the cheapest"
    ):
        read.at(max_cost=3)
    assert "limits" not in json.loads((save_plain(pair_run, tmp_path / "plain") / "cascade.json").read_text())


def save_plain(run: Run, folder: Path) -> Path:
    return tune(run, ["saver", "base"], max_drop=0.01).save(folder)


REFUSED = {
    "unknown class": ({"class_max_drop": {"smoke": 0.01}}, UsageError, r"no class is called 'smoke'; .*smoke, thin"),
    "a number where there are names": ({"class_max_drop": {"1": 0.01}}, UsageError, r"no class is called '1'; valid"),
    "negative": ({"class_max_drop": {"fire": -0.01}}, UsageError, r"fraction from 0 to 1, found -0.01 for fire"),
    "above 1": ({"worst_class_drop": 1.5}, UsageError, r"fraction from 0 to 1, found 1.5 for worst_class_drop"),
    "scan": (
        {"worst_class_drop": 0.1, "method": "first_violation"},
        UsageError,
        r"where its scan stops.*use method sweep",
    ),
    "nothing can certify 0": (
        {"worst_class_drop": 0.0, "guarantee": 0.9},
        BudgetError,
        r"no number of samples.*2 more cl",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_limited_is_refused(pair_run: Run, case: str) -> None:
    options, error, message = REFUSED[case]
    with pytest.raises(error, match=message) as caught:
        tune(pair_run, ["saver", "base"], max_drop=0.1, **options)
    assert len(str(caught.value).splitlines()) == 1


def few(folder: Path, counts: tuple[int, int, int], **more: Any) -> Run:
    label = np.repeat([0, 1, 2], counts).tolist()
    n = len(label)
    scores = np.random.default_rng(0).random(n).tolist()
    return write_classes(folder, Pair(scores, [True] * n, [True] * n), label, **more)


def test_too_few_samples_of_a_class_say_what_they_could_certify(tmp_path: Path) -> None:
    run = few(tmp_path, (25, 400, 400))
    with pytest.raises(BudgetError) as caught:
        tune(run, ["saver", "base"], max_drop=0.1, guarantee=0.9, holdout=0, class_max_drop={"fire": 0.01})
    assert str(caught.value).startswith("class fire: 25 samples cannot certify a drop of 1 points at 90% confidence: ")
    assert str(caught.value).endswith("with 25 the smallest that could be is 8.80 points")
    certified = tune(run, ["saver", "base"], max_drop=0.1, guarantee=0.9, holdout=0, class_max_drop={"fire": 0.09})
    assert certified.calibration.exit_ratio == (1.0, 0.0)


def test_classes_without_samples(tmp_path: Path) -> None:
    run = few(tmp_path / "a", (0, 60, 60))
    with pytest.raises(BudgetError, match=r"class fire: none of the 120 samples that choose the policy is labelled so"):
        tune(run, ["saver", "base"], max_drop=0.1, holdout=0, class_max_drop={"fire": 0.01})
    found = tune(run, ["saver", "base"], max_drop=0.1, holdout=0, worst_class_drop=0.01)
    assert [c.name for c in found.calibration.classes] == ["smoke, thin", "a=b"]
    rare = few(tmp_path / "b", (1, 60, 60))
    options: dict[str, Any] = {"max_drop": 0.1, "worst_class_drop": 0.2}
    seed = next(k for k in range(20) if len(tune(rare, ["saver", "base"], seed=k, **options).calibration.classes) == 2)
    said = tune(rare, ["saver", "base"], seed=seed, **options).notes
    assert any(note.startswith("class fire (1 of 3) has no samples among the") for note in said)
    with pytest.raises(BudgetError, match=r"class fire: none of the .* or limit single classes by --class-max-drop"):
        tune(rare, ["saver", "base"], seed=seed, guarantee=0.9, **options)


def test_classes_of_few_samples_are_a_note(tmp_path: Path) -> None:
    run = few(tmp_path, (25, 400, 400))
    notes = tune(run, ["saver", "base"], max_drop=0.1, holdout=0, worst_class_drop=0.01).notes
    (said,) = [note for note in notes if "too few samples to tell the limit" in note]
    assert "one class has" in said
    assert "25 of fire" in said
    assert "--guarantee" in said


def test_records_without_labels_and_other_tasks(pair_run: Run, tmp_path: Path) -> None:
    run = Run(tmp_path / "bare")
    for model, cost, outputs in (("saver", 1.0, {"confidence": [0.5, 0.6, 0.7]}), ("base", 2.0, {})):
        run.write(records(model, outputs=outputs, costs={"macs": cost}))
    with pytest.raises(UsageError, match="the records have no labels"):
        tune(run, ["saver", "base"], max_drop=0.1, holdout=0, worst_class_drop=0.1)
    table = read_table(pair_run, ["saver"], "base")
    other = dataclasses.replace(table, task=dataclasses.replace(CLASSES, name="levels", classes=False))
    with pytest.raises(UsageError, match="one class per sample, and task levels has none"):
        find_constraints(other, ["saver", "base"], "sweep", METHODS["sweep"], "macs", Limits({}, 0.1))


def test_classes_by_number_and_two_of_one_name(tmp_path: Path) -> None:
    numbered = few(tmp_path / "a", (40, 40, 40), names=None)
    found = pilotfish.tune(numbered, ["saver", "base"], max_drop="5%", class_max_drop={2: 0.05})
    assert [c.name for c in found.calibration.classes] == ["2"]
    with pytest.raises(
        UsageError, match=r"no class is called 'fire': the records have no names of classes, write their n"
    ):
        tune(numbered, ["saver", "base"], max_drop=0.05, class_max_drop={"fire": 0.05})
    cranes = few(tmp_path / "b", (40, 40, 40), names=("crane", "owl", "crane"))
    with pytest.raises(UsageError, match=r"no class is called 'crane'; nearest names: crane \(\d\), crane \(\d\)"):
        tune(cranes, ["saver", "base"], max_drop=0.05, class_max_drop={"crane": 0.05})
    found = tune(cranes, ["saver", "base"], max_drop=0.05, class_max_drop={"crane (2)": 0.05}, worst_class_drop=0.1)
    assert sorted(c.name for c in found.calibration.classes) == ["crane (0)", "crane (2)", "owl"]


def unlucky(folder: Path) -> Run:
    """Class fire is lost on the held-out half alone, where the saver is surest."""
    from pilotfish.plan.holdout import split_rows

    n = 1200
    held = split_rows(n, 0.5, 0).evaluation
    label, ok = np.arange(n) % 3, np.ones(n, bool)
    ok[held[label[held] == 0][:20]] = False
    scores = np.random.default_rng(0).permutation(n) / n
    return write_classes(folder, Pair(scores.tolist(), ok.tolist(), [True] * n), label.tolist())


def test_a_limit_that_held_out_samples_miss_is_said_first(tmp_path: Path) -> None:
    run = unlucky(tmp_path / "run")
    found = tune(run, ["saver", "base"], max_drop=0.2, worst_class_drop=0.02)
    assert found.missed == found.notes[0]
    assert found.missed is not None
    assert found.missed.startswith(
        "BUDGET MISSED on held-out samples: class fire loses 10.5 points against 2; the limit"
    )
    said = command(
        tmp_path,
        "tune",
        run.path,
        "--stages",
        "saver,base",
        "--max-drop",
        "20%",
        "--worst-class-drop",
        "2%",
        "--out",
        "c",
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("BUDGET MISSED on held-out samples: class fire")
    assert "limit" in said.stdout
    page = command(tmp_path, "report", "c", "--run", run.path, "--out", "r.html")
    assert page.returncode == 0, page.stderr
    text = (tmp_path / "r.html").read_text()
    assert "BUDGET MISSED on held-out samples: class fire" in text
    assert text.index("Drop per class") < text.index(">fire<") < text.index(">smoke, thin<")


def test_on_the_command_line_names_hold_commas_and_equals_signs(pair_run: Run, tmp_path: Path) -> None:
    asked = ["tune", pair_run.path, "--stages", "saver,base", "--max-drop", "20%", "--json"]
    limits = ["--class-max-drop", "a=b=9%", "--class-max-drop", "smoke, thin=0.05"]
    found = command(tmp_path, *asked, *limits)
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert {c["name"]: c["limit"] for c in document["calibration"]["classes"]} == {"a=b": 0.09, "smoke, thin": 0.05}
    for wrong, message in (
        ("fire", "expected NAME=DROP, such as fire=1%, found 'fire'"),
        ("=1%", "expected NAME=DROP"),
        ("fire=", "expected NAME=DROP"),
        ("fire=1", "write 1% (or 0.01)"),
        ("a=b", "'b' is not a number"),
        ("fire=0.5", "write 0.5% (or 0.005), or 50%"),
        ("fire=-5", "is out of range: a class may lose from 0% to 100%"),
        ("fire=-5%", "is out of range: a class may lose from 0% to 100%"),
        ("fire=101%", "is out of range: a class may lose from 0% to 100%"),
    ):
        assert message in refusal(tmp_path, *asked, "--class-max-drop", wrong, code=2)
    twice = ["--class-max-drop", "fire=1%", "--class-max-drop", "fire=2%"]
    assert "class 'fire' is given twice" in refusal(tmp_path, *asked, *twice, code=2)
    for wrong, message in (("-5", "from 0% to 100%"), ("-5%", "from 0% to 100%"), ("5", "write 5% (or 0.05)")):
        assert message in refusal(tmp_path, *asked, "--worst-class-drop", wrong, code=2)


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (-5, "from 0% to 100%"),
        ("-5%", "from 0% to 100%"),
        (-0.05, "from 0% to 100%"),
        ("150%", "from 0% to 100%"),
        (0.5, "write '0.5%'"),
        ("0.5", "write '0.5%'"),
        (float("nan"), "is not a number"),
    ],
)
def test_what_no_class_may_lose_is_refused_before_any_work(drop: float | str, message: str, tmp_path: Path) -> None:
    for limit in ({"class_max_drop": {"fire": drop}}, {"worst_class_drop": drop}):
        with pytest.raises(UsageError, match=message):
            pilotfish.tune(Run(tmp_path), ["saver", "base"], max_drop="1%", **limit)
        with pytest.raises(UsageError, match=message):
            pilotfish.build("digits", ["saver", "base"], tmp_path / "o", max_drop="1%", **limit)  # type: ignore[arg-type]


def test_the_report_of_many_classes_shows_the_worst(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, classes = 900, 30
    label, run = rng.integers(0, classes, n), Run(tmp_path / "run")
    for model, right, cost in (("s", 0.8, 1.0), ("b", 0.95, 9.0)):
        said = np.where(rng.random(n) < right, label, (label + 1) % classes)
        run.write(
            records(
                model, said.tolist(), label=label.tolist(), outputs={"confidence": rng.random(n)}, costs={"macs": cost}
            )
        )
    tune(run, ["s", "b"], max_drop=0.05, holdout=0).save(tmp_path / "c")
    out = pilotfish.write_report(tmp_path / "r.html", run=run, cascade=tmp_path / "c")
    text = out.read_text()
    section = text[text.index("Drop per class") : text.index("</section>", text.index("Drop per class"))]
    assert section.count("<tr>") == 22  # a heading, 20 classes, the others
    assert "10 others" in section
