"""A sample that breaks the model costs its own row; a batch that does not fit is cut; samples are hashed as read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import Dataset, content_hash, load_data
from pilotfish.errors import ModelError
from pilotfish.models import Model, Preprocessing
from pilotfish.models.names.python_model import AS_IT_IS, PythonBackend
from pilotfish.recording import RecordOptions, RecordResult, record_model
from pilotfish.records import Run, align
from pilotfish.records.parquet import read_records, write_records

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((4, 5)).astype(np.float32)
Arrays = Callable[..., Dataset]
MatrixModel = Callable[..., Model]


def numbered(n: int) -> np.ndarray:
    """Samples whose first number is their index."""
    x = np.random.default_rng(1).standard_normal((n, 4)).astype(np.float32)
    x[:, 0] = np.arange(n)
    return x


def model_that(answer: Callable[[np.ndarray], Any]) -> Model:
    return Model("odd", PythonBackend(answer, "odd"), AS_IT_IS, "w")


def recorded(data: Dataset, model: Model, folder: Path, batch_size: int = 8) -> RecordResult:
    return record_model(data, model, Run(folder), "m", RecordOptions(timing=False, batch_size=batch_size))


@pytest.mark.parametrize("bad", [{5}, {0, 39}, {8, 9, 10, 23}, set(range(16, 24))])
@pytest.mark.parametrize("batch_size", [1, 8, 64])
def test_samples_that_break_the_model_cost_their_rows_alone(
    bad: set[int], batch_size: int, arrays: Arrays, tmp_path: Path
) -> None:
    def answer(batch: np.ndarray) -> np.ndarray:
        if bad & set(batch[:, 0].astype(int).tolist()):
            raise ValueError("this one")
        return batch @ WEIGHTS

    x = numbered(40)
    result = recorded(arrays(x=x), model_that(answer), tmp_path / "run", batch_size)
    assert {int(f.id) for f in result.failures} == bad
    assert all("ValueError: this one" in f.reason for f in result.failures)
    records = Run(tmp_path / "run").read("m")
    good = [i for i in range(40) if i not in bad]
    assert records.ids.to_pylist() == [str(i) for i in good]
    assert records.outputs.prediction.tolist() == (x[good] @ WEIGHTS).argmax(1).tolist()
    assert records.content is not None
    assert records.content.to_pylist() == [content_hash(x[i]) for i in good]


def test_a_model_that_always_fails_is_at_fault_itself(arrays: Arrays, tmp_path: Path) -> None:
    def answer(batch: np.ndarray) -> np.ndarray:
        raise KeyError("weights")

    with pytest.raises(ModelError, match=r"odd failed on a batch of shape \(8, 4\): KeyError: 'weights'"):
        recorded(arrays(x=numbered(40)), model_that(answer), tmp_path / "run")
    assert not (tmp_path / "run" / "m.val.parquet").exists()


def test_a_model_that_ends_the_program_is_named(arrays: Arrays, tmp_path: Path) -> None:
    def answer(batch: np.ndarray) -> np.ndarray:
        raise SystemExit("no licence")

    with pytest.raises(ModelError, match=r"odd failed on a batch of shape .*: SystemExit: no licence"):
        recorded(arrays(x=numbered(40)), model_that(answer), tmp_path / "run")


def test_a_model_that_is_lost_on_the_way_stops_the_recording(arrays: Arrays, tmp_path: Path) -> None:
    def answer(batch: np.ndarray) -> np.ndarray:
        if batch[:, 0].max() >= 40:
            raise RuntimeError("the device is gone")
        return batch @ WEIGHTS

    with pytest.raises(ModelError, match="the device is gone"):
        recorded(arrays(x=numbered(400)), model_that(answer), tmp_path / "run")


@pytest.mark.parametrize(
    ("error", "most"), [(MemoryError("cannot allocate"), 5), (RuntimeError("CUDA out of memory"), 2), (ValueError(), 1)]
)
def test_a_batch_that_does_not_fit_is_cut_and_that_is_said(
    error: Exception, most: int, arrays: Arrays, tmp_path: Path
) -> None:
    sizes: list[int] = []

    def answer(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        if len(batch) > most:
            raise error
        return batch @ WEIGHTS

    x = numbered(80)
    result = recorded(arrays(x=x), model_that(answer), tmp_path / "run", batch_size=16)
    assert result.failures == ()
    assert Run(tmp_path / "run").read("m").outputs.prediction.tolist() == (x @ WEIGHTS).argmax(1).tolist()
    (note,) = result.notes
    limit = max(size for size in sizes if size <= most)
    assert note.startswith("calls with 16 samples fail (")
    assert note.endswith(f"recorded {limit} at a time")
    assert max(sizes[len(sizes) // 2 :]) <= most  # it is found out once
    assert len(note.splitlines()) == 1


def test_content_is_the_hash_of_the_file_as_it_lies_there(matrix_model: MatrixModel, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = RNG.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(pixels).save(folder / "b.bmp")
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes())
    chain = Preprocessing(size=(2, 2), resize=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = matrix_model(RNG.standard_normal((12, 3)).astype(np.float32), chain)
    recorded(load_data(f"folder:{folder}"), model, tmp_path / "run")
    records = Run(tmp_path / "run").read("m")
    assert records.content is not None
    a, b, c = records.content.to_pylist()
    assert a == c == hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()[:32]
    assert a != b  # the same pixels in another file


def test_content_tells_dtypes_shapes_and_values_apart() -> None:
    x = np.arange(6, dtype=np.float32)
    others = [x.astype(np.float64), x.reshape(2, 3), x.astype(">f4"), x + 1, np.array(7.0)]
    assert len({content_hash(x), *map(content_hash, others)}) == 6
    assert content_hash(np.arange(12, dtype=np.float32)[::2]) == content_hash(2 * x)
    picture = Image.fromarray(np.zeros((2, 3, 3), np.uint8))
    assert content_hash(picture) == content_hash(picture.copy())
    assert content_hash(picture) != content_hash(picture.resize((3, 3)))


def test_records_keep_content_and_groups_through_the_file(
    arrays: Arrays, matrix_model: MatrixModel, tmp_path: Path
) -> None:
    recorded(arrays(x=numbered(12)), matrix_model(WEIGHTS), tmp_path / "run")
    records = Run(tmp_path / "run").read("m")
    write_records(records, tmp_path / "copy.val.parquet")
    again = read_records(tmp_path / "copy.val.parquet")
    assert again.content is not None
    assert again.content.equals(records.content)
    some = records.take(np.array([3, 1]))
    assert some.content is not None
    assert some.content.to_pylist() == [records.content.to_pylist()[i] for i in (3, 1)]  # type: ignore[union-attr]
    assert len(align([], records)) == 12
