"""Many labels per sample, from arrays to a cascade."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish import Cascade, savers, tune
from pilotfish.cascade import load_artefact
from pilotfish.errors import AlignmentError, ModelError, RecordsError
from pilotfish.plan.holdout import split_rows
from pilotfish.records import Records, RecordsMeta, Run, align, is_bad_base, judge_records
from pilotfish.records.records import check, string_ids
from pilotfish.scores import compute
from pilotfish.tasks.label_metrics import f1_counts, micro_f1, sample_f1
from pilotfish.tasks.labels import LABELS, Labels, decisions, labels_of, mean_of_labels, reduce_labels
from support.process import command

NAMES = ("cat", "dog", "emu", "fox")


def made(n: int = 600, seed: int = 0, skill: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Truth bool (n, 4), and probabilities that lie too low; every other sample is hard."""
    truth = np.random.default_rng(7).random((n, 4)) < [0.5, 0.3, 0.2, 0.1]
    noise = np.random.default_rng(seed).standard_normal((n, 4)) * np.where(np.arange(n) % 2, 0.5, 2.0)[:, None]
    return truth, (1 / (1 + np.exp(-(skill * (truth - 0.5) - 1.5 + noise)))).astype(np.float32)


def records(name: str, probs: np.ndarray, truth: np.ndarray | None, **meta: Any) -> Records:
    label = LABELS.unknown(len(probs)) if truth is None else truth.astype(np.int8)
    about = RecordsMeta(name, "val", task="labels", **{"costs": {"macs": 1.0}, **meta})
    return Records(string_ids(np.arange(len(probs))), label, labels_of(probs), about)


def run_of(folder: Path, labelled: bool = True) -> Run:
    run = Run(folder / "run")
    for name, skill, macs in (("small", 5.0, 1.0), ("large", 6.0, 10.0)):
        truth, probs = made(skill=skill, seed=int(macs))
        about: dict[str, Any] = {"costs": {"macs": macs}, "class_names": NAMES, "n_classes": 4}
        run.write(records(name, probs, truth if labelled else None, **about))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("labels"))


def test_thresholds_are_fitted_and_judged_apart(run: Run) -> None:
    tuned = tune(run, ["small", "large"], max_drop=0.01)
    small, large = (stage.adjustment["threshold"][0] for stage in tuned.artefact.stages)
    assert tuned.artefact.task is LABELS
    assert small < 0.4
    assert large < 0.4
    assert tuned.artefact.scores[0].name == "mean_margin"
    assert tuned.calibration.exit_ratio[0] > 0.3
    table = align([run.read("small", "val")], run.read("large", "val"))
    held = split_rows(600, 0.5, 0).evaluation
    answer = Labels(table.outputs["large"].probs[held], np.full(len(held), large))
    expected = micro_f1(f1_counts(decisions(answer), table.reference[held] > 0).sum(axis=0))
    assert tuned.evaluation is not None
    assert tuned.evaluation.base_value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", ["micro_f1", "macro_f1", "sample_f1", "map"])
@pytest.mark.parametrize("score", ["mean_margin", "mean_half", "max_prob", "learned", "auto"])
def test_every_metric_with_every_score(run: Run, metric: str, score: str) -> None:
    found = tune(run, ["small", "large"], max_drop=0.05, metric=metric, score=score)
    assert found.calibration.metric == metric
    assert found.calibration.drop <= 0.05
    assert found.evaluation is not None
    assert 0 <= found.evaluation.value <= 1


def test_the_scores_are_what_they_are_called() -> None:
    p = np.array([[0.9, 0.2, 0.1], [0.0, 0.0, 0.0]], np.float32)
    outputs = Labels(p, np.array([0.3, 0.3]))

    def score(name: str) -> list[float]:
        return LABELS.scored(name, outputs).values.tolist()

    assert score("mean_margin") == pytest.approx([(0.6 + 0.1 + 0.2) / 3, 0.3], abs=1e-7)
    assert score("mean_half") == pytest.approx([(0.4 + 0.3 + 0.4) / 3, 0.5], abs=1e-7)
    assert score("max_prob") == pytest.approx([0.9, 0.0], abs=1e-7)
    assert LABELS.confidence(outputs) is not None
    assert LABELS.score().name == "mean_margin"


def test_answers_that_are_the_same_get_the_same_learned_score(run: Run) -> None:
    truth, probs = made(skill=5.0, seed=1)
    probs[::3] = 0  # a third of the samples are answered with nothing at all
    other = Run(run.path.parent / "ties")
    other.write(records("small", probs, truth))
    other.write(records("large", *reversed(made(skill=6.0, seed=10)), costs={"macs": 10.0}))
    tuned = tune(other, ["small", "large"], max_drop=0.02, score="learned", holdout=0)
    adjust = tuned.artefact.adjusters()[0]
    assert adjust is not None
    values = compute(tuned.artefact.scores[0], adjust(labels_of(probs))).values
    exits = values >= tuned.artefact.operating_point.thresholds[0]
    assert len(np.unique(exits[::3])) == 1
    assert tuned.calibration.exit_ratio[0] == pytest.approx(exits.mean(), abs=0.05)


def test_a_model_that_is_not_finite_has_no_say_in_a_mean() -> None:
    one = Labels(np.array([[0.2, 0.8], [0.1, 0.9]], np.float32), np.array([0.5, 0.5]))
    other = Labels(np.array([[0.6, 0.4], [np.nan, 0.2]], np.float32), np.array([0.3, 0.3]))
    mixed = mean_of_labels([one, other], [0.25, 0.75], 1)
    assert mixed.probs[0] == pytest.approx([0.5, 0.5])
    assert mixed.probs[1] == pytest.approx([0.1, 0.9])
    assert mixed.threshold == pytest.approx([0.35, 0.5])
    assert not LABELS.usable(mean_of_labels([other, other], [1.0, 1.0], 1))[1]


def test_patience_counts_answers_that_are_the_same(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    run.write(records("medium", *reversed(made(skill=5.5, seed=3)), costs={"macs": 4.0}))
    found = tune(run, ["small", "medium", "large"], max_drop="2%", method="patience")
    assert found.calibration.drop <= 0.02
    assert found.calibration.exit_ratio[1] > 0.5


@pytest.mark.parametrize("method", ["pcee", "average", "ensemble", "grid50"])
def test_every_method_of_classes_has_what_it_asks_for(run: Run, method: str) -> None:
    found = tune(run, ["small", "large"], max_drop=0.05, method=method)
    assert found.calibration.metric == "micro_f1"
    assert found.calibration.drop <= 0.05


def test_without_labels_the_base_is_what_is_right(tmp_path: Path) -> None:
    found = tune(run_of(tmp_path, labelled=False), ["small", "large"], max_drop=0.05)
    assert found.calibration.base_value == 1
    assert found.artefact.stages[1].adjustment == {}
    kept = load_artefact(found.save(tmp_path / "cascade"))
    assert [stage.adjustment for stage in kept.stages] == [stage.adjustment for stage in found.artefact.stages]
    _, probs = made(skill=6.0, seed=10)
    _, own = made(skill=5.0, seed=1)
    ranked = savers(str(tmp_path / "run"), "large", holdout=0)
    threshold = found.artefact.stages[0].adjustment["threshold"][0]
    assert ranked.savers[0].saver == "small"
    assert 0.3 < sample_f1(own >= threshold, probs >= 0.5).mean() < 1


BROKEN = [
    (lambda p, y: (p + 2, y), "a probability of row 0 is"),
    (lambda p, y: (p - 1, y), "a probability of row 0 is"),
    (lambda p, y: (np.where(p > 0.9, np.nan, p), y), "is nan; expected 0 to 1"),
    (lambda p, y: (p, 2 * y.astype(np.int8)), "is 2; expected 0 or 1 for each class"),
    (lambda p, y: (p, np.where(np.arange(4) == 1, -1, y)), "a label of row 0 is -1"),
    (lambda p, y: (p, y[:, :3]), "labels of 3 classes beside probabilities of 4"),
]


@pytest.mark.parametrize(("spoil", "message"), BROKEN)
def test_records_that_cannot_be(spoil: Any, message: str) -> None:
    probs, truth = spoil(*reversed(made(50)))
    with pytest.raises(RecordsError, match=message):
        check(records("m", probs, truth))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("dog", "cat", "emu", "fox"), "the class order differs: class 0 is 'dog' in one and 'cat' in the other"),
        (("cat", "dog", "emu", "owl"), "the classes differ: class 3 is 'owl' in one and 'fox' in the other"),
    ],
)
def test_models_of_other_classes_are_not_compared(names: tuple[str, ...], message: str) -> None:
    truth, probs = made(50)
    with pytest.raises(AlignmentError, match=message):
        align([records("s", probs, truth, class_names=names)], records("b", probs, truth, class_names=NAMES))
    with pytest.raises(AlignmentError, match="s has 3 classes, b has 4"):
        align([records("s", probs[:, :3], truth[:, :3])], records("b", probs, truth))


def test_a_base_that_knows_nothing_is_bad_and_so_is_another_order() -> None:
    truth, probs = made(seed=1, skill=6.0)
    assert not is_bad_base(align([], records("b", probs, truth)))
    noise = np.random.default_rng(0).random(probs.shape).astype(np.float32)
    verdict = judge_records(records("b", noise, truth))
    assert verdict.bad
    assert "no better than answering the most frequent labels to everything" in str(verdict.note)
    shuffled = judge_records(records("b", probs[:, [1, 0, 3, 2]], truth))
    assert shuffled.bad
    assert "another order of the classes (0 → 1" in str(shuffled.note)
    empty = judge_records(records("b", probs, np.zeros_like(truth)))
    assert empty.bad
    assert "no label is true in any of the 600 samples" in str(empty.note)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.full((3, 2), 1.5), r"expected probabilities of labels, 0 to 1, found 1.5 to 1.5"),
        (np.full((3, 2), 1), "expected floating-point probabilities"),
        (np.zeros(3), r"expected floating-point probabilities of shape \(3, C\)"),
        (np.zeros((2, 2)), r"found float64 \(2, 2\)"),
    ],
)
def test_what_is_no_raw_answer(raw: np.ndarray, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        reduce_labels(raw, 3, "m")


def test_answers_are_named() -> None:
    said = LABELS.answer(Labels(np.array([[0.9, 0.1, 0.8]], np.float32), np.array([0.5])))
    assert LABELS.says(said[0], ("a", "b", "c")) == (["a", "c"], "a; c")
    assert LABELS.says(said[0], None) == ([0, 2], None)


def test_one_class_is_enough(tmp_path: Path) -> None:
    truth, probs = made()
    run = Run(tmp_path)
    run.write(records("s", probs[:, :1], truth[:, :1]))
    run.write(records("b", made(seed=5, skill=8.0)[1][:, :1], truth[:, :1], costs={"macs": 5.0}))
    found = tune(run, ["s", "b"], max_drop=0.02)
    assert 0 < found.calibration.base_value <= 1


def test_the_commands_speak_of_the_metric(run: Run) -> None:
    done = command(run.path.parent, "tune", "run", "--stages", "small,large", "--max-drop", "2%", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["calibration"]["metric"] == "micro_f1"
    assert found["score"] == "mean_margin"
    assert "accuracy" not in found["calibration"]
    for arguments in (["savers", "run", "--base", "large"], ["analyse", "run", "--base", "large"], ["inspect", "run"]):
        done = command(run.path.parent, *arguments)
        assert done.returncode == 0, done.stderr
        assert "micro F1" in done.stdout
    refused = command(run.path.parent, "savers", "run", "--base", "large", "--metric", "accuracy")
    assert refused.returncode == 1
    assert "unknown metric 'accuracy' of task labels" in refused.stderr


NAMED = ("red", "green", "blue")
CODE = """
import numpy as np

def large(batch):
    return 1 / (1 + np.exp(-(8 * batch[:, :3] - 4)))

def small(batch):
    hard = batch[:, 3:]
    return 1 / (1 + np.exp(-((8 * batch[:, :3] - 4) / (1 + 9 * abs(hard)) + hard)))
"""


def test_recorded_tuned_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples show their labels, and how wrong the small one is; one of them makes both say NaN."""
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 3)) < 0.4).astype(np.int8)
    x = np.concatenate([truth, rng.standard_normal((200, 3)) * (np.arange(200) % 2)[:, None]], axis=1)
    x[7] = np.nan
    np.savez(tmp_path / "data.npz", x=x.astype(np.float32), label=truth, class_names=NAMED)
    (tmp_path / "nets.py").write_text(CODE)
    for name, macs in (("small", 1), ("large", 9)):
        model = ("--model", f"python:nets:{name}?activation=sigmoid", "--as", name, "--cost", f"macs={macs}")
        done = command(tmp_path, "record", "--data", "arrays:data.npz", *model, "--run", "run", "--no-timing", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0]["n"] == 199
    meta = Run(tmp_path / "run").read("small").meta
    assert (meta.task, meta.class_names) == ("labels", NAMED)
    assert [failure.id for failure in meta.failures] == ["7"]
    tuned = ("tune", "run", "--stages", "small,large", "--max-drop", "2%", "--out", "cascade")
    assert command(tmp_path, *tuned).returncode == 0
    monkeypatch.syspath_prepend(str(tmp_path))
    cascade = Cascade.load(tmp_path / "cascade", allow_python=("nets:small", "nets:large"))
    found = cascade.predict(x.astype(np.float32))
    kept = np.delete(np.arange(200), 7)
    answers = np.array([[name in found[i].prediction for name in NAMED] for i in kept])
    assert micro_f1(f1_counts(answers, truth[kept] > 0).sum(axis=0)) >= 0.97
    assert found[7].error is not None
    assert 0.4 < np.mean([found[i].stage == 0 for i in kept]) < 1
    assert cascade.predict_one(x[0].astype(np.float32)).name == "; ".join(np.array(NAMED)[truth[0] > 0])
