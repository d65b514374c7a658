"""Cascade folders with fitted scores and other rules: there and back, and every way the file can be wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pilotfish.cascade import Artefact, load_artefact, save_artefact
from pilotfish.cascade.score_file import MAX_BYTES
from pilotfish.errors import ArtefactError
from pilotfish.plan import tune
from pilotfish.records import Records, RecordsMeta, Run, from_logits
from pilotfish.records.records import string_ids
from pilotfish.scores import SCORES, compute

N, CLASSES = 400, 5


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    rng = np.random.default_rng(0)
    made, label = Run(tmp_path_factory.mktemp("run")), rng.integers(0, CLASSES, N)
    for k, (name, skill) in enumerate([("a", 1.5), ("b", 2.5), ("c", 4.0)]):
        z = rng.normal(size=(N, CLASSES))
        z[np.arange(N), label] += skill
        meta = RecordsMeta(name, "val", n_classes=CLASSES, costs={"macs": 10.0**k})
        made.write(Records(string_ids(np.arange(N)), label, from_logits(z, top_k=CLASSES), meta))
    return made


@pytest.mark.parametrize("name", [*(name for name, kind in SCORES.items() if kind.fit is not None), "margin", "auto"])
def test_a_score_comes_back_as_it_was(name: str, run: Run, tmp_path: Path) -> None:
    made = tune(run, ["a", "b", "c"], max_drop=0.1, score=name, holdout=0).artefact
    back = load_artefact(save_artefact(made, tmp_path / "cascade"))
    assert [dataclasses.replace(s, parameters={}) for s in back.scores] == [
        dataclasses.replace(s, parameters={}) for s in made.scores
    ]
    outputs = run.read("a").outputs
    assert (compute(back.scores[0], outputs).values == compute(made.scores[0], outputs).values).all()
    assert (tmp_path / "cascade" / "scores.safetensors").exists() == any(s.parameters for s in made.scores)
    assert back.operating_point == made.operating_point


@pytest.mark.parametrize(
    "method", ["pcee", "pcee-ws", "ensemble", "average", "agreement", "patience", "dyce", "msdnet"]
)
def test_a_rule_comes_back_as_it_was(method: str, run: Run, tmp_path: Path) -> None:
    made = tune(run, ["a", "b", "c"], max_drop=0.4, method=method, holdout=0).artefact
    back = load_artefact(save_artefact(made, tmp_path / "cascade"))
    assert (back.rule, back.operating_point, back.policy) == (made.rule, made.operating_point, made.policy)
    assert back.frontier.exit_sets == made.frontier.exit_sets
    assert back.at(max_drop=0.4).operating_point.thresholds == made.at(max_drop=0.4).operating_point.thresholds


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    return save_artefact(tune(run, ["a", "c"], max_drop=0.1, score="learned").artefact, tmp_path / "cascade")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        load_artefact(folder)


def test_parameters_that_are_missing_or_damaged_are_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / "scores.safetensors"
    content = path.read_bytes()
    for damaged in (b"", content[:50], b"\x80\x04\x95" + content[3:], content[:-8]):
        path.write_bytes(damaged)
        refused(folder, r"scores\.safetensors is damaged")
    path.unlink()
    refused(folder, "is not there; copy the whole folder")
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes(content)
    path.symlink_to(outside)
    refused(folder, "leads outside the cascade folder")


def test_a_file_that_is_too_large_is_not_opened(folder: Path) -> None:
    path = folder / "scores.safetensors"
    with path.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)  # sparse: it takes no room
    refused(folder, rf"has {MAX_BYTES + 1} bytes, {MAX_BYTES} at most; refused")
    path.unlink()
    path.mkdir()
    refused(folder, "is not there; copy the whole folder")


def test_parameters_of_another_shape_of_document_are_refused(folder: Path) -> None:
    path = folder / "cascade.json"
    document = json.loads(path.read_text())
    for scores in (None, 3, ["learned"], [{"name": "learned"}], [], document["scores"] * 2):
        path.write_text(json.dumps({**document, "scores": scores}))
        refused(folder, "damaged or incomplete|need 1 scores|of stage 1; tune again")


def test_a_folder_saved_again_without_fitted_scores_keeps_no_parameters(folder: Path, run: Run) -> None:
    assert (folder / "scores.safetensors").exists()
    save_artefact(tune(run, ["a", "c"], max_drop=0.1).artefact, folder)
    assert not (folder / "scores.safetensors").exists()
    assert load_artefact(folder).scores[0].name == "max_prob"


def test_parameters_that_are_no_numbers_are_refused(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "scores.safetensors"
    arrays = load_file(path)
    key = sorted(arrays)[0]
    save_file({**arrays, key: np.full_like(arrays[key], np.nan)}, path)
    refused(folder, "is not finite float64")
    save_file({**arrays, key: arrays[key].astype(np.float32)}, path)
    refused(folder, "is not finite float64")
    save_file({k: v for k, v in arrays.items() if k != key}, path)
    refused(folder, "of stage 0; tune again")


def test_parameters_that_do_not_fit_together_are_refused_on_loading(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / "scores.safetensors"
    arrays = load_file(path)
    for key, array in arrays.items():
        if array.size > 1:  # another shape than the score was fitted with
            save_file({**arrays, key: np.ones((3, 2))}, path)
            refused(folder, "parameters of score learned of stage 0 (do not fit|give no scores); tune again")
    save_file(arrays, path)
    document = json.loads((folder / "cascade.json").read_text())
    document["scores"][0]["parameters"] = document["scores"][0]["parameters"][:1]
    (folder / "cascade.json").write_text(json.dumps(document))
    refused(folder, "parameters of score learned of stage 0 do not fit; tune again")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "pickle"}, "unknown score 'pickle'"),
        ({"scale": "degrees"}, r"scores\[0\]\.scale is 'degrees', expected one of log_odds"),
        ({"parameters": []}, "parameters of score learned are damaged"),
        ({"top_k": 10**9}, r"scores\[0\]\.top_k is 1000000000, expected a whole number from 1 to 10"),
    ],
)
def test_entries_that_make_no_sense_are_refused(change: dict[str, object], message: str, folder: Path) -> None:
    path = folder / "cascade.json"
    document = json.loads(path.read_text())
    document["scores"][0] |= change
    path.write_text(json.dumps(document))
    refused(folder, message)


def test_a_rule_that_is_none_is_refused(folder: Path) -> None:
    path = folder / "cascade.json"
    document = json.loads(path.read_text())
    for rule in ("score", {"kind": "dice"}, {"kind": "ensemble", "weight": 2.0}, {"kind": "score", "code": "x"}):
        path.write_text(json.dumps({**document, "rule": rule}))
        refused(folder, "damaged or incomplete")


def test_folders_of_version_1_are_read(run: Run, tmp_path: Path) -> None:
    made = tune(run, ["a", "c"], max_drop=0.1).artefact
    path = save_artefact(made, tmp_path / "cascade") / "cascade.json"
    document = json.loads(path.read_text())
    document |= {"schema_version": 1, "scale": "log_odds"}
    for key in ("scores", "rule"):
        del document[key]
    del document["operating_point"]["exit_sets"]
    path.write_text(json.dumps(document))
    back = load_artefact(tmp_path / "cascade")
    assert (back.operating_point, back.rule) == (made.operating_point, made.rule)
    assert [(s.name, s.scale) for s in back.scores] == [("max_prob", "log_odds")]


def test_a_guarantee_does_not_move_with_the_operating_point(run: Run, tmp_path: Path) -> None:
    made: Artefact = tune(run, ["a", "c"], max_drop=0.15, guarantee=0.9).artefact
    assert made.guarantee is not None
    made = load_artefact(save_artefact(made, tmp_path / "cascade"))
    frontier = made.frontier.thresholds[:, 0].tolist()
    kept = moved = 0
    for drop in made.frontier.drop.tolist():
        other = made.at(max_drop=drop)
        assert other.operating_point.thresholds[0] in frontier
        if other.operating_point.thresholds == made.operating_point.thresholds:
            assert other.guarantee == made.guarantee
            kept += 1
        else:
            assert other.guarantee is None
            moved += 1
    assert moved > 0
    assert kept <= 1
    assert load_artefact(save_artefact(made.at(max_cost="1000%"), tmp_path / "moved")).guarantee is None


def test_moving_to_the_same_threshold_of_other_exit_sets_is_moving(run: Run) -> None:
    made = tune(run, ["a", "b", "c"], max_drop=0.4, method="pcee", holdout=0).artefact
    made = dataclasses.replace(made, guarantee={"confidence": 0.9})
    sets = made.operating_point.exit_sets
    assert sets is not None, "the case says something only where a diagram falls"
    same = made.at(max_drop=0.4)
    assert (same.guarantee is not None) == (same.operating_point.exit_sets == sets)
    widened = dataclasses.replace(made.operating_point, exit_sets=tuple((b[0],) for b in sets))
    other = dataclasses.replace(made, operating_point=widened).at(max_drop=0.4)
    assert other.guarantee is None
