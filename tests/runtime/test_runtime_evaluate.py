"""``evaluate``: a cascade over new samples, its base over what exits, and whether the promise still holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pilotfish
from pilotfish.cascade import Artefact, Limits, load_artefact, save_artefact
from pilotfish.errors import DataError, RecordsError, UsageError
from pilotfish.plan.verdict import Evaluation
from support.process import command, refusal

Pair = Any  # of conftest.py


def data(pair: Pair, name: str, rows: np.ndarray, **changed: Any) -> str:
    """Some of the pair's samples, as a file."""
    with np.load(pair.folder / "data.npz") as file:
        arrays = {"x": file["x"][rows], "label": file["label"][rows], "class_names": file["class_names"]}
    arrays |= {key: value for key, value in changed.items() if value is not None}
    for key in [key for key, value in changed.items() if value is None]:
        del arrays[key]
    np.savez(pair.folder / name, **arrays)
    return f"arrays:{pair.folder / name}"


def evaluate(pair: Pair, spec: str, change: Callable[[Artefact], Artefact] = lambda artefact: artefact, **options: Any):
    folder = pair.cascade
    save_artefact(change(load_artefact(folder)), folder)
    return pilotfish.evaluate(folder, spec, allow_python=pair.allowed, workers=1, **options)


def promising(kind: str, target: float) -> Callable[[Artefact], Artefact]:
    """The cascade with a guarantee."""
    given = {"kind": kind, "target": target, "confidence": 0.9, "bound": target, "n": 300}
    return lambda artefact: replace(artefact, guarantee=given)


def test_running_it_finds_what_records_say(pair: Pair) -> None:
    ran = evaluate(pair, f"arrays:{pair.folder}/data.npz")
    recorded = pilotfish.evaluate(pair.folder / "cascade", run=pair.folder / "run")
    assert ran.found == recorded.found == pair.tuning.calibration
    assert (ran.verdict, ran.p, ran.bound) == (recorded.verdict, recorded.p, recorded.bound)
    assert ran.promised == pair.tuning.calibration
    assert ran.limit == pair.tuning.calibration.drop_interval[1]  # of what tune printed
    assert (ran.kind, ran.reference, ran.stages) == ("drop", "label", pair.stages)
    assert (ran.ms or 0) > 0
    assert recorded.ms is None
    assert any("data that the cascade was tuned on" in note for note in ran.notes)
    for found in (ran, recorded):
        assert not any(note.startswith("shift") for note in found.notes)


def test_a_sample_reaches_each_model_once(pair: Pair) -> None:
    seen = {"saver": 0, "base": 0}
    for name in seen:
        model = getattr(pair.module, name)

        def counted(batch: np.ndarray, name: str = name, model: Any = model) -> np.ndarray:
            seen[name] += len(batch)
            return np.asarray(model(batch))

        counted.preprocessing, counted.weights_hash = model.preprocessing, model.weights_hash  # type: ignore[attr-defined]
        setattr(pair.module, name, counted)
    loaded = pilotfish.Cascade.load(pair.cascade, allow_python=pair.allowed)
    seen.update(saver=0, base=0)
    found = pilotfish.evaluate(loaded, data(pair, "new.npz", np.arange(200)))
    assert seen == {"saver": 200, "base": 200}
    seen.update(saver=0, base=0)
    found = pilotfish.evaluate(loaded, data(pair, "new.npz", np.arange(200), label=None), audit=0.25)
    reached = round(200 * found.found.exit_ratio[-1])
    assert seen["saver"] == 200
    assert reached < seen["base"] < reached + 0.4 * (200 - reached)
    assert found.n == 50


def test_without_labels_disagreement_bounds_the_drop(pair: Pair) -> None:
    unlabelled = f"arrays:{pair.folder}/unlabelled.npz"
    tight, wide = (evaluate(pair, unlabelled, promising("drop", limit)) for limit in (0.001, 0.1))
    assert (tight.verdict, wide.verdict) == ("cannot tell", "holds")
    for found in (tight, wide):
        assert (found.reference, found.p, found.kind) == ("base", None, "drop")
        assert found.found.base_value == 1.0
    assert any("give the samples labels" in note for note in tight.notes)
    assert evaluate(pair, unlabelled, promising("agreement", 0.001)).verdict == "broken"
    assert evaluate(pair, unlabelled, promising("agreement", 0.1)).verdict == "holds"
    few = evaluate(pair, unlabelled, promising("drop", 0.05), audit=0.05)
    assert (few.verdict, few.n) == ("cannot tell", 15)
    assert any(note.startswith("a larger share would tell: --audit ") for note in few.notes)
    least = evaluate(pair, unlabelled, promising("accuracy", 0.5))
    assert (least.verdict, least.p, least.bound) == ("cannot tell", None, None)
    assert any("only labels tell it" in note for note in least.notes)


def test_an_agreement_is_judged_as_such_where_there_are_labels(pair: Pair) -> None:
    found = evaluate(pair, f"arrays:{pair.folder}/data.npz", promising("agreement", 0.1))
    assert (found.verdict, found.reference, found.found.base_value) == ("holds", "base", 1.0)
    assert any("labels are not used" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (promising("drop", 0.2), "holds"),
        (promising("drop", -0.2), "broken"),
        (promising("accuracy", 0.6), "holds"),
        (promising("accuracy", 0.95), "broken"),
        (promising("cost", 1.0), "cannot tell"),  # its stages have no costs
    ],
)
def test_a_guarantee_s_target_is_the_limit(change: Any, verdict: str, pair: Pair) -> None:
    found = evaluate(pair, data(pair, "new.npz", np.arange(300)), change)
    assert found.verdict == verdict
    assert found.headline.startswith(verdict.upper())


def test_exit_code_three_is_broken_and_the_document_is_there(pair: Pair) -> None:
    save_artefact(promising("accuracy", 0.95)(load_artefact(pair.cascade)), pair.folder / "cascade")
    allow = [text for code in pair.allowed for text in ("--allow-python", code)]
    arguments = ("evaluate", "cascade", "--data", data(pair, "new.npz", np.arange(300)), *allow)
    ended = command(pair.folder, *arguments, "--json")
    assert ended.returncode == 3
    document = json.loads(ended.stdout)
    assert {"verdict", "n", "promised", "found", "limit", "kind", "p", "reference", "notes"} <= document.keys()
    assert (document["verdict"], document["limit"], document["kind"]) == ("broken", 0.95, "accuracy")
    assert document["found"].keys() == document["promised"].keys()
    assert "drop_interval" in document["found"]
    shown = command(pair.folder, *arguments)
    assert shown.returncode == 3
    assert shown.stdout.startswith("BROKEN: accuracy ")
    assert all(f"note: {note}"[:60] in shown.stderr for note in document["notes"])
    assert command(pair.folder, "evaluate", "cascade", "--run", "run").returncode == 3


def test_copies_count_once_and_what_cannot_be_answered_is_named(pair: Pair) -> None:
    rows = np.r_[np.arange(100), np.arange(40)]
    once = evaluate(pair, data(pair, "once.npz", np.arange(100)))
    twice = evaluate(pair, data(pair, "twice.npz", rows))
    assert (twice.n, twice.found.exit_ratio) == (100, once.found.exit_ratio)
    assert any("cop" in note for note in twice.notes)
    audited = evaluate(pair, data(pair, "twice.npz", rows), audit=0.5)
    assert audited.found.exit_ratio == once.found.exit_ratio


def test_samples_without_a_label_count_for_exit_ratio_only(pair: Pair) -> None:
    label = np.load(pair.folder / "data.npz")["label"].copy()
    label[:100] = -1
    found = evaluate(pair, data(pair, "part.npz", np.arange(300), label=label))
    assert (found.n, found.reference) == (200, "label")
    assert found.found.exit_ratio == pair.tuning.calibration.exit_ratio
    assert any(note.startswith("100 samples without a label count") for note in found.notes)
    audited = evaluate(pair, data(pair, "part.npz", np.arange(300), label=label), audit=0.3)
    assert (audited.n, audited.reference) == (60, "label")


def test_a_base_at_chance_says_nothing(pair: Pair) -> None:
    label = (np.load(pair.folder / "data.npz")["label"] + 1) % 5
    found = evaluate(pair, data(pair, "moved.npz", np.arange(300), label=label))
    assert found.verdict == "cannot tell"
    assert any("no better than chance" in note for note in found.notes)


@pytest.mark.parametrize("darker", [2, 3, 5])
def test_other_inputs_are_a_shift_without_labels(darker: int, pair: Pair) -> None:
    x = np.load(pair.folder / "data.npz")["x"] // darker
    found = evaluate(pair, data(pair, "dark.npz", np.arange(300), x=x, label=None))
    assert any(note.startswith("shift: the scores of") for note in found.notes)


def test_groups_are_counted(pair: Pair) -> None:
    ids = np.array([f"clip{i // 3}-{i}" for i in range(300)])
    found = evaluate(pair, data(pair, "clips.npz", np.arange(300), id=ids), group_by="^(clip[0-9]+)")
    assert (found.n, found.found.groups) == (300, 100)
    assert evaluate(pair, data(pair, "clips.npz", np.arange(300), id=ids), group_by="none").found.groups is None


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({}, UsageError, "give data"),
        ({"spec": "arrays:data.npz", "run": "run"}, UsageError, "one of the two"),
        ({"run": "run", "audit": 0.5}, UsageError, "audit is a share of new data"),
        ({"spec": "arrays:data.npz", "audit": 0.5, "seed": -1}, UsageError, "a seed is a whole number of at least 0"),
        ({"spec": "arrays:data.npz", "audit": 0.0}, UsageError, "audit is a share"),
        ({"spec": "arrays:data.npz", "audit": 1.5}, UsageError, "audit is a share"),
        ({"spec": "arrays:none.npz"}, DataError, "none.npz"),
        ({"run": "run", "split": "test"}, RecordsError, "split"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: dict[str, Any], error: type[Exception], said: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pair.folder)
    given = dict(options)
    with pytest.raises(error, match=said):
        pilotfish.evaluate(pair.cascade, given.pop("spec", None), allow_python=pair.allowed, **given)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"run": "run", "workers": 2}, "workers changes nothing with a run"),
        ({"run": "run", "device": "cuda", "seed": 3}, "device, seed change nothing with a run"),
        ({"spec": "arrays:data.npz", "split": "test"}, "split changes nothing without a run"),
        ({"spec": "arrays:data.npz", "seed": 3}, "seed changes nothing without audit"),
    ],
)
def test_options_that_change_nothing_are_said(
    options: dict[str, Any], said: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pair.folder)
    given = dict(options)
    found = pilotfish.evaluate(pair.cascade, given.pop("spec", None), allow_python=pair.allowed, **given)
    assert found.notes[0] == said


@pytest.mark.parametrize(("limit", "verdict"), [(1e-6, "cannot tell"), (1e6, "holds")])
def test_requests_are_timed_where_their_p95_is_limited(limit: float, verdict: str, pair: Pair) -> None:
    def limited(artefact: Artefact) -> Artefact:
        return replace(promising("drop", 0.2)(artefact), limits=Limits(latency_p95=limit))

    found = evaluate(pair, data(pair, "new.npz", np.arange(300)), limited)
    assert found.verdict == verdict
    low, high = found.latency_interval or (0.0, 0.0)
    assert 0 < low <= (found.found.latency_p95 or 0) <= high
    shown = command(pair.folder, "evaluate", "cascade", "--run", "run")
    assert f"p95 of single requests was not judged, its limit {limit:g} ms" in shown.stdout


def test_records_of_another_model_are_refused(pair: Pair) -> None:
    artefact = load_artefact(pair.cascade)
    stages = (replace(artefact.stages[0], weights_hash="0" * 64), *artefact.stages[1:])
    save_artefact(replace(artefact, stages=stages), pair.folder / "cascade")
    said = refusal(pair.folder, "evaluate", "cascade", "--run", "run")
    assert "other weights" in said


@pytest.mark.parametrize("arguments", [(), ("--data", "a", "--run", "b"), ("--data", "a", "--audit", "many")])
def test_the_command_needs_samples_or_records(arguments: tuple[str, ...], tmp_path: Path) -> None:
    refusal(tmp_path, "evaluate", "cascade", *arguments, code=2)


def test_the_result_is_a_plain_document(pair: Pair) -> None:
    found = evaluate(pair, data(pair, "new.npz", np.arange(300)))
    assert isinstance(found, Evaluation)
    assert json.loads(json.dumps(found.to_json()))["verdict"] == found.verdict


def test_a_photo_that_cannot_be_read_is_left_out_and_named(pair: Pair, photos: list[Path]) -> None:
    photos[3].write_bytes(b"no photo")
    found = evaluate(pair, f"folder:{photos[0].parent}")
    assert (found.n, found.reference) == (19, "base")
    assert any("1 of 20 samples could not be answered" in note and photos[3].name in note for note in found.notes)
    assert found.unanswered == 1
    for photo in photos[:10]:
        photo.write_bytes(b"no photo")
    half = evaluate(pair, f"folder:{photos[0].parent}", promising("drop", 0.4))
    assert (half.verdict, half.n, half.unanswered) == ("cannot tell", 10, 10)
    assert "and 10 more could not be answered" in half.headline
    for photo in photos:
        photo.write_bytes(b"no photo")
    with pytest.raises(DataError, match="none of the 20 samples could be answered"):
        evaluate(pair, f"folder:{photos[0].parent}")


@pytest.mark.parametrize(
    ("method", "drop"),
    [("sweep", "3%"), ("ensemble", "3%"), ("average", "20%"), ("agreement", "20%"), ("patience", "20%")],
)
def test_three_stages_and_every_rule_are_judged_as_they_run(method: str, drop: str, pair: Pair) -> None:
    third = f"python:{pair.module.__name__}:third"
    pair.module.third = lambda batch: pair.module.saver(batch) * 0.5 + pair.module.base(batch) * 0.5
    pair.module.third.preprocessing, pair.module.third.weights_hash = pair.module.base.preprocessing, "t" * 64
    pilotfish.record(pair.data, third, pair.run, timing=False, batch_size=16, workers=1)
    stages = [pair.stages[0], third, pair.stages[1]] if method != "ensemble" else list(pair.stages)
    folder = pilotfish.tune(pair.run, stages, method=method, max_drop=drop).save(pair.folder / "cascade")
    ran = pilotfish.evaluate(folder, pair.data, allow_python=pair.allowed, workers=1)
    recorded = pilotfish.evaluate(folder, run=pair.run)
    assert ran.found == recorded.found
    assert (ran.verdict, ran.p) == (recorded.verdict, recorded.p)
    assert sum(ran.found.exit_ratio) == pytest.approx(1)
    answers = pilotfish.Cascade.load(folder, allow_python=pair.allowed).predict(pair.data)
    shares = np.bincount([answer.stage for answer in answers], minlength=len(stages)) / len(answers)
    assert ran.found.exit_ratio == pytest.approx(shares)
