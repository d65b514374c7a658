"""``record --group-by``: groups by id, by a column of the labels, of records that are there already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import Dataset, load_data
from pilotfish.errors import RecordsError, UsageError
from pilotfish.models import Model, Preprocessing
from pilotfish.recording import RecordOptions, RecordResult
from pilotfish.recording.record import record_model
from pilotfish.records import Run, read_table

MatrixModel = Callable[..., Model]
N = 12
IDS = [f"clip{i // 4}_{i}" for i in range(N)]
CLIPS = [one.partition("_")[0] for one in IDS]
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)


def recorded(data: Dataset, model: Model, folder: Path, group_by: str | None) -> RecordResult:
    options = RecordOptions(timing=False, batch_size=5, workers=1, group_by=group_by)
    return record_model(data, model, Run(folder), "m", options)


@pytest.mark.parametrize("group_by", [r"^(clip\d+)", "clip", "file"])
def test_groups_are_kept_with_the_records(
    group_by: str, arrays: Callable[..., Dataset], matrix_model: MatrixModel, tmp_path: Path
) -> None:
    if group_by == "file":
        group_by = str(tmp_path / "groups.csv")
        Path(group_by).write_text("id,group\n" + "".join(f"{i},{c}\n" for i, c in zip(IDS, CLIPS, strict=True)))
    data = arrays(x=X, id=np.array(IDS), label=np.zeros(N, int), clip=np.array(CLIPS))
    recorded(data, matrix_model(WEIGHTS), tmp_path / "run", group_by)
    group = Run(tmp_path / "run").read("m").group
    assert group is not None
    assert group.to_pylist() == CLIPS
    unread = [note for note in Run(tmp_path / "run").read("m").meta.notes if "not read: clip" in note]
    assert len(unread) == (group_by != "clip")  # a column that names the groups was read


def test_records_that_are_there_take_groups_and_lose_them(
    arrays: Callable[..., Dataset], matrix_model: MatrixModel, tmp_path: Path
) -> None:
    data, run = arrays(x=X, id=np.array(IDS), label=np.zeros(N, int)), Run(tmp_path / "run")
    before = recorded(data, matrix_model(WEIGHTS), run.path, None)
    assert run.read("m").group is None
    after = recorded(data, matrix_model(WEIGHTS), run.path, r"^(clip\d+)")
    assert (before.skipped, after.skipped) == (False, True)
    assert run.read("m").group.to_pylist() == CLIPS
    recorded(data, matrix_model(WEIGHTS), run.path, None)  # says nothing of groups: they stay
    assert run.read("m").group.to_pylist() == CLIPS
    recorded(data, matrix_model(WEIGHTS), run.path, "none")
    assert run.read("m").group is None


@pytest.mark.parametrize("before", ["none", None, r"^(clip\d+)"])
def test_that_there_are_no_groups_is_remembered(
    before: str | None, arrays: Callable[..., Dataset], matrix_model: MatrixModel, tmp_path: Path
) -> None:
    content = np.concatenate([X[:10], X[:2]])  # two samples stand there twice
    data, run = arrays(x=content, id=np.array(IDS), label=np.zeros(N, int)), Run(tmp_path / "run")
    recorded(data, matrix_model(WEIGHTS), run.path, before)
    recorded(data, matrix_model(WEIGHTS), run.path, "none")
    table = read_table(run, [], "m")
    assert (len(table), table.groups, table.grouping) == (N, None, ())
    recorded(data, matrix_model(WEIGHTS), run.path, r"^(clip\d+)")
    assert read_table(run, [], "m").groups is not None


def test_a_column_of_labels_csv_and_copies_of_a_file(matrix_model: MatrixModel, tmp_path: Path) -> None:
    folder, rows = tmp_path / "photos", ["file,label,product"]
    folder.mkdir()
    for i in range(9):
        pixels = np.full((2, 2, 3), 20 * (i // 3 * 3 + min(i % 3, 1)), np.uint8)  # the last two of a product are copies
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{i % 2 if i == 8 else 0},p{i // 3}")
    (folder / "labels.csv").write_text("\n".join(rows))
    model = matrix_model(
        np.ones((12, 2), np.float32), Preprocessing(size=(2, 2), resize=2, mean=(0.5,) * 3, std=(0.5,) * 3)
    )
    data = load_data(f"folder:{folder}")
    made = recorded(data, model, tmp_path / "run", "product")
    assert not any("not read: product" in note for note in made.notes)
    table = read_table(Run(tmp_path / "run"), [], "m")
    assert table.groups is not None
    assert table.ids.to_pylist() == [f"{i}.png" for i in (0, 1, 3, 4, 6, 7)]
    assert table.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert any("3 of 9 samples are exact copies of others (2.png is 1.png)" in note for note in table.notes)
    (tmp_path / "other.csv").write_text("id,group\nx,1\n")
    with pytest.raises(RecordsError, match="no group for 9 of 9 samples"):
        recorded(data, model, tmp_path / "other", str(tmp_path / "other.csv"))


def test_what_groups_nothing_is_refused_before_anything_is_recorded(
    arrays: Callable[..., Dataset], matrix_model: MatrixModel, tmp_path: Path
) -> None:
    data = arrays(x=X, id=np.array(IDS), label=np.zeros(N, int))
    for bad in ("(horse)", "clip", "(clip"):
        with pytest.raises(UsageError, match="--group-by"):
            recorded(data, matrix_model(WEIGHTS), tmp_path / "run", bad)
    assert not list((tmp_path).glob("run/*.parquet"))
