"""COCO's results and instances as records, sound ones and others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import PilotfishError, RecordsError, UsageError
from pilotfish.records import Run, import_file, read_table
from support.boxes import instances, made_boxes, made_truth, oracle, results


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """Results of 12 images, the last of them without truth, and their instances."""
    truth = made_truth(0)
    return (
        written(tmp_path / "dets.json", results(made_boxes(truth, 0))),
        written(tmp_path / "truth.json", instances(truth)),
    )


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_results_are_read_as_they_are(made: tuple[Path, Path], tmp_path: Path) -> None:
    truth = made_truth(0)
    boxes = made_boxes(truth, 0)
    records = import_file(made[0], "a", labels=made[1], costs={"macs": 5.0})
    assert records.ids.to_pylist() == [str(100 + 3 * i) for i in range(12)]
    assert records.outputs == boxes
    assert records.label.box == truth.box
    assert (records.meta.task, records.meta.costs, records.meta.notes) == ("boxes", {"macs": 5.0}, ())
    assert records.meta.class_names is not None
    assert [n for n in records.meta.class_names if n != "N/A"] == [
        "class 1",
        "class 3",
        "class 7",
        "class 50",
        "class 90",
    ]
    run = Run(tmp_path / "run")
    run.write(records)
    again = run.read("a")
    assert again.outputs == records.outputs
    assert again.label.area == records.label.area
    assert again.label.crowd == records.label.crowd
    assert again.value == records.value
    pytest.importorskip("pycocotools")
    assert records.value == pytest.approx(oracle("pycocotools", truth, boxes).stats[0], abs=1e-9)


def test_images_are_in_the_order_of_their_ids_whatever_the_files_order(made: tuple[Path, Path], tmp_path: Path) -> None:
    found, truth = (json.loads(path.read_text()) for path in made)
    for part in ("images", "annotations", "categories"):
        truth[part] = truth[part][::-1]
    by_image = sorted(found, key=lambda row: -row["image_id"])
    turned = import_file(written(tmp_path / "b.json", by_image), "a", labels=written(tmp_path / "t.json", truth))
    assert turned.value == pytest.approx(import_file(made[0], "a", labels=made[1]).value, abs=1e-12)
    assert turned.ids.to_pylist() == sorted(turned.ids.to_pylist(), key=int)


def changed(rows: list[dict[str, Any]], at: int, **more: Any) -> list[dict[str, Any]]:
    return [{**row, **more} if i == at else row for i, row in enumerate(rows)]


ODD = {
    "NaN scores": (
        lambda rows: changed(rows, 3, score=float("nan")),
        "as the score or a place is no number: 1 box, of image",
    ),
    "infinite box": (lambda rows: changed(rows, 0, bbox=[0, 0, float("inf"), 2]), "of image 100 first"),
    "outside": (
        lambda rows: changed(rows, 0, bbox=[-50, -50, 20, 20]),
        "1 box reaches beyond its image; kept as they are",
    ),
    "beyond": (lambda rows: changed(rows, 0, bbox=[630, 0, 20, 20]), "1 box reaches beyond its image"),
    "corners": (
        lambda rows: [{**r, "bbox": [600, 400, 640, 480]} for r in rows],
        "reach beyond their image: are they corners x1, y1, x2, y2?",
    ),
    "negative size": (lambda rows: changed(rows, 1, bbox=[5, 5, -3, 2]), "1 box has a negative width or height"),
    "unknown category": (
        lambda rows: changed(rows, 2, category_id=12),
        "1 box is of a category that the instances lack (12)",
    ),
    "unknown image": (
        lambda rows: [*rows, {**rows[0], "image_id": 7}],
        "1 box is of an image that truth.json does not have (7)",
    ),
    "written twice": (lambda rows: rows * 2, "boxes repeat others of dets.json, score and all, of image 100 first"),
    "a box twice": (lambda rows: [*rows, rows[0]], "1 box repeats another of dets.json, score and all, of image 100"),
    "other scale": (lambda rows: [{**r, "score": 90 * r["score"]} for r in rows], "scores run from"),
    "few images": (lambda rows: rows[:3], "of 12 images without a box; are all results in dets.json?"),
    "no boxes": (lambda rows: [], "no boxes at all in dets.json, for 12 images"),
}


@pytest.mark.parametrize("what", ODD)
def test_what_is_odd_is_said(made: tuple[Path, Path], what: str) -> None:
    change, words = ODD[what]
    written(made[0], change(json.loads(made[0].read_text())))
    records = import_file(made[0], "a", labels=made[1])
    assert any(words in note for note in records.meta.notes), records.meta.notes
    assert all("\n" not in note for note in records.meta.notes)
    assert len(records) == 12
    assert records.value is not None


BAD = {
    "other data": (lambda rows: [{**r, "image_id": 1} for r in rows], "image ids (1) are none of truth.json (100, 103"),
    "no such classes": (lambda rows: [{**r, "category_id": 0} for r in rows], "none of its category ids (0)"),
    "no score": (lambda rows: [{k: v for k, v in r.items() if k != "score"} for r in rows], "row 0 is"),
    "three numbers": (lambda rows: changed(rows, 4, bbox=[1, 2, 3]), "row 4 is"),
    "texts": (lambda rows: changed(rows, 2, score="high"), "row 2 is"),
    "half a class": (lambda rows: changed(rows, 2, category_id=1.5), "row 2 is"),
    "no image": (lambda rows: changed(rows, 2, image_id=None), "row 2 is"),
    "an object": (lambda rows: {"annotations": []}, "holds instances: give them with --labels"),
    "a number": (lambda rows: 3, "no list of results"),
    "a list of numbers": (lambda rows: [1, 2], "row 0 is 1"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_refused_with_the_row(made: tuple[Path, Path], what: str) -> None:
    change, words = BAD[what]
    written(made[0], change(json.loads(made[0].read_text())))
    with pytest.raises(RecordsError) as error:
        import_file(made[0], "a", format="coco", labels=made[1])
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def with_annotation(truth: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**truth, "annotations": changed(truth["annotations"], 0, **more)}


ODD_TRUTHS = {
    "crowd of five": (lambda t: with_annotation(t, iscrowd=5), "1 annotation has an iscrowd other than 0 and 1 (5)"),
    "crowds of less": (
        lambda t: {**t, "annotations": [{**a, "iscrowd": -1} for a in t["annotations"]]},
        "annotations have an iscrowd other than 0 and 1 (-1): read as crowds",
    ),
    "half a crowd": (lambda t: with_annotation(t, iscrowd=0.5), "an iscrowd other than 0 and 1 (0.5)"),
    "a box twice": (
        lambda t: {**t, "annotations": [*t["annotations"], {**t["annotations"][0], "id": 9000}]},
        "1 annotation repeats another, box and category alike, of image",
    ),
    "all twice": (
        lambda t: {**t, "annotations": t["annotations"] * 2},
        "annotations repeat others, box and category alike, of image",
    ),
    "an id twice": (
        lambda t: with_annotation(t, id=2),
        "1 annotation id stands more than once (2): all are read, pycocotools reads the last one",
    ),
    "a category twice": (
        lambda t: {**t, "categories": [*t["categories"], t["categories"][0]]},
        "1 category stands more than once, id 1: read once",
    ),
    "turned": (lambda t: with_annotation(t, bbox=[50, 50, -9, 9]), "1 annotation has a negative width or height"),
    "negative area": (lambda t: with_annotation(t, area=-3), "1 annotation has no area of 0 or more"),
}


@pytest.mark.parametrize("what", ODD_TRUTHS)
def test_what_is_odd_about_the_truth_is_said(made: tuple[Path, Path], what: str) -> None:
    change, words = ODD_TRUTHS[what]
    written(made[1], change(json.loads(made[1].read_text())))
    notes = import_file(made[0], "a", labels=made[1]).meta.notes
    assert any(note.startswith("truth.json: ") and words in note for note in notes), notes


TRUTHS = {
    "no images": (lambda t: {**t, "images": []}, "without a list of images"),
    "images twice": (lambda t: {**t, "images": t["images"] * 2}, "stands more than once"),
    "categories of words": (lambda t: {**t, "categories": [{"name": "a"}]}, "a category without a whole number"),
    "annotations without boxes": (lambda t: {**t, "annotations": [{"image_id": 100, "category_id": 1}]}, "row 0 is"),
    "infinite": (
        lambda t: {**t, "annotations": [{"image_id": 100, "category_id": 1, "bbox": [0, 0, float("inf"), 1]}]},
        "is not finite",
    ),
    "one id of two categories": (
        lambda t: {**t, "categories": [*t["categories"], {"id": 3, "name": "dog"}]},
        "category id 3 is that of 'class 3' and 'dog'; give each category an id of its own",
    ),
    "a crowd of words": (
        lambda t: with_annotation(t, iscrowd="0"),
        'iscrowd of annotation 0 is "0"; expected a number',
    ),
    "an area of words": (lambda t: with_annotation(t, area="large"), 'area of annotation 0 is "large"'),
    "an area of lists": (lambda t: with_annotation(t, area=[3]), "area of annotation 0 is [3]"),
    "a width of words": (
        lambda t: {**t, "images": changed(t["images"], 0, width="wide")},
        "image 100 has width and height",
    ),
    "a list": (lambda t: [1], "without a list of images"),
}


@pytest.mark.parametrize("what", TRUTHS)
def test_instances_that_are_none_are_refused(made: tuple[Path, Path], what: str) -> None:
    change, words = TRUTHS[what]
    written(made[1], change(json.loads(made[1].read_text())))
    with pytest.raises(RecordsError, match=r"truth\.json") as error:
        import_file(made[0], "a", labels=made[1])
    assert words in str(error.value)


@pytest.mark.parametrize("cut", [1, 40, -1])
def test_a_file_that_was_cut_short_is_refused(made: tuple[Path, Path], cut: int) -> None:
    text = made[0].read_text()
    made[0].write_text(text[:cut])
    with pytest.raises(RecordsError, match=r"valid JSON|breaks off"):
        import_file(made[0], "a", format="coco", labels=made[1])


def test_without_labels_the_images_are_named_or_those_with_boxes(made: tuple[Path, Path], tmp_path: Path) -> None:
    rows = json.loads(made[0].read_text())
    with_boxes = {row["image_id"] for row in rows}
    alone = import_file(made[0], "a")
    assert len(alone) == len(with_boxes)
    assert not alone.has_labels
    assert "name all with --labels INSTANCES, or --images FILE" in alone.meta.notes[0]
    named = tmp_path / "ids.txt"
    named.write_text("".join(f"{i}\n" for i in [*sorted(with_boxes), 999]))
    records = import_file(made[0], "a", images=named)
    assert records.ids.to_pylist()[-1] == "999"
    assert records.meta.notes == ()
    named.write_text("1\nx\n")
    with pytest.raises(RecordsError, match="whole numbers as ids"):
        import_file(made[0], "a", images=named)
    with pytest.raises(UsageError, match="leave --images out"):
        import_file(made[0], "a", labels=made[1], images=named)


def test_images_alone_say_which_images_there_are(made: tuple[Path, Path]) -> None:
    truth = json.loads(made[1].read_text())
    written(made[1], {"images": truth["images"], "categories": truth["categories"]})
    records = import_file(made[0], "a", labels=made[1])
    assert not records.has_labels
    assert len(records) == 12
    assert "no annotations" in records.meta.notes[0]


def test_no_truth_at_all_is_a_metric_of_zero_and_none_of_an_image_is_fine(made: tuple[Path, Path]) -> None:
    truth = json.loads(made[1].read_text())
    written(made[1], {**truth, "annotations": []})
    records = import_file(made[0], "a", labels=made[1])
    assert records.has_labels
    assert records.value == 0


def test_a_pixel_is_an_image(tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 1, "width": 1, "height": 1}],
        "annotations": [{"image_id": 1, "category_id": 0, "bbox": [0, 0, 1, 1]}],
        "categories": [{"id": 0, "name": "dot"}],
    }
    found = [{"image_id": 1, "category_id": 0, "bbox": [0, 0, 1, 1], "score": 1}]
    records = import_file(written(tmp_path / "d.json", found), "a", labels=written(tmp_path / "t.json", truth))
    assert records.value == pytest.approx(1)
    assert records.meta.notes == ("t.json: 1 annotation has no area of 0 or more: that of the box is used",)


def test_two_detectors_are_aligned_and_other_truth_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    other = written(tmp_path / "b.json", results(made_boxes(made_truth(0), 5)))
    for name, path in (("a", made[0]), ("b", other)):
        run.write(import_file(path, name, labels=made[1]))
    table = read_table(run, ["a"], "b")
    assert (len(table), table.reference_kind, table.task.name) == (12, "label", "boxes")
    run.write(import_file(made[0], "a"))
    assert read_table(run, ["a"], "b").reference_kind == "label"
    run.write(import_file(other, "b"))
    assert read_table(run, ["a"], "b").reference_kind == "base"
    moved = json.loads(made[1].read_text())
    moved["annotations"][0]["bbox"][0] += 1
    run.write(import_file(made[0], "a", labels=made[1]))
    run.write(import_file(other, "b", labels=written(tmp_path / "t.json", moved)))
    with pytest.raises(PilotfishError, match=r"labels of a and b differ for 1 of 12"):
        read_table(run, ["a"], "b")


def test_many_boxes_are_read_block_by_block(made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = import_file(made[0], "a", labels=made[1])
    monkeypatch.setattr("pilotfish.reading.coco_json.BLOCK", 7)
    assert import_file(made[0], "a", labels=made[1]).outputs == whole.outputs


def test_other_files_are_no_boxes(made: tuple[Path, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", probs=np.eye(2))
    with pytest.raises(UsageError, match="--format coco"):
        import_file(tmp_path / "x.npz", "a", task="boxes")
    with pytest.raises(UsageError, match="--images names the images"):
        import_file(tmp_path / "x.npz", "a", images=made[1])
    with pytest.raises(UsageError, match="not of mask"):
        import_file(made[0], "a", task="mask", labels=made[1])
