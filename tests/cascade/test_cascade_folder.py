"""Cascade folders: what is saved is what is loaded, and what cannot be trusted is refused."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish import tune
from pilotfish.cascade import Artefact, OperatingPoint, Stage, load_artefact, save_artefact, weights_path
from pilotfish.cascade.folder import from_document, to_document
from pilotfish.errors import ArtefactError, PilotfishError
from pilotfish.scores import SCORES, ExitScore
from pilotfish.tasks import find_task
from support.errors import assert_one_line
from support.pairs import Pair
from support.runs import write_pair


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    rng = np.random.default_rng(0)
    pair = Pair(rng.random(60).tolist(), (rng.random(60) < 0.8).tolist(), (rng.random(60) < 0.9).tolist())
    made = tune(write_pair(tmp_path / "run", pair), ["saver", "base"], max_drop=0.05).artefact
    rich = Stage(
        "timm:a/b.c",
        spec="timm:a",
        weights_hash="ab",
        preprocessing={"size": [224, 224], "mean": [0.5]},
        preprocessing_hash="cd",
        n_classes=2,
        class_names=("crane", "Kranich ü 鶴"),
        costs={"macs": 1.0, "ms@cpu-b8": 0.25},
        weights_file="weights/0.safetensors",
        records_created="2026-01-01T00:00:00+00:00",
    )
    return dataclasses.replace(made, stages=(rich, made.stages[1]), guarantee={"kind": "drop", "target": 0.01})


def documents(artefact: Artefact) -> dict[str, Any]:
    return json.loads(json.dumps(to_document(artefact), allow_nan=False))  # type: ignore[no-any-return]


def test_a_folder_comes_back(tmp_path: Path, artefact: Artefact) -> None:
    folder = save_artefact(artefact, tmp_path / "cascade")
    back = load_artefact(folder)
    assert to_document(back) == to_document(artefact)
    assert back.stages == artefact.stages
    assert back.operating_point == artefact.operating_point
    assert [p.name for p in folder.iterdir()] == ["cascade.json"]


@pytest.mark.parametrize("threshold", [math.inf, -math.inf, 0.1 + 0.2, 5e-324, -1.7e308])
def test_any_threshold_comes_back_exactly(tmp_path: Path, artefact: Artefact, threshold: float) -> None:
    made = dataclasses.replace(artefact, operating_point=OperatingPoint((threshold,)))
    assert load_artefact(save_artefact(made, tmp_path / "c")).operating_point == made.operating_point
    assert b"Infinity" not in (tmp_path / "c" / "cascade.json").read_bytes()


def test_saving_again_replaces(tmp_path: Path, artefact: Artefact) -> None:
    save_artefact(artefact, tmp_path / "c")
    moved = artefact.at(max_cost="90%")
    save_artefact(moved, tmp_path / "c")
    assert load_artefact(tmp_path / "c").operating_point == moved.operating_point


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"thresholds": [0.8]}, "scores are compared with .* for a threshold of 0.8; leave decide_at out"),
        ({"decide_at": [0.1]}, "scores are compared with 0.1 .decide_at. for a threshold of 0.7"),
        ({"decide_at": [0.1, 0.2]}, "decide_at does not have a number for each threshold"),
        ({"decide_at": ["high"]}, "decide_at"),
    ],
)
def test_a_threshold_that_was_changed_by_hand_is_refused(
    tmp_path: Path, artefact: Artefact, changed: dict[str, list[object]], said: str
) -> None:
    made = dataclasses.replace(artefact, operating_point=OperatingPoint((0.7,)))
    file = save_artefact(made, tmp_path / "c") / "cascade.json"
    document = json.loads(file.read_text())
    document["operating_point"] |= changed
    file.write_text(json.dumps(document))
    with pytest.raises(ArtefactError, match=said):
        load_artefact(file.parent)


def test_what_scores_are_compared_with_is_kept_and_made_where_it_is_not(tmp_path: Path, artefact: Artefact) -> None:
    made = dataclasses.replace(artefact, operating_point=OperatingPoint((0.7,)))
    file = save_artefact(made, tmp_path / "c") / "cascade.json"
    document = json.loads(file.read_text())
    [kept] = document["operating_point"]["decide_at"]
    assert kept == np.nextafter(np.float32(0.7), np.float32(0))
    document["operating_point"]["decide_at"] = [0.699999]  # of a version with another step
    file.write_text(json.dumps(document))
    assert load_artefact(file.parent).operating_point.compared == ((0.699999,),)
    del document["operating_point"]["decide_at"]  # of an older version
    file.write_text(json.dumps(document))
    assert load_artefact(file.parent).operating_point.compared == ((kept,),)


def test_thresholds_are_shown_as_people_read_them(artefact: Artefact) -> None:
    score = ExitScore(SCORES["max_prob"], "log_odds")
    made = dataclasses.replace(artefact, scores=(score,), operating_point=OperatingPoint((math.log(9),)))
    assert made.shown_thresholds == pytest.approx((0.9,))


def test_thresholds_that_do_not_fit_the_stages_are_refused(artefact: Artefact) -> None:
    with pytest.raises(ArtefactError, match="2 stages need 1 threshold, found"):
        dataclasses.replace(artefact, operating_point=OperatingPoint((0.1, 0.2)))


JUNK: list[Any] = [None, True, 7, -1.5, "x", "", [], {}, [None], {"x": 1}, float("nan"), "../../etc/passwd", 10**400]


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = (
        list(node.items()) if isinstance(node, dict) else list(enumerate(node[:2])) if isinstance(node, list) else []
    )
    return [path] * bool(path) + [p for key, child in items for p in places(child, (*path, key))]


def test_no_value_of_the_wrong_type_breaks_the_loader(artefact: Artefact) -> None:
    """Every entry replaced by junk, and every one removed: an ArtefactError, or a cascade that can be used."""
    document, refused, tried = documents(artefact), 0, 0
    for path in places(document):
        for junk in [*JUNK, "removed"]:
            broken = copy.deepcopy(document)
            parent = broken
            for key in path[:-1]:
                parent = parent[key]
            if junk == "removed":
                del parent[path[-1]]
            else:
                parent[path[-1]] = junk
            tried += 1
            try:
                made = from_document(broken, "cascade.json")
            except ArtefactError as error:
                refused += 1
                assert_one_line(error, "cascade.json")
                continue
            to_document(made)
            assert len(made.shown_thresholds) == 1
            for budget in ({"max_drop": 0.5}, {"min_accuracy": 0.1}, {"max_cost": "99%"}):
                with contextlib.suppress(PilotfishError):
                    made.at(**budget)  # type: ignore[arg-type]
    assert tried > 900
    assert refused > tried / 2


def write(folder: Path, text: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "cascade.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
        ("[]", "expected a JSON object, found list"),
        ('"x"', "expected a JSON object, found str"),
        ("{}", "schema version None, this Pilotfish reads version 2"),
        ('{"schema_version": 3}', "schema version 3"),
        ('{"schema_version": 2}', "damaged or incomplete"),
        ('{"schema_version": "1"}', "schema version '1'"),
        ('{"schema_version": 1}', "damaged or incomplete"),
        ('{"schema_version": 1, "schema_version": 1}', "a key stands twice"),
        ('{"schema_version": 1, "a": {"b": 1, "b": 2}}', "a key stands twice"),
        ('{"schema_version": NaN}', "NaN is not JSON"),
        ('{"schema_version": 1, "x": -Infinity}', "-Infinity is not JSON"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "not valid JSON"),
        ("[" * 1_000_000, "not valid JSON"),
        ('{"schema_version": ' + "9" * 5000 + "}", "not valid JSON"),
    ],
)
def test_corrupt_files_are_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message) as caught:
        load_artefact(write(tmp_path / "c", text))
    assert "cascade.json" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_half_written_file_is_refused(tmp_path: Path, artefact: Artefact) -> None:
    text = (save_artefact(artefact, tmp_path / "c") / "cascade.json").read_bytes()
    for end in range(0, len(text) - 2, 101):
        with pytest.raises(ArtefactError):
            load_artefact(write(tmp_path / "c", text[:end]))


def test_an_oversized_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "c", "{}")
    with (folder / "cascade.json").open("r+b") as file:
        file.truncate(48 * 2**20 + 1)  # a hole: takes no room on the disk
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ArtefactError, match="bytes of JSON, more than the 50,331,648 allowed"):
        load_artefact(folder)


@pytest.mark.parametrize("made", ["nothing", "file", "folder"])
def test_what_is_no_cascade_folder_is_named(tmp_path: Path, made: str) -> None:
    path = tmp_path / "c"
    if made == "file":
        path.write_text("x")
    elif made == "folder":
        path.mkdir()
    with pytest.raises(ArtefactError, match=r"expected a cascade folder .* found (nothing|a file|a folder without)"):
        load_artefact(path)


@pytest.mark.parametrize(
    "file", ["../x", "weights/../../x", "/etc/passwd", "..\\x", "C:\\x", "weights/\0x", "..", "a/.."]
)
def test_weights_outside_the_folder_are_refused(artefact: Artefact, file: str) -> None:
    document = documents(artefact)
    document["stages"][0]["weights_file"] = file
    with pytest.raises(ArtefactError, match="lies outside the cascade folder; refused"):
        from_document(document, "cascade.json")


def test_links_that_lead_outside_are_refused(tmp_path: Path) -> None:
    folder, outside = tmp_path / "c", tmp_path / "outside"
    (folder / "weights").mkdir(parents=True)
    outside.mkdir()
    (outside / "0.safetensors").write_bytes(b"secret")
    (folder / "weights" / "0.safetensors").symlink_to(outside / "0.safetensors")
    (folder / "more").symlink_to(outside)
    for file in ("weights/0.safetensors", "more/0.safetensors"):
        with pytest.raises(ArtefactError, match="leads outside the cascade folder; refused"):
            weights_path(folder, file)
    (folder / "weights" / "1.safetensors").write_bytes(b"own")
    (folder / "weights" / "2.safetensors").symlink_to("1.safetensors")
    for file in ("weights/1.safetensors", "weights/2.safetensors"):
        found = weights_path(folder, file)
        assert found is not None
        assert found.read_bytes() == b"own"
    assert weights_path(folder, None) is None
    for file in ("weights/3.safetensors", "weights", ""):
        with pytest.raises(ArtefactError, match="are missing"):
            weights_path(folder, file)


def test_a_cascade_with_an_adjustment_of_another_task_or_of_one_stage_only_is_refused(artefact: Artefact) -> None:
    document = to_document(artefact)
    document["stages"][0]["adjustment"] = {"threshold": [0.3]}
    with pytest.raises(ArtefactError) as caught:
        from_document(document, "cascade.json")
    assert_one_line(caught.value, "cascade.json", "task classes has no adjustment", "pilotfish tune")
    for adjusted in ([0], [1], [0, 1]):
        fitted = {"threshold": (0.3,)}
        stages = tuple(
            dataclasses.replace(stage, adjustment=fitted if k in adjusted else {})
            for k, stage in enumerate(artefact.stages)
        )
        made = dataclasses.replace(artefact, stages=stages, task=find_task("labels"))
        if len(adjusted) == 2:
            made.validate()
            continue
        with pytest.raises(ValueError, match=r"are adjusted and those of .* are not"):
            made.validate()
        own = dataclasses.replace(made, origin={**made.origin, "reference": "base"})  # its base is what is right
        if adjusted == [0]:
            own.validate()
            continue
        with pytest.raises(ValueError, match=r"are adjusted and those of .* are not"):
            own.validate()
