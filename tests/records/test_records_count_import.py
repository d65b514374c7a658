"""Counts of segmentation made elsewhere: read as they are, or refused with row and class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotfish.errors import AlignmentError, PilotfishError
from pilotfish.records import import_file, open_run
from pilotfish.records.align import align
from pilotfish.records.run import Run
from support.process import command

N, C = 60, 4


def counts(seed: int = 0, worse: int = 0) -> dict[str, Any]:
    """Made counts of images of 1,000 pixels; *worse* pixels of each are wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.multinomial(1000, [0.7, 0.1, 0.1, 0.1], N)
    wrong = np.minimum(rng.poisson(worse, (N, C)), truth)
    moved = np.roll(wrong, 1, axis=1)
    return {"intersection": truth - wrong, "union": truth + moved, "score": -wrong.sum(axis=1).astype(float)}


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_counts_are_of_task_mask(tmp_path: Path) -> None:
    made = counts(worse=20)
    found = import_file(saved(tmp_path / "a.npz", **made, classes=["road", "car", "man", "sky"]), "a")
    assert found.task.name == "mask"
    assert found.meta.class_names == ("road", "car", "man", "sky")
    assert found.has_labels
    sums = [made[name].sum(axis=0) for name in ("intersection", "union")]
    assert found.value == pytest.approx(np.mean(sums[0] / sums[1]))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"intersection": np.full((N, C), 2000)}, "intersection larger than its union for class 0"),
        ({"intersection": np.full((N, C), -1)}, "row 0 has a negative intersection"),
        ({"union": np.full((N, C), np.nan)}, "union of row 0, class 0 is nan"),
        ({"union": np.full((N, C), 0.5)}, "pixels are whole numbers"),
        ({"union": np.full((N, C), 1e300)}, "pixels are whole numbers"),
        ({"union": np.zeros((N, C + 1), int)}, r"intersection is \(60, 4\) and union \(60, 5\)"),
        ({"union": np.zeros(N, int)}, r"expected intersection and union \(N, C\)"),
        ({"score": np.zeros(N + 1)}, "expected 60 numbers"),
        ({"score": np.full(N, np.nan)}, "the score of row 0 is NaN"),
        ({"classes": ["a", "b"]}, "2 names in 'classes' and counts of 4 classes"),
    ],
)
def test_what_cannot_be_counts_is_refused(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(PilotfishError, match=words):
        import_file(saved(tmp_path / "a.npz", **{**counts(), **changed}), "a", task="mask")


def test_one_array_of_two_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(PilotfishError, match="no 'union' among"):
        import_file(saved(tmp_path / "a.npz", intersection=counts()["intersection"]), "a", task="mask")


def test_other_classes_do_not_belong_together(tmp_path: Path) -> None:
    a = import_file(saved(tmp_path / "a.npz", **counts()), "a")
    b = import_file(saved(tmp_path / "b.npz", **{k: v[:, :3] if v.ndim == 2 else v for k, v in counts().items()}), "b")
    with pytest.raises(AlignmentError, match="a has 4 classes and b has 3"):
        align([a], b)


def test_images_of_which_nothing_counts_are_left_out(tmp_path: Path) -> None:
    made = counts()
    made["intersection"][3] = made["union"][3] = 0
    table = align([], import_file(saved(tmp_path / "a.npz", **made), "a"))
    assert len(table) == N - 1
    assert "1 sample without a label was left out" in table.notes


def test_from_counts_to_a_cascade(tmp_path: Path) -> None:
    saved(tmp_path / "s.npz", **counts(0, 30))
    saved(tmp_path / "b.npz", **{k: v for k, v in counts(0, 5).items() if k != "score"})
    for name in "sb":
        done = command(tmp_path, "import", f"{name}.npz", "--run", "run", "--model", name, "--macs", "1")
        assert done.returncode == 0, done.stderr
    assert "the model can be a base, not a saver" in done.stderr
    run = tmp_path / "run"
    done = command(tmp_path, "tune", run, "--stages", "s,b", "--max-drop", "2%", "--json")
    assert done.returncode == 0, done.stderr
    assert "mIoU" in done.stderr
    done = command(tmp_path, "tune", run, "--stages", "s,b", "--score", "slic", "--max-drop", "2%")
    assert done.returncode == 1
    assert "no score slic (they have score); record with --store full" in done.stderr
    assert isinstance(open_run(run), Run)
    done = command(tmp_path, "inspect", run)
    assert "grid, score" in done.stdout
