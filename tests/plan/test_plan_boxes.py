"""Cascades of detectors, from COCO's results to a cascade: sweeps, scores chosen by mAP, limits, agreement."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import pilotfish
from pilotfish.cascade import Budget, Rule
from pilotfish.plan.evaluate import blocks_of, measure
from pilotfish.plan.evidence import auto_score, evidence, exits_of_metric, plain_stage_scores
from pilotfish.plan.path import route, threshold_path
from pilotfish.plan.trace import Trace, make_trace
from pilotfish.records import Records, RecordsMeta, Run, Table, align, import_file
from pilotfish.records.records import string_ids
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks import BOXES
from pilotfish.tasks.box_matching import Boxes, TrueBoxes, match
from pilotfish.tasks.mean_precision import mean_precision
from support.boxes import instances, made_boxes, made_truth, mixed, results
from support.process import command

N = 160


def detector(name: str, seed: int, skill: float, truth: TrueBoxes, labels: bool = True) -> Records:
    boxes = made_boxes(truth, seed, skill, ties=False)
    ids = string_ids([str(i) for i in range(len(truth))])
    meta = RecordsMeta(name, "val", costs={"macs": 10 * skill**4}, task="boxes")
    return Records(ids, truth if labels else BOXES.unknown(len(truth)), boxes, meta)


def pair(labels: bool = True) -> Table:
    truth = made_truth(8, images=N)
    return align([detector("small", 1, 0.6, truth, labels)], detector("large", 2, 0.95, truth, labels))


def traced(table: Table, score: str = "mean_score") -> Trace:
    stages = ("small", "large")
    return make_trace(table, stages, Rule(), plain_stage_scores(table, stages, score), None, "macs")


@pytest.mark.parametrize("metric", ["map", "ap50"])
def test_a_metric_is_the_same_by_whatever_way_it_was_asked_for(metric: str) -> None:
    by_image = BOXES.by_metric("image_f1")
    assert by_image.quality is not BOXES.quality
    again = by_image.by_metric(metric)
    assert again is BOXES.by_metric(metric)
    assert again.quality is BOXES.quality


@pytest.mark.parametrize("metric", ["map", "ap50"])
def test_the_sweep_of_a_pair_is_every_threshold_by_itself(metric: str) -> None:
    table = dataclasses.replace(pair(), task=BOXES.by_metric(metric))
    trace = traced(table)
    path = threshold_path(np.unique(trace.values[0])[::-1][:, None])
    found = measure(trace, path)
    ious = (0.5,) if metric == "ap50" else tuple(np.linspace(0.5, 0.95, 10))
    parts = [table.outputs["small"], table.outputs["large"]]
    for i in range(0, len(path), 9):
        answered_by = route(trace, path.policy(i))
        whole = match(mixed(parts, answered_by), table.reference, ious)
        assert found.value[i] == pytest.approx(mean_precision((whole,), np.zeros(N, np.int64)), abs=1e-12)


@pytest.mark.parametrize("alone", [True, False])
def test_a_jackknife_leaves_images_out_with_their_truth(alone: bool) -> None:
    trace = traced(pair())
    answered_by = None if alone else route(trace, ((float(np.median(trace.values[0])),),))
    one = blocks_of(trace, 6).replicates(answered_by)
    slow = dataclasses.replace(trace, metric=dataclasses.replace(trace.metric, along=None))
    assert blocks_of(slow, 6).replicates(answered_by) == pytest.approx(one, abs=1e-12)


def test_auto_takes_the_score_under_which_more_exits_by_the_metric() -> None:
    table = pair()
    boxes, rng = table.outputs["small"], np.random.default_rng(0)
    blurred = Ragged(rng.permutation(boxes.score.values), boxes.score.offsets)  # its scores say nothing, its counts do
    table = dataclasses.replace(table, outputs={**table.outputs, "small": Boxes(boxes.box, blurred, boxes.label)})
    rows = np.arange(N)
    exits = exits_of_metric(table, "small", "large", rows)
    nobody = np.full(N, np.nan)
    assert not exits(nobody, 0.01).any()
    base_alone = exits(np.zeros(N), 1.0)
    assert base_alone[0] == 1
    trace = traced(table)
    values = trace.values[0]
    share = []
    for limit in (0.02, 0.04, 0.08):
        cuts = np.sort(values)[::-1][np.unique(np.linspace(0, N - 1, 32).astype(int))]
        found = measure(trace, threshold_path(cuts[:, None]))
        share.append(found.exit_ratio[found.drop <= limit, 0].max())
    assert exits(values, 0.04)[0] == pytest.approx(np.mean(share))
    score, choice = auto_score(
        evidence(table, "small", "large", rows), Budget("max_drop", 0.04), task=BOXES, exits=exits
    )
    assert set(choice.advantage) == {"learned"}
    lead, error = choice.advantage["learned"]
    assert choice.usual == "mean_score"
    assert score.score.name == choice.chosen == ("learned" if lead > error else "mean_score")


def test_a_base_without_labels_is_what_is_right() -> None:
    table = pair(labels=False)
    assert table.reference_kind == "base"
    assert table.value("large") == pytest.approx(1)
    assert 0 < table.value("small") < 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Instances, and results of two detectors."""
    folder, truth = tmp_path_factory.mktemp("boxes"), made_truth(3, images=N)
    (folder / "instances.json").write_text(json.dumps(instances(truth)))
    for name, skill in (("small", 0.7), ("large", 0.9)):
        (folder / f"{name}.json").write_text(json.dumps(results(made_boxes(truth, 5, skill, ties=False))))
    return folder


def test_two_files_of_results_become_a_cascade(folder: Path) -> None:
    for name, macs in (("small", 1e9), ("large", 9e9)):
        options = ("--labels", "instances.json", "--run", "run", "--model", name, "--macs", macs, "--json")
        done = command(folder, "import", f"{name}.json", *options)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["n"] == N
    ranked = command(folder, "savers", "run", "--base", "large", "--max-drop", "2%", "--json")
    assert ranked.returncode == 0, ranked.stderr
    found = json.loads(ranked.stdout)
    assert [one["saver"] for one in found["savers"]] == ["small"]
    done = command(
        folder,
        "tune",
        "run",
        "--stages",
        "small,large",
        "--max-drop",
        "3%",
        "--score",
        "auto",
        "--out",
        "made",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    tuned = json.loads(done.stdout)
    assert tuned["calibration"]["metric"] == "map"
    assert tuned["calibration"]["drop"] <= 0.03
    assert "mAP" in done.stderr
    document = json.loads((folder / "made" / "cascade.json").read_text())
    assert document["task"] == "boxes"
    assert [sorted(stage["adjustment"]) for stage in document["stages"]] == [["range", "score", "share"]] * 2
    refused = command(folder, "tune", "run", "--stages", "small,large", "--max-drop", "3%", "--metric", "miou")
    assert refused.returncode == 1
    assert "unknown metric 'miou' of task boxes" in refused.stderr


@pytest.mark.parametrize("metric", ["ap50", "image_f1"])
def test_other_metrics_by_name(folder: Path, metric: str) -> None:
    run = Run(folder / metric)
    for name, macs in (("small", 1.0), ("large", 9.0)):
        run.write(import_file(folder / f"{name}.json", name, costs={"macs": macs}, labels=folder / "instances.json"))
    found = pilotfish.tune(run, ["small", "large"], max_drop=0.05, metric=metric)
    assert found.calibration.metric == metric
    assert found.calibration.drop <= 0.05


def test_a_million_boxes_are_no_trouble() -> None:
    rng, m = np.random.default_rng(0), 1_000_000
    truth = made_truth(0, images=50)
    counts = np.full(50, m // 50)
    lists = (rng.uniform(0, 300, (m, 4)), rng.uniform(size=m), rng.choice([1, 3], m))
    found = match(Boxes(*(Ragged.by_counts(values, counts) for values in lists)), truth)
    assert found.score.counts.max() <= 200
    assert mean_precision((found,), np.zeros(50, np.int64)) < 0.1
