"""``update``: one new model for a cascade, tuned as the cascade was, beside the old one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.cascade import load_artefact
from pilotfish.errors import AlignmentError, ArtefactError, BudgetError, DataError, RecordsError, UsageError
from pilotfish.flow.update import Update, update
from pilotfish.plan import tune
from pilotfish.plan.holdout import split_rows
from pilotfish.recording import RecordOptions, record
from pilotfish.records import Run
from pilotfish.runtime import Cascade, save_with_weights
from support.process import command, refusal
from support.quick import quick

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto

OPTIONS = RecordOptions(timing=False, batch_size=64)
SIZE, CLASSES, N = 6, 4, 600
NAMES = ("ash", "birch", "cedar", "date", "elm")


def network(path: Path, noise: float, width: int, classes: int = CLASSES, seed: int = 1) -> str:
    """The name of an ONNX file: the rule of :func:`samples`, with noise in its weights, in two layers of *width*."""
    rng = np.random.default_rng(seed)
    weights = rule(classes) + noise * rng.standard_normal((SIZE, classes))
    first = rng.standard_normal((SIZE, width))
    stored = {"a": first, "b": np.linalg.pinv(first) @ (3 * weights)}
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "a"], ["h"]), helper.make_node("MatMul", ["h", "b"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"names": json.dumps(NAMES[:classes])})
    onnx.save(model, path)
    return f"onnx:{path}?layout=tensor&activation=none"


def rule(classes: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((SIZE, len(NAMES)))[:, :classes]


def samples(path: Path, classes: int = CLASSES, n: int = N, seed: int = 2) -> str:
    """Samples that the rule is right about 19 times in 20."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, SIZE)).astype(np.float32)
    label = np.where(rng.random(n) < 0.95, (x @ rule(classes)).argmax(1), rng.integers(0, classes, n))
    np.savez(path, x=x, label=label)
    return f"arrays:{path}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ``saver`` and ``base``, and four cascades of them: plain, certified, for a cost, with
    limits per class."""
    folder = tmp_path_factory.mktemp("home")
    data, run = samples(folder / "data.npz"), Run(folder / "run")
    for name, noise, width in (("saver", 0.3, 8), ("base", 0.0, 400)):
        record(data, network(folder / f"{name}.onnx", noise, width), run, alias=name, options=OPTIONS)
    pair = ("saver", "base")
    tune(run, pair, max_drop=0.02, seed=3, score="margin").save(folder / "cascade")
    tune(run, pair, max_drop=0.05, guarantee=0.9, holdout=0.4, test="paired_cp").save(folder / "certified")
    tune(run, pair, max_drop=0.02, class_max_drop={"birch": 0.05}, worst_class_drop=0.1).save(folder / "limited")
    tune(run, pair, max_cost="60%", method="pcee", options={"bins": 8}).save(folder / "for-cost")
    return folder


@pytest.fixture
def place(home: Path, tmp_path: Path) -> Path:
    """A copy of these, whose models lie where they lay."""
    for name in ("cascade", "certified", "for-cost", "limited", "run"):
        shutil.copytree(home / name, tmp_path / name)
    shutil.copy(home / "data.npz", tmp_path)
    return tmp_path


def updated(place: Path, model: str, cascade: str = "cascade", **asked: Any) -> Update:
    data = asked.pop("data", f"arrays:{place}/data.npz")
    return update(place / cascade, model, data, place / "new", options=OPTIONS, **asked)


@pytest.mark.parametrize("stage", [0, "0", "saver"])
def test_a_stage_is_replaced_and_tuned_as_before(place: Path, stage: int | str) -> None:
    closer = network(place / "closer.onnx", 0.1, 8)
    found = updated(place, closer, alias="closer", stage=stage)
    run = Run(place / "run")  # which the cascade names, and which lies beside it
    assert (found.run, found.replaced, found.before, found.stages) == (
        run.path,
        "saver",
        ("saver", "base"),
        ("closer", "base"),
    )
    alone = tune(run, ("closer", "base"), max_drop=0.02, seed=3, score="margin")
    assert found.tuning.to_json() == alone.to_json()
    before = load_artefact(place / "cascade")
    assert found.old == before.evaluation  # the same samples judge, so nothing else can come of it
    assert found.new.exit_ratio[0] > found.old.exit_ratio[0]
    made = load_artefact(place / "new")
    assert [one.name for one in made.stages] == ["closer", "base"]
    assert made.operating_point.thresholds == alone.artefact.operating_point.thresholds
    answers = Cascade.load(place / "new").predict(np.load(place / "data.npz")["x"][:20])
    assert all(answer.error is None for answer in answers)


@pytest.mark.parametrize(
    ("cascade", "asked"),
    [
        ("certified", {"guarantee": 0.9, "holdout": 0.4, "test": "paired_cp", "savers_tried": 2}),  # the old one, too
        ("for-cost", {"method": "pcee", "options": {"bins": 8}}),
        ("limited", {"class_max_drop": {"birch": 0.05}, "worst_class_drop": 0.1}),
    ],
)
def test_budget_method_and_guarantee_are_kept(place: Path, cascade: str, asked: dict[str, Any]) -> None:
    found = updated(place, network(place / "m.onnx", 0.1, 8), cascade, alias="m", stage=0)
    budget = load_artefact(place / cascade).operating_point.budget
    assert budget is not None
    again = tune(Run(place / "run"), ("m", "base"), **{budget.kind: budget.value, **asked})
    assert found.tuning.to_json() == again.to_json()
    assert load_artefact(place / "new").operating_point.budget == budget


def test_a_model_of_no_stage_is_tried_everywhere(place: Path) -> None:
    found = updated(place, network(place / "best.onnx", 0.02, 7), alias="best")
    run, tried = Run(place / "run"), [("saver", "base"), ("best", "base"), ("best", "saver", "base")]
    costs = [tune(run, stages, max_drop=0.02, seed=3, score="margin").calibration.cost or 0 for stages in tried]
    assert found.stages == tried[int(np.argmin(costs))]
    assert found.stages[0] == "best"
    assert found.replaced is None
    assert any("was tried in the place of each saver" in note for note in found.notes)
    assert not any("--savers-tried" in note for note in found.notes)


def test_a_model_that_helps_nobody_leaves_the_stages(place: Path) -> None:
    found = updated(place, network(place / "bad.onnx", 9.0, 500), alias="bad")
    assert found.stages == ("saver", "base")
    assert found.new == found.old
    assert any("makes no cascade of these stages better" in note for note in found.notes)


def test_the_chance_of_error_is_divided_among_those_tried(place: Path) -> None:
    found = updated(place, network(place / "best.onnx", 0.02, 7), "certified", alias="best")
    asked: dict[str, Any] = {"max_drop": 0.05, "guarantee": 0.9, "holdout": 0.4, "test": "paired_cp"}
    again = tune(Run(place / "run"), found.stages, savers_tried=3, **asked)
    assert found.tuning.to_json() == again.to_json()
    later = update(
        place / "new",
        network(place / "other.onnx", 0.2, 7),
        f"arrays:{place}/data.npz",
        place / "newer",
        run=place / "run",
        alias="other",
        options=OPTIONS,
    )
    assert later.tuning.artefact.origin["savers_tried"] > 3


def test_every_model_that_was_tried_for_a_stage_counts(place: Path) -> None:
    """On the same samples each further model is one more that may look good by chance; fresh samples begin anew."""
    for k in (2, 3, 4):
        found = updated(place, network(place / f"m{k}.onnx", 0.1, 8, seed=k), "certified", alias=f"m{k}", stage=0)
        assert found.tuning.artefact.origin["savers_tried"] == k
    assert any("divided by 4" in note and "m2, m3 before this one" in note for note in found.notes)
    last, fresh = network(place / "m5.onnx", 0.1, 8), samples(place / "fresh.npz", seed=7)
    found = updated(place, last, "certified", alias="m5", stage=0, data=fresh)
    assert "savers_tried" not in found.tuning.artefact.origin
    assert not any("divided by" in note for note in found.notes)


@pytest.mark.parametrize("how", ["more", "part", "other"])
def test_samples_that_the_old_cascade_was_tuned_on_are_counted(how: str, place: Path) -> None:
    """By content: the ids of arrays are their rows."""
    with np.load(place / "data.npz") as old, np.load(samples(place / "n.npz", seed=7).removeprefix("arrays:")) as new:
        x = {"more": [new["x"][:200], old["x"]], "part": [old["x"][100:400]], "other": [new["x"]]}[how]
        label = {"more": [new["label"][:200], old["label"]], "part": [old["label"][100:400]], "other": [new["label"]]}
        np.savez(place / "extended.npz", x=np.concatenate(x), label=np.concatenate(label[how]))
    model, data = network(place / "m.onnx", 0.1, 8), f"arrays:{place}/extended.npz"
    found = updated(place, model, alias="m", stage=0, data=data)
    first = {"more": 200, "part": -100, "other": 10**6}[how]  # where the old samples begin
    judged = split_rows(len(np.concatenate(x)), 0.5, 3).evaluation
    seen = len(np.intersect1d(judged - first, split_rows(N, 0.5, 3).fit))
    notes = [note for note in found.notes if "was tuned on" in note]
    assert (seen > 0) is (how != "other")
    said = (
        f"the old cascade was tuned on {seen} of the {len(judged)} samples that judge both: its figures are optimistic"
    )
    assert notes == ([said] if seen else [])
    shutil.rmtree(place / "run")
    again = update(place / "cascade", model, data, place / "other", alias="m", stage=0, options=OPTIONS)
    assert any("cannot be known here" in note for note in again.notes)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda x, label: {"x": x}, "tuned with labels and these samples have none: the new one keeps to agreement"),
        (lambda x, label: {"x": x, "label": np.where(np.arange(N) % 3, label, 0)}, "the base itself has "),
        (
            lambda x, label: {"x": np.where(np.arange(N)[:, None] % 3, x, np.nan), "label": label},
            "m: 200 of 600 samples have no row and are left out, such as 0: the array holds NaN",
        ),
    ],
    ids=["no labels", "wrong labels", "unreadable"],
)
def test_samples_unlike_those_of_the_old_cascade_are_said(spoil: Any, said: str, place: Path) -> None:
    with np.load(samples(place / "fresh.npz", seed=7).removeprefix("arrays:")) as fresh:
        np.savez(place / "odd.npz", **spoil(fresh["x"], fresh["label"]))
    model = network(place / "m.onnx", 0.1, 8)
    found = updated(place, model, alias="m", stage=0, data=f"arrays:{place}/odd.npz")
    assert sum(said in note for note in found.notes) == 1
    assert not any("no row for" in note for note in found.notes)


def test_a_better_model_is_offered_as_the_base_and_can_be_it(place: Path) -> None:
    worse = network(place / "worse.onnx", 0.15, 400, seed=5)
    first = updated(place, worse, alias="worse", stage="base")
    assert first.stages == ("saver", "worse")
    assert any("the base is another one" in note for note in first.notes)
    second = update(
        place / "new", network(place / "b2.onnx", 0.0, 401), f"arrays:{place}/data.npz", place / "newer",
        alias="b2", run=place / "run", options=OPTIONS,
    )  # fmt: skip
    assert any("give --stage 1 to make it the base" in note for note in second.notes)


def test_other_samples_are_recorded_by_every_stage(place: Path) -> None:
    """The old cascade is then judged on these, at its own thresholds: beside plain numpy."""
    data = samples(place / "fresh.npz", seed=7)
    found = updated(place, network(place / "m.onnx", 0.1, 8), alias="m", stage=0, data=data)
    run = Run(place / "new-run")  # the one beside the old cascade holds other samples
    assert found.run == run.path
    assert run.models() == ["base", "m", "saver"]
    held = split_rows(N, 0.5, 3).evaluation
    saver, base = (run.read(name) for name in ("saver", "base"))
    two = np.sort(softmax(saver.outputs.top_logits))[held][:, -2:]
    at = load_artefact(place / "cascade").shown_thresholds[0]
    exits = two[:, 1] - two[:, 0] >= at - 1e-6
    right = np.where(exits, saver.outputs.prediction[held], base.outputs.prediction[held]) == base.label[held]
    assert (found.old.n, found.old.value, found.old.exit_ratio[0]) == (len(held), right.mean(), exits.mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def test_the_old_model_may_be_gone(place: Path) -> None:
    """Then the old cascade is shown as it was judged when it was made, and a note says so."""
    gone = network(place / "gone.onnx", 0.3, 8, seed=4)
    first = updated(place, gone, alias="gone", stage=0)
    (place / "gone.onnx").unlink()
    data = samples(place / "fresh.npz", seed=7)
    found = update(
        place / "new", network(place / "m.onnx", 0.1, 8), data, place / "newer", stage=0, options=OPTIONS
    )  # fmt: skip
    assert found.old == first.new
    assert any("shown as it was judged when made, on 300 samples: gone has no records" in note for note in found.notes)


def test_what_is_refused(place: Path) -> None:
    model, data = network(place / "m.onnx", 0.1, 8), f"arrays:{place}/data.npz"
    with pytest.raises(UsageError, match="is the old cascade, which an update keeps"):
        update(place / "cascade", model, data, place / "cascade", options=OPTIONS)
    (place / "full").mkdir()
    (place / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ArtefactError, match="is not a cascade folder"):
        update(place / "cascade", model, data, place / "full", options=OPTIONS)
    for stage in ("2", "-1", "savr", "²", "9" * 5000):
        with pytest.raises(UsageError, match=f"--stage {stage} is no stage .* stages are 0: saver, 1: base"):
            updated(place, model, stage=stage)
    with pytest.raises(UsageError, match="saver is the name of stage 0; give the new model another one with --as"):
        updated(place, model, alias="saver", stage=1)
    with pytest.raises(RecordsError, match=r"holds records of saver with other weights .* --as NAME --stage 'saver'"):
        updated(place, model, alias="saver")
    other = samples(place / "fresh.npz", seed=7)
    with pytest.raises(RecordsError, match="holds records of base of other samples; name another folder with --run"):
        updated(place, model, stage=0, data=other, run=place / "run")
    document = json.loads((place / "cascade" / "cascade.json").read_text())
    document["operating_point"]["budget"] = None
    (place / "cascade" / "cascade.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="keeps no budget"):
        updated(place, model, stage=0)
    assert Run(place / "run").models() == ["base", "saver"]  # nothing was recorded for nothing
    assert not (place / "new").exists()


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("origin", {"holdout": "half"}, "origin.holdout is 'half', expected a number"),
        ("origin", {"seed": None}, "origin.seed is null, expected a whole number"),
        ("origin", {"options": [3]}, "origin.options is"),
        ("guarantee", {"confidence": None}, "guarantee.confidence is null"),
    ],
)
def test_a_cascade_that_was_edited_is_refused_in_a_line(
    part: str, change: dict[str, Any], said: str, place: Path
) -> None:
    file = place / "certified" / "cascade.json"
    document = json.loads(file.read_text())
    document[part] |= change
    file.write_text(json.dumps(document))
    with pytest.raises(ArtefactError) as refused:
        updated(place, network(place / "m.onnx", 0.1, 8), "certified", stage=0)
    assert said in str(refused.value)


def test_a_budget_that_cannot_be_met_any_more(place: Path) -> None:
    tune(Run(place / "run"), ("saver", "base"), min_metric=0.93).save(place / "cascade")
    with pytest.raises(BudgetError, match="the best accuracy that can be reached"):
        updated(place, network(place / "bad.onnx", 9.0, 400), alias="bad", stage="base", allow_bad_base=True)
    assert not (place / "new").exists()


def test_one_class_more_is_refused_and_named(place: Path) -> None:
    """A model that knows one more class cannot stand beside those that do not, whichever samples there are."""
    more = network(place / "five.onnx", 0.0, 400, classes=5)
    for data in (f"arrays:{place}/data.npz", samples(place / "five.npz", classes=5)):
        with pytest.raises(AlignmentError, match=r"five has 5 classes and stage saver 4 .*'elm'.* pilotfish build"):
            updated(place, more, alias="five", stage="base", data=data)
    with pytest.raises(DataError, match=r"has label 4, but .* has 4 classes"):
        updated(place, network(place / "m.onnx", 0.1, 8), stage=0, data=samples(place / "five.npz", classes=5))


def test_imported_stages_keep_their_predictions(place: Path) -> None:
    run = Run(place / "run")
    read = run.read("base")
    without = {"spec": None, "weights_hash": None, "preprocessing": None, "preprocessing_hash": None, "data": {}}
    run.write(dataclasses.replace(read, meta=dataclasses.replace(read.meta, model="api", source="imported", **without)))
    tune(run, ("saver", "api"), max_drop=0.02).save(place / "cascade")
    model = network(place / "m.onnx", 0.1, 8)
    assert updated(place, model, alias="m", stage=0).stages == ("m", "api")
    with pytest.raises(RecordsError, match="stage api was planned from imported predictions: import those"):
        updated(place, model, alias="m", stage=0, run=place / "elsewhere")


def test_embedded_stages_move_on_without_their_files(place: Path) -> None:
    for name, noise, width in (("s2", 0.3, 8), ("b2", 0.0, 400)):
        record(
            f"arrays:{place}/data.npz",
            network(place / f"{name}.onnx", noise, width),
            place / "run",
            alias=name,
            options=OPTIONS,
        )
    save_with_weights(tune(Run(place / "run"), ("s2", "b2"), max_drop=0.02).artefact, place / "cascade")
    (place / "b2.onnx").unlink()
    updated(place, network(place / "m.onnx", 0.1, 8), alias="m", stage=0, embed=True)
    shutil.rmtree(place / "cascade")
    (place / "m.onnx").unlink()
    answers = Cascade.load(place / "new").predict(np.load(place / "data.npz")["x"][:5])
    assert [answer.error for answer in answers] == [None] * 5


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.mark.parametrize(("score", "embed"), [("max_prob", True), ("temperature", True), ("learned_right", False)])
def test_an_update_in_place_that_is_cut_off_leaves_the_old_cascade(
    score: str, embed: bool, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written when it ended: the folder runs as the old one, then as the new one."""
    data, folder = f"arrays:{place}/data.npz", place / "inside"
    x, pair = np.load(place / "data.npz")["x"], ("s2", "b2")
    names = {name: network(place / f"{name}.onnx", noise, 8) for name, noise in (("s2", 0.3), ("b2", 0.0), ("m", 0.1))}
    for name in pair:
        record(data, names[name], place / "run", alias=name, options=OPTIONS)
    artefact = tune(Run(place / "run"), pair, max_drop=0.02, score=score).artefact
    save_with_weights(artefact, folder)

    def answers(of: Path) -> list[Any]:
        return [(a.prediction, a.confidence, a.stage) for a in Cascade.load(of).predict(x[:60])]

    def again(out: Path) -> None:
        update(folder, names["m"], data, out, alias="m", stage=0, force=True, embed=embed, run=place / "run",
               options=OPTIONS)  # fmt: skip

    old, before = answers(folder), sorted(path.name for path in folder.rglob("*"))
    again(place / "elsewhere")
    new, replace, left = answers(place / "elsewhere"), os.replace, 0
    assert new != old

    def cut_off(source: Any, target: Any) -> None:
        nonlocal left
        if Path(target).is_relative_to(folder):
            left -= 1
            if left < 0:
                raise Killed
        replace(source, target)

    for writes in range(9):
        left = writes
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr("os.replace", cut_off)
            again(folder)
            break
        assert answers(folder) == old
    assert writes >= 1 + (score != "max_prob")
    assert answers(folder) == new
    if embed:
        assert len(list(folder.rglob("*"))) == len(before)
        again(folder)
        assert answers(folder) == new
    assert load_artefact(folder).origin["seed"] == 0


def test_the_command(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    model = network(place / "m.onnx", 0.1, 8)
    asked = ["update", "cascade", "--model", model, "--as", "m", "--stage", "0", "--data", "arrays:data.npz"]
    shown = command(place, *asked, "--out", "new", "--json")
    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    assert document["stages"] == ["m", "base"]
    assert document["old_stages"] == ["saver", "base"]
    assert document["old"] == load_artefact(place / "cascade").evaluation.to_json()  # type: ignore[union-attr]
    assert document["new"] == load_artefact(place / "new").evaluation.to_json()  # type: ignore[union-attr]
    assert {"drop", "exit_ratio", "cost", "base_cost"} <= document["new"].keys()
    for text in ("old: saver → base", "new: m → base", "Update of cascade", "drop at most 2%"):
        assert text in shown.stderr
    said = refusal(place, *asked, "--out", "cascade")
    assert "is the old cascade, which an update keeps; name another folder, or give --force" in said
    assert command(place, *asked, "--out", "cascade", "--force").returncode == 0
    assert [one.name for one in load_artefact(place / "cascade").stages] == ["m", "base"]
