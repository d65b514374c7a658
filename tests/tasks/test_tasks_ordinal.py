"""A task that the package does not know, from records to a report: an ordinal regression (see ``ordinal.py``)."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import ordinal
import pytest
from ordinal import ORDINAL, Levels, careful, closeness, quick, samples

import pilotfish
from pilotfish.cascade import Rule, decide, load_artefact
from pilotfish.errors import AlignmentError, ArtefactError, ModelError, RecordsError, UsageError
from pilotfish.records import Records, RecordsMeta, Run, align
from pilotfish.records.parquet import read_meta
from pilotfish.records.records import string_ids
from pilotfish.runtime import summarise
from pilotfish.scores import Evidence, ScoreKind
from pilotfish.scores.outputs import from_logits
from pilotfish.tasks import CLASSES, find_task, register
from pilotfish.tasks.task import _TASKS
from support.process import command, refusal

N = 2000
MODELS = {"quick": 1.0, "careful": 25.0}
CODE = [f"ordinal:{name}" for name in MODELS]
ALLOWED = [text for code in CODE for text in ("--allow-python", code)]
X, LEVEL = samples(N)
SAID = {"quick": ordinal.reduce(quick(X), N, "quick", 1), "careful": ordinal.reduce(careful(X), N, "careful", 1)}


def ok(folder: Path, *arguments: object) -> str:
    ended = command(folder, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def told(folder: Path, *arguments: object) -> Any:
    ended = command(folder, *arguments, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a run with records of both models."""
    found = tmp_path_factory.mktemp("ordinal")
    np.savez(found / "data.npz", x=X, label=LEVEL)
    for name, macs in MODELS.items():
        model = ("--model", f"python:ordinal:{name}", "--as", name, "--cost", f"macs={macs}")
        ok(found, "record", "--data", "arrays:data.npz", *model, "--run", "run", "--task", "ordinal", "--no-timing")
    ok(found, "tune", "run", "--stages", "quick,careful", "--max-drop", "1%", "--out", "cascade")
    return found


def best_drop(rows: np.ndarray, limit: float) -> tuple[float, float]:
    """(exit ratio, drop) of the threshold that exits most within the limit, by trying them all."""
    gap = closeness(SAID["careful"], LEVEL)[rows] - closeness(SAID["quick"], LEVEL)[rows]
    sure = -SAID["quick"].spread[rows]
    found = [(float((sure >= t).mean()), float(np.where(sure >= t, gap, 0).mean())) for t in np.unique(sure)]
    return max((pair for pair in found if pair[1] <= limit + 1e-12), default=(0.0, 0.0))


def test_records_hold_the_outputs_and_the_truth(folder: Path) -> None:
    records = Run(folder / "run").read("quick")
    assert records.meta.task == "ordinal"
    assert records.task is ORDINAL
    assert isinstance(records.outputs, Levels)
    assert (records.label == LEVEL).all()
    assert records.label.dtype == np.float64
    np.testing.assert_array_equal(records.outputs.level, SAID["quick"].level)
    np.testing.assert_array_equal(records.outputs.spread, SAID["quick"].spread)
    assert records.value == pytest.approx(float(closeness(SAID["quick"], LEVEL).mean()), abs=1e-12)
    assert not any("chance" in note for note in records.meta.notes)


def test_savers_are_ranked_by_the_task_s_metric(folder: Path) -> None:
    ratio, _ = best_drop(np.arange(N), 0.01)
    found = told(folder, "savers", "run", "--base", "careful", "--max-drop", "1%")
    assert (found["metric"], found["best"], found["score"]) == ("closeness", "quick", "sure")
    assert found["savers"][0]["exit_ratio"] == pytest.approx(ratio)
    shown = ok(folder, "savers", "run", "--base", "careful", "--max-drop", "1%")
    assert "closeness" in shown
    assert "accuracy" not in shown


def test_tuning_finds_the_best_threshold_of_all(folder: Path) -> None:
    tuned = ("tune", "run", "--stages", "quick,careful", "--max-drop", "1%", "--holdout", "0")
    ratio, drop = best_drop(np.arange(N), 0.01)
    found = told(folder, *tuned)
    assert found["score"] == "sure"
    p = found["calibration"]
    assert p["metric"] == "closeness"
    assert "accuracy" not in p
    assert p["exit_ratio"][0] == pytest.approx(ratio)
    assert p["drop"] == pytest.approx(drop, abs=1e-12)
    assert p["base_value"] == pytest.approx(float(closeness(SAID["careful"], LEVEL).mean()), abs=1e-12)
    shown = ok(folder, *tuned)
    assert "closeness" in shown
    assert "accuracy" not in shown


def test_a_guarantee_is_by_betting_and_holds_on_what_follows(folder: Path) -> None:
    out = ("--guarantee", "90%", "--out", "certified")
    found = told(folder, "tune", "run", "--stages", "quick,careful", "--max-drop", "1%", *out)
    assert found["guarantee"]["test"] == "wsr"
    assert found["guarantee"]["bound"] <= 0.01
    x, level = samples(20_000, seed=7)
    (threshold,) = found["thresholds"]
    little, big = (ordinal.reduce(model(x), len(x), "m", 1) for model in (quick, careful))
    exits = -little.spread >= threshold
    assert exits.mean() > 0.05
    drop = np.where(exits, closeness(big, level) - closeness(little, level), 0).mean()
    assert drop <= 0.01
    again = refusal(
        folder, "tune", "run", "--stages", "quick,careful", "--max-drop", "1%", "--guarantee", "90%", "--test", "exact"
    )
    assert "closeness" in again


@pytest.mark.parametrize(
    ("spread", "verdict", "code"), [(1.0, "holds", 0), (8.0, "broken", 3)], ids=["as before", "a worse saver"]
)
def test_new_samples_are_judged_by_betting(folder: Path, spread: float, verdict: str, code: int) -> None:
    x, level = samples(4000, seed=9)
    x[:, 1] = level + spread * (x[:, 1] - level)  # the saver is as sure as before, and off by so much more
    np.savez(folder / "new.npz", x=x, label=level)
    ended = command(folder, "evaluate", "cascade", "--data", "arrays:new.npz", *ALLOWED, "--json")
    assert ended.returncode == code, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["verdict"], found["kind"], found["found"]["metric"]) == (verdict, "drop", "closeness")
    little, big = (closeness(ordinal.reduce(model(x), len(x), "m", 1), level) for model in (quick, careful))
    (threshold,) = load_artefact(folder / "cascade").operating_point.thresholds
    exits = -ordinal.reduce(quick(x), len(x), "m", 1).spread >= threshold
    assert found["found"]["drop"] == pytest.approx(np.where(exits, big - little, 0).mean(), abs=1e-9)
    np.savez(folder / "unlabelled.npz", x=x)
    blind = told(folder, "evaluate", "cascade", "--data", "arrays:unlabelled.npz", *ALLOWED)
    assert (blind["verdict"], blind["p"]) == ("cannot tell", None)  # closeness to the base's answers bounds nothing


@pytest.mark.parametrize(
    "way",
    [
        ("--method", "pcee"),
        ("--method", "dyce"),
        ("--method", "msdnet"),
        ("--score", "auto"),
    ],
    ids=lambda way: way[1],
)
def test_every_way_that_reads_scores_and_quality_takes_the_task(folder: Path, way: tuple[str, str]) -> None:
    found = told(folder, "tune", "run", "--stages", "quick,careful", "--max-drop", "2%", *way)
    p = found["calibration"]
    assert found["scores"] == ["sure"]
    assert p["metric"] == "closeness"
    assert p["drop"] <= 0.02 + 1e-12
    assert p["exit_ratio"][0] > 0.2


@pytest.mark.parametrize("budget", [("--min-metric", "90%"), ("--max-cost", "60%")], ids=lambda budget: budget[0])
def test_other_budgets_are_certified(folder: Path, budget: tuple[str, str]) -> None:
    found = told(folder, "tune", "run", "--stages", "quick,careful", *budget, "--guarantee", "90%")
    p, g = found["evaluation"], found["guarantee"]
    assert g["kind"] == ("cost" if budget[0] == "--max-cost" else "closeness")
    assert p["cost"] <= 15.5 if g["kind"] == "cost" else p["value"] >= 0.9
    assert found["evaluation"]["exit_ratio"][0] > 0.2


def test_a_fitted_score_of_the_task_is_cross_fitted_and_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(evidence: Evidence) -> dict[str, np.ndarray]:  # quality falls with the spread
        x = np.stack([np.ones(len(evidence)), evidence.outputs.spread], axis=1)
        return {"line": np.linalg.lstsq(x, evidence.right, rcond=None)[0]}

    kind = ScoreKind("line", lambda outputs, p: p["line"][0] + p["line"][1] * outputs.spread, fit=fit, candidate=True)
    monkeypatch.setitem(_TASKS, "ordinal", replace(ORDINAL, scores={**ORDINAL.scores, "line": kind}))
    tuning = pilotfish.tune(folder / "run", ("quick", "careful"), max_drop=0.01, score="line")
    loaded = load_artefact(tuning.save(tmp_path / "fitted"))
    assert loaded.scores[0].kind is kind
    np.testing.assert_array_equal(loaded.scores[0].parameters["line"], tuning.artefact.scores[0].parameters["line"])
    plain = pilotfish.tune(folder / "run", ("quick", "careful"), max_drop=0.01)
    assert plain.evaluation is not None
    assert tuning.evaluation is not None
    assert tuning.evaluation.exit_ratio[0] == pytest.approx(plain.evaluation.exit_ratio[0], abs=0.1)


def test_a_cascade_answers_with_levels(folder: Path) -> None:
    cascade = pilotfish.Cascade.load(folder / "cascade", allow_python=CODE)
    assert cascade.artefact.task is ORDINAL
    (threshold,) = cascade.thresholds
    exits = -SAID["quick"].spread >= threshold
    expected = np.where(exits, SAID["quick"].level, SAID["careful"].level)
    found = cascade.predict(X)
    assert [a.prediction for a in found] == expected.tolist()
    assert [a.stage for a in found] == np.where(exits, 0, 1).tolist()
    assert {a.name for a in found} == {None}
    alone = [cascade.predict(X[i : i + 1])[0] for i in range(20)]
    assert [(a.prediction, a.stage, a.confidence) for a in alone] == [
        (a.prediction, a.stage, a.confidence) for a in found[:20]
    ]
    assert [cascade.predict_one(x) for x in X[:20]] == [replace(a, input="0") for a in alone]
    assert cascade.predict([*X[:20], list(X[0])])[:20] == found[:20]
    summary = summarise(found, cascade.artefact)
    assert [stage.n for stage in summary.stages] == [int(exits.sum()), int((~exits).sum())]
    assert [a.prediction for a in cascade.stream(iter(X[:50]))] == expected[:50].tolist()
    np.savez(folder / "few.npz", x=X[:30])
    for extra in ((), ("--low-memory",)):
        answers = told(folder, "predict", "cascade", "few.npz", *ALLOWED, *extra)["answers"]
        assert [a["prediction"] for a in answers] == expected[:30].tolist()
    cascade.set_operating_point(max_drop=0.0)
    assert {a.stage for a in cascade.predict(X[:200])} != {0}


@pytest.mark.parametrize("path", ["/predict", "/v1/models/levels:predict", "/v2/models/levels/infer"])
def test_a_server_answers_with_levels(folder: Path, path: str) -> None:
    pytest.importorskip("uvloop", reason="pilotfish[serve] is not installed")
    from support.server import serving

    expected = pilotfish.Cascade.load(folder / "cascade", allow_python=CODE).predict(X[:20])
    asked: dict[str, Any] = {"instances": X[:20].tolist()}
    if path.endswith("infer"):
        asked = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [20, 3], "data": X[:20].tolist()}]}
    with serving({"levels": folder / "cascade"}, allow_python=CODE, audit=1.0) as server:
        answered = server.ask("POST", path, asked)
        assert answered.status == 200, answered.body
        [levels] = [found for key, found in answered.json.items() if key in ("answers", "predictions", "outputs")]
        if path.endswith("infer"):
            said = [json.loads(level) for level in levels[0]["data"]]
        else:
            said = [answer["prediction"] for answer in levels]
        assert said == [answer.prediction for answer in expected]
        for figures in ("/metrics", "/console.json", "/v2/models/levels/audit"):
            assert server.get(figures).status == 200


def test_a_sample_whose_outputs_are_not_finite_fails_alone(folder: Path, tmp_path: Path) -> None:
    broken = X[:40].copy()
    broken[7, 1] = 99  # the saver has no reading
    broken[9, 1:] = 99
    cascade = pilotfish.Cascade.load(folder / "cascade", allow_python=CODE)
    found = cascade.predict(broken)
    assert (found[7].stage, found[7].error) == (1, None)
    assert found[9].error == "the outputs of careful are not finite"
    assert [cascade.predict_one(broken[i]).error for i in (7, 9)] == [None, found[9].error]
    assert [a.error for i, a in enumerate(found) if i != 9] == [None] * 39
    np.savez(tmp_path / "broken.npz", x=broken, label=LEVEL[:40])
    spec = f"arrays:{tmp_path / 'broken.npz'}"
    (one,) = pilotfish.record(spec, "python:ordinal:quick", tmp_path / "run", task="ordinal", timing=False)
    assert [f.id for f in one.failures] == ["7", "9"]


@pytest.mark.parametrize(
    "of",
    [("cascade",), ("run", "--base", "careful"), ("run", "--stages", "quick,careful")],
    ids=["of a cascade", "of a base", "of a pair"],
)
def test_a_report_speaks_of_the_task_s_metric(folder: Path, of: tuple[str, ...]) -> None:
    ok(folder, "report", *of, "--out", "report.html")
    page = (folder / "report.html").read_text()
    words = re.sub(r"<style.*?</style>|<script.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert "closeness" in words.lower()
    assert "accuracy" not in words.lower()
    assert "max_prob" not in words


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("inspect", "run"), "closeness"),
        (("inspect", "cascade"), "closeness"),
        (("chains", "run", "--base", "careful", "--max-drop", "1%"), "quick → careful"),
        (("analyse", "run", "--base", "careful"), "closeness"),
        (("savers", "run", "--all-bases"), "careful"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_whatever_reads_records_or_cascades_knows_the_metric(
    folder: Path, arguments: tuple[str, ...], shown: str
) -> None:
    said = ok(folder, *arguments)
    assert shown in said
    assert "accuracy" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--method", "ensemble"), "averages answers, and task ordinal has no mix"),
        (("--method", "average"), "averages answers, and task ordinal has no mix"),
        (("--method", "grid50"), "tries thresholds from 0 to 1, and the scores of quick are no probabilities"),
        (("--method", "first_violation"), "tries thresholds from 0 to 1, and the scores of quick are no probabilities"),
        (("--method", "patience"), "needs to know which answers agree, and task ordinal has no same"),
        (("--method", "agreement"), "needs to know which answers agree, and task ordinal has no same"),
        (("--score", "margin"), "unknown score 'margin' of task ordinal"),
        (("--score", "learned"), "unknown score 'learned' of task ordinal"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
def test_what_the_task_lacks_is_refused_by_name(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in refusal(folder, "tune", "run", "--stages", "quick,careful", "--max-drop", "1%", *arguments)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_answers_made_elsewhere_are_imported(tmp_path: Path, suffix: str) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    label = LEVEL[:50].astype(float)
    label[3] = np.nan
    columns = {"id": [f"s{i}" for i in range(50)], "label": label, **vars(SAID["quick"].take(slice(50)))}
    file = tmp_path / f"quick{suffix}"
    if suffix == ".npz":
        np.savez(file, **columns)
    elif suffix == ".csv":
        pyarrow.csv.write_csv(pa.table({**columns, "label": pa.array(label, from_pandas=True)}), file)
    else:
        pq.write_table(pa.table(columns), file)
    told(tmp_path, "import", file, "--run", "run", "--model", "quick", "--task", "ordinal")
    records = Run(tmp_path / "run").read("quick")
    np.testing.assert_allclose(records.outputs.level, SAID["quick"].level[:50], rtol=1e-12)
    assert np.flatnonzero(~ORDINAL.known(records.label)).tolist() == [3]
    assert records.ids[4].as_py() == "s4"
    assert "no 'spread' among" in refusal(
        tmp_path, "import", _without(tmp_path, columns), "--run", "run", "--model", "m", "--task", "ordinal"
    )


def _without(folder: Path, columns: dict[str, Any]) -> Path:
    np.savez(folder / "lacking.npz", **{name: value for name, value in columns.items() if name != "spread"})
    return folder / "lacking.npz"


def test_a_base_without_labels_is_the_truth_of_its_savers(tmp_path: Path) -> None:
    ids = string_ids(np.arange(N))
    quick_one, careful_one = (
        Records(ids, ORDINAL.truth(None, N), SAID[name], RecordsMeta(name, "val", costs={"macs": m}, task="ordinal"))
        for name, m in MODELS.items()
    )
    table = align([quick_one], careful_one)
    assert table.reference_kind == "base"
    np.testing.assert_array_equal(table.quality("quick"), closeness(SAID["quick"], SAID["careful"].level))
    assert (table.quality("careful") == 1).all()


def test_models_of_two_tasks_are_not_compared() -> None:
    ids = string_ids(np.arange(N))
    levels = Records(ids, LEVEL.astype(float), SAID["quick"], RecordsMeta("quick", "val", task="ordinal"))
    classes = Records(ids, LEVEL, from_logits(np.eye(11)[LEVEL]), RecordsMeta("sorter", "val"))
    with pytest.raises(AlignmentError, match=r"quick has records of task ordinal, sorter of task classes"):
        align([levels], classes)


def test_what_is_no_raw_answer_of_the_task_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=X[:20, :1], label=LEVEL[:20])
    with pytest.raises(ModelError, match=r"python:ordinal:closeness|expected a level and a log-spread"):
        pilotfish.record(
            f"arrays:{tmp_path / 'data.npz'}", "python:numpy:abs", tmp_path / "run", task="ordinal", timing=False
        )


def test_files_of_a_task_that_is_not_known_here_name_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(_TASKS, "ordinal")
    with pytest.raises(
        RecordsError, match=r"quick.*its task 'ordinal' is not known here \(known: .*classes.*\); register"
    ):
        Run(folder / "run").read("quick")
    with pytest.raises(ArtefactError, match=r"cascade.json: its task 'ordinal' is not known here"):
        load_artefact(folder / "cascade")
    assert read_meta(folder / "run" / "quick.val.parquet").task == "ordinal"
    ended = command(folder, "record", "--data", "arrays:data.npz", "--model", "m", "--run", "r", "--task", "ordinal")
    assert ended.returncode == 2
    assert "unknown task 'ordinal'" in ended.stderr


def test_records_and_cascades_of_classes_do_not_name_their_task(folder: Path) -> None:
    from pilotfish.cascade.folder import to_document
    from pilotfish.records.parquet import decode_meta, encode_meta

    plain = encode_meta(RecordsMeta("m", "val"))
    assert b"task" not in plain
    assert decode_meta(plain, {}, "m").task == "classes"
    artefact = load_artefact(folder / "cascade")
    assert to_document(artefact)["task"] == "ordinal"
    scores = tuple(replace(s, kind=CLASSES.score()) for s in artefact.scores)
    assert "task" not in to_document(replace(artefact, task=CLASSES, scores=scores))


def test_a_name_is_registered_once() -> None:
    assert register(ORDINAL) is ORDINAL
    with pytest.raises(UsageError, match="there is a task 'ordinal' already"):
        register(replace(ORDINAL))
    with pytest.raises(UsageError, match=r"unknown task 'ordinel'.*ordinal"):
        find_task("ordinel")


@pytest.mark.parametrize("name", ["drop", "agreement", "cost"])
def test_a_metric_is_not_called_as_another_kind_of_promise(name: str) -> None:
    with pytest.raises(UsageError, match=f"a metric called '{name}' would be read as a promise of that kind"):
        register(replace(ORDINAL, name="other", metric=replace(ORDINAL.metric, name=name)))


@pytest.mark.parametrize("budget", ["0.3%", "1%", "3%"])
def test_a_cascade_keeps_a_few_hundred_points_of_a_frontier_of_numbers(folder: Path, budget: str) -> None:
    tuned = pilotfish.tune(folder / "run", ("quick", "careful"), max_drop=budget, holdout=0)
    artefact = tuned.artefact
    assert 100 < len(artefact.frontier) <= 505
    assert artefact.operating_point.thresholds in [tuple(row) for row in artefact.frontier.thresholds.tolist()]


def test_the_example_of_the_documentation_is_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "tasks.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    monkeypatch.delitem(_TASKS, "ordinal")
    monkeypatch.setitem(sys.modules, "documented", ModuleType("documented"))
    exec(code, {"__name__": "documented"})
    found = _TASKS["ordinal"]
    outputs = found.reduce(quick(X), N, "quick", 1)
    np.testing.assert_allclose(found.quality(outputs, LEVEL), closeness(SAID["quick"], LEVEL))
    np.testing.assert_array_equal(found.scored("max_prob", outputs).values, -SAID["quick"].spread)


def test_a_rule_s_answers_are_those_of_the_stage_that_is_chosen() -> None:
    """Votes and streaks through the task's own ``same``: levels that round alike."""
    voting = replace(ORDINAL, same=lambda a, b: np.asarray(np.rint(a.level) == np.rint(b.level)))
    levels = np.random.default_rng(1).integers(0, 3, (4, 60)).astype(float) + 0.2 * np.arange(4)[:, None]
    outputs = [Levels(row, np.ones(60)) for row in levels]
    rounded = np.rint(levels)
    found = decide(Rule("agreement"), (), 2, outputs[:3], 4, voting)
    for i in range(60):
        counts = [int((rounded[:3, i] == vote).sum()) for vote in rounded[:3, i]]
        at = max(k for k in range(3) if counts[k] == max(counts))  # of equals the later one
        assert found.outputs.level[i] == levels[at, i]
        assert found.values[i] == pytest.approx(max(counts) / 3)
    streak = decide(Rule("patience"), (), 3, outputs, 4, voting)
    for i in range(60):
        run = next((k for k in range(3) if rounded[3 - k, i] != rounded[2 - k, i]), 3)
        assert streak.values[i] == run
    assert streak.outputs is outputs[3]
