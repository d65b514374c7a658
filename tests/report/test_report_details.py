"""What a page says of boxes and masks: a value per class, further figures, curves, pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pilotfish.errors import UsageError
from pilotfish.records import Records, RecordsMeta, Run, Table
from pilotfish.records.records import string_ids
from pilotfish.report import write_report
from pilotfish.report.details import details_of
from pilotfish.report.details_plot import details_sections
from pilotfish.report.subject import Subject
from pilotfish.scores.ragged import Ragged
from pilotfish.tasks.box_matching import Boxes, TrueBoxes
from pilotfish.tasks.boxes import BOXES
from pilotfish.tasks.indexed_png import encode
from pilotfish.tasks.mask import MASK, count
from pilotfish.tasks.mask_answers import Masks, reduce_masks
from pilotfish.tasks.mean_precision import class_precisions, coco_table, precision_curves
from pilotfish.tasks.true_masks import TrueMask

N, CLASSES, SIDE = 40, 4, 12
NAMES = ("background", "cat", "dog <b>", "bird")


def objects(skill: float, seed: int = 0) -> tuple[Boxes, TrueBoxes]:
    """Boxes around most of what is there, and some that are around nothing."""
    rng, own = np.random.default_rng(0), np.random.default_rng(seed)
    counts = rng.integers(0, 4, N)
    m = int(counts.sum())
    box = np.concatenate([rng.uniform(0, 60, (m, 2)), rng.uniform(8, 50, (m, 2))], axis=1)
    label = rng.integers(1, CLASSES, m)
    truth = TrueBoxes.of(counts, box, label, rng.random(m) < 0.05, box[:, 2] * box[:, 3])
    found = box + own.normal(0, 6 * (1 - skill), box.shape)
    found[:, 2:] = np.maximum(found[:, 2:], 1)
    said = np.where(own.random(m) < skill, label, own.integers(1, CLASSES, m))
    lists = (found, own.random(m), said)
    return Boxes(*(Ragged.by_counts(values, counts) for values in lists)), truth


def masks(run: Run) -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, (N, SIDE, SIDE))  # nothing is a bird
    truth = np.empty(N, object)
    truth[:] = [TrueMask(encode(mask, CLASSES), str(i)) for i, mask in enumerate(true)]
    for name, noise, macs in (("small", 2.0, 1e6), ("big", 1.0, 1e7)):
        logits = 2.0 * (np.arange(CLASSES)[:, None, None] == true[:, None])
        logits[:, 3] = -50
        logits = logits + noise * rng.normal(size=logits.shape) * rng.uniform(0, 1, (N, 1, 1, 1))
        outputs, known = count(reduce_masks(logits.astype(np.float32), N, name, "auto"), truth)
        meta = RecordsMeta(name, "val", n_classes=CLASSES, class_names=NAMES, costs={"macs": macs}, task="mask")
        run.write(Records(string_ids(np.arange(N)), known, outputs, meta))


def images() -> SimpleNamespace:
    pictures = np.random.default_rng(1).integers(0, 255, (N, SIDE, SIDE, 3), np.uint8)
    ids = tuple(str(i) for i in range(N))
    return SimpleNamespace(spec="folder:x", ids=ids, read=lambda i: Image.fromarray(pictures[i]))


def table_of(one: Boxes, other: Boxes, truth: TrueBoxes) -> Table:
    ids = pa.array([str(i) for i in range(N)])
    return Table("big", "val", ids, truth, "label", {"small": one, "big": other}, {}, task=BOXES)


def test_classes_and_curves_add_up_to_coco_figures() -> None:
    boxes, truth = objects(0.7)
    table = coco_table(boxes, truth)
    assert np.nanmean(class_precisions(boxes, truth)) == pytest.approx(table["AP"], abs=1e-12)
    for name, (recall, precision) in precision_curves(boxes, truth).items():
        assert precision.mean() == pytest.approx(table[f"AP{name[-2:]}"], abs=1e-12)
        assert np.array_equal(recall, np.linspace(0, 1, 101))
        assert (np.diff(precision) <= 1e-12).all()


@pytest.mark.parametrize("number", [10**6, 7 * 10**9, -3])
def test_class_numbers_that_can_have_no_name_are_in_the_mean_alone(number: int) -> None:
    boxes, truth = objects(0.7)
    renumbered = np.array([0, 1, 2, number])
    lists = [Ragged(renumbered[one.label.values], one.label.offsets) for one in (boxes, truth)]
    odd, there = replace(boxes, label=lists[0]), replace(truth, label=lists[1])
    assert np.array_equal(class_precisions(odd, there), class_precisions(boxes, truth)[:3], equal_nan=True)
    assert coco_table(odd, there) == pytest.approx(coco_table(boxes, truth), nan_ok=True)
    every = replace(there, label=Ragged(np.full_like(lists[1].values, number), there.label.offsets))
    details = details_of(table_of(odd, odd, every), ("small", "big"), None)
    page = details_sections(
        Subject("big", ("small", "big"), "given", "val", N, "label", None, "", 0, None, details=details)
    )
    assert "As COCO prints it" in page
    assert "per class" not in page


@pytest.mark.parametrize("answered_by", [0, 1])
def test_a_cascade_of_one_stage_is_that_stage(answered_by: int) -> None:
    (one, truth), (other, _) = objects(0.4, 1), objects(0.9, 2)
    saver, base, cascade = details_of(table_of(one, other, truth), ("small", "big"), np.full(N, answered_by))
    same = (saver, base)[answered_by]
    assert [found.who for found in (saver, base, cascade)] == ["saver", "base", "cascade"]
    assert cascade.figures == pytest.approx(same.figures, nan_ok=True)
    assert np.array_equal(cascade.by_class, same.by_class, equal_nan=True)


@pytest.mark.parametrize("skill", [0.8, 0.0], ids=["boxes", "nothing right"])
def test_sections_of_boxes(skill: float) -> None:
    (one, truth), (other, _) = objects(skill, 1), objects(skill, 2)
    details = details_of(table_of(one, other, truth), ("small", "big"), np.arange(N) % 2)
    subject = Subject(
        "big", ("small", "big"), "given", "val", N, "label", None, "mean_score", 0.5, None,
        details=details, by_class="AP", class_names=NAMES,
    )  # fmt: skip
    page = details_sections(subject)
    for said in ("Precision and recall", "As COCO prints it", "AP per class", "AR 100", "dog &lt;b&gt;"):
        assert said in page
    assert "nan" not in page.lower().replace("dominant", "")


def test_a_page_of_masks_has_classes_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("supervision", reason="supervision is not installed")
    run = Run(tmp_path / "run")
    masks(run)
    said: list[str] = []
    page = write_report(tmp_path / "page.html", run=run, base="big", data=images(), tell=said.append).read_text()
    assert "IoU per class" in page
    assert page.count("data:image/jpeg;base64,") == 12
    assert "Of 3 classes" in page
    assert "mIoU against" in page
    assert "MIoU" not in page
    assert "mIoU is no mean over inputs: the mean quality of single answers stands for it here" in page
    assert "mIoU on the exited" not in page
    again = write_report(tmp_path / "again.html", run=run, base="big", data=images()).read_text()
    assert page == again


@pytest.mark.parametrize("scored", [("small",), ("big",), ("small", "big")])
def test_counts_of_which_some_have_a_score_make_a_page(scored: tuple[str, ...], tmp_path: Path) -> None:
    rng, run = np.random.default_rng(0), Run(tmp_path / "run")
    for name, macs in (("small", 1e6), ("big", 1e7)):
        union = rng.integers(50, 100, (N, 3))
        outputs = Masks(union // 2, union, score=rng.random(N) if name in scored else None)
        meta = RecordsMeta(name, "val", n_classes=3, costs={"macs": macs}, task="mask")
        run.write(Records(string_ids(np.arange(N)), np.ones(N, np.int8), outputs, meta))
    page = write_report(tmp_path / "page.html", run=run, base="big").read_text()
    assert "IoU per class" in page


def test_images_that_are_not_the_records_are_said(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    masks(run)
    strangers, said = images(), []
    strangers.ids = tuple(f"x{i}" for i in range(N))
    page = write_report(tmp_path / "page.html", run=run, base="big", data=strangers, tell=said.append).read_text()
    assert "no images are drawn: folder:x has none of the ids" in "\n".join(said)
    assert "data:image/jpeg" not in page
    assert MASK.by_class is not None


@pytest.mark.parametrize("sample", [np.zeros((5, 7)), np.zeros((3, 9, 9), np.uint8)], ids=["numbers", "channels first"])
def test_samples_that_are_no_images_leave_the_page_without_them(sample: np.ndarray, tmp_path: Path) -> None:
    run, said = Run(tmp_path / "run"), []
    masks(run)
    data = images()
    data.read = lambda i: sample
    page = write_report(tmp_path / "page.html", run=run, base="big", data=data, tell=said.append).read_text()
    assert "no images are drawn: answers are drawn on images" in "\n".join(said)
    assert "data:image/jpeg" not in page


def test_images_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give the run"):
        write_report(tmp_path / "page.html", data=images())
