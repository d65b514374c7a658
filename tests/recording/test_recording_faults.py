"""What recording survives: bad samples, bad outputs, other records in the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotfish.data import Dataset, load_data
from pilotfish.errors import DataError, ModelError, PilotfishError, RecordsError
from pilotfish.models import Model, Preprocessing
from pilotfish.models.names.python_model import AS_IT_IS, PythonBackend
from pilotfish.recording import RecordOptions, RecordResult, record_model
from pilotfish.records import Run

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 4)).astype(np.float32)
WEIGHTS = RNG.standard_normal((4, 5)).astype(np.float32)
CHAIN = Preprocessing(size=(2, 2), resize=None, mean=(0.0,) * 3, std=(1.0,) * 3)
Arrays = Callable[..., Dataset]
MatrixModel = Callable[..., Model]


def recorded(data: Dataset, model: Model, folder: Path, **options: Any) -> RecordResult:
    return record_model(data, model, Run(folder), "m", RecordOptions(timing=False, batch_size=4, **options))


def saying(answer: Callable[[np.ndarray], Any]) -> Model:
    return Model("odd", PythonBackend(answer, "odd"), AS_IT_IS, "w")


def photos(folder: Path, bad: dict[str, bytes | None], good: int = 6) -> Dataset:
    """Images listed in a labels.csv; a *bad* one has other bytes, or None for no file at all."""
    folder.mkdir()
    names = [f"{i}.png" for i in range(good)] + list(bad)
    for name in names[:good]:
        Image.fromarray(RNG.integers(0, 256, (5, 5, 3), dtype=np.uint8)).save(folder / name)
    for name, content in bad.items():
        if content is not None:
            (folder / name).write_bytes(content)
    rows = "".join(f"{name},{i % 3}\n" for i, name in enumerate(sorted(names)))
    (folder / "labels.csv").write_text("file,label\n" + rows)
    return load_data(f"folder:{folder}")


def test_a_bad_image_costs_its_own_row(matrix_model: MatrixModel, tmp_path: Path) -> None:
    data = photos(tmp_path / "p", {"2bad.png": b"garbage", "3gone.png": None, "9empty.png": b""})
    model = matrix_model(RNG.standard_normal((12, 3)).astype(np.float32), CHAIN)
    result = recorded(data, model, tmp_path / "run")
    records = Run(tmp_path / "run").read("m")
    assert result.n == len(records) == 6
    assert records.ids.to_pylist() == [f"{i}.png" for i in range(6)]
    reasons = {f.id: f.reason for f in result.failures}
    assert list(reasons) == ["2bad.png", "3gone.png", "9empty.png"]
    assert "is not an image of an allowed format" in reasons["2bad.png"]
    assert "there is no such file" in reasons["3gone.png"]
    assert "it is empty" in reasons["9empty.png"]
    by_id = dict(zip(data.ids, data.labels, strict=True))
    assert records.label.tolist() == [by_id[name] for name in records.ids.to_pylist()]


def test_nothing_but_bad_images_is_an_error(matrix_model: MatrixModel, tmp_path: Path) -> None:
    data = photos(tmp_path / "p", {"a.png": b"garbage", "b.png": None}, good=0)
    with pytest.raises(PilotfishError, match=r"none of the 2 samples of .* could be read: a\.png: .*a\.png cannot be"):
        recorded(data, matrix_model(np.ones((12, 3), np.float32), CHAIN), tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.parquet"))


def test_outputs_that_are_not_finite_cost_their_rows(arrays: Arrays, tmp_path: Path) -> None:
    def logits(batch: np.ndarray) -> np.ndarray:
        found = batch @ WEIGHTS
        found[batch[:, 0] == 100, 2] = np.nan
        found[batch[:, 0] == 101] = np.inf
        return found

    x = X.copy()
    x[[3, 8, 9, 10, 11], 0] = [100, 100, 101, 100, 101]  # 8 to 11 are a whole batch
    result = recorded(arrays(x=x), saying(logits), tmp_path / "run")
    assert [f.id for f in result.failures] == ["3", "8", "9", "10", "11"]
    assert {f.reason for f in result.failures} == {"the model's outputs are not finite"}
    assert result.n == len(Run(tmp_path / "run").read("m")) == 15


def test_samples_that_are_not_finite_cost_their_rows(arrays: Arrays, matrix_model: MatrixModel, tmp_path: Path) -> None:
    x = X.copy()
    x[5, 1] = np.nan
    result = recorded(arrays(x=x), matrix_model(WEIGHTS), tmp_path / "run")
    assert [(f.id, "NaN" in f.reason) for f in result.failures] == [("5", True)]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (lambda b: (b @ WEIGHTS)[:-1], "found float32 (3, 5)"),
        (lambda b: np.concatenate([b @ WEIGHTS] * 2), "found float32 (8, 5)"),
        (lambda b: (b @ WEIGHTS)[0], "found float32 (5,)"),
        (lambda b: (b @ WEIGHTS)[:, :1], "found float32 (4, 1)"),
        (lambda b: (b @ WEIGHTS).argmax(1), "found int64 (4,)"),
        (lambda b: (b @ WEIGHTS).round().astype(int), "found int64 (4, 5)"),
        (lambda b: ["cat"] * len(b), "(4,)"),
        (lambda b: None, "found object ()"),
    ],
    ids=["n-1 rows", "2n rows", "one row", "one class", "classes", "integers", "names", "nothing"],
)
def test_a_model_that_returns_something_else_is_told_what_was_expected(
    answer: Callable[[np.ndarray], Any], found: str, arrays: Arrays, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        recorded(arrays(x=X), saying(answer), tmp_path / "run")
    said = str(caught.value)
    assert said.startswith("odd: expected floating-point logits of shape (4, C) with C >= 2 for a batch of 4, found ")
    assert found in said
    assert "\n" not in said


def test_an_error_in_the_model_s_code_names_the_model(arrays: Arrays, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"odd failed on a batch of shape \(4, 4\): KeyError: 'weights'"):
        recorded(arrays(x=X), saying(lambda b: {}["weights"]), tmp_path / "run")


def of_sizes(folder: Path, sides: list[int]) -> Dataset:
    """Square images of such sides, whose first pixel says which it is."""
    folder.mkdir()
    for i, side in enumerate(sides):
        pixels = np.zeros((side, side, 3), np.uint8)
        pixels[0, 0, 0] = i
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return load_data(f"folder:{folder}")


def test_images_of_several_sizes_are_computed_by_size_and_recorded_in_order(tmp_path: Path) -> None:
    data, calls = of_sizes(tmp_path / "p", [3, 4, 3, 5, 4, 3, 3]), list[tuple[int, ...]]()

    def says(batch: np.ndarray) -> np.ndarray:
        calls.append(batch.shape)
        return np.eye(8, dtype=np.float32)[np.rint(255 * batch[:, 0, 0, 0]).astype(int)]

    model = Model("sizes", PythonBackend(says, "sizes"), dataclasses.replace(CHAIN, size=None), "w")
    recorded(data, model, tmp_path / "run")
    records = Run(tmp_path / "run").read("m")
    assert records.ids.to_pylist() == [f"{i}.png" for i in range(7)]
    assert records.outputs.prediction.tolist() == list(range(7))
    assert set(calls) >= {(2, 3, 3, 3), (1, 3, 4, 4), (1, 3, 5, 5), (2, 3, 3, 3)}


def test_an_image_of_a_size_that_the_model_does_not_take_fails_alone(tmp_path: Path) -> None:
    data = of_sizes(tmp_path / "p", [3, 3, 9, 3, 3, 3])

    def says(batch: np.ndarray) -> np.ndarray:
        if batch.shape[-1] == 9:
            raise ValueError("too large")
        return np.eye(4, dtype=np.float32)[np.zeros(len(batch), int)]

    model = Model("sizes", PythonBackend(says, "sizes"), dataclasses.replace(CHAIN, size=None), "w")
    result = recorded(data, model, tmp_path / "run")
    assert (result.n, [f.id for f in result.failures]) == (5, ["2.png"])
    assert "too large" in result.failures[0].reason


def test_the_same_records_are_left_alone(arrays: Arrays, matrix_model: MatrixModel, tmp_path: Path) -> None:
    data = arrays(x=X)
    first = recorded(data, matrix_model(WEIGHTS), tmp_path / "run")
    written = first.path.stat().st_mtime_ns
    again = recorded(data, saying(lambda b: 1 / 0), tmp_path / "run")  # same identity: the model never runs
    assert (again.skipped, again.n, again.started, again.rate) == (True, 20, 20, None)
    assert first.path.stat().st_mtime_ns == written


@pytest.mark.parametrize("what", ["weights", "preprocessing", "data", "augment", "store"])
def test_other_records_in_the_way_are_refused_or_replaced(
    what: str, arrays: Arrays, matrix_model: MatrixModel, tmp_path: Path
) -> None:
    pixels = RNG.integers(0, 256, (20, 2, 2, 3), dtype=np.uint8)
    weights = RNG.standard_normal((12, 5)).astype(np.float32)
    data, model = arrays(x=pixels), matrix_model(weights, CHAIN)
    recorded(data, model, tmp_path / "run")
    options: dict[str, Any] = {"augment": {"augment": 1}, "store": {"store": "top2"}}.get(what, {})
    if what == "weights":
        model = matrix_model(2 * weights, CHAIN, weights_hash="other")
    if what == "preprocessing":
        model = matrix_model(weights, dataclasses.replace(CHAIN, mean=(0.5,) * 3))
    if what == "data":
        data = arrays("other.npz", x=pixels[::-1])
    with pytest.raises(RecordsError, match=f"holds records of other {what}; replace them with --overwrite"):
        recorded(data, model, tmp_path / "run", **options)
    before = Run(tmp_path / "run").read("m").outputs.log_odds
    result = recorded(data, model, tmp_path / "run", overwrite=True, **options)
    assert not result.skipped
    after = Run(tmp_path / "run").read("m").outputs.log_odds
    assert (what == "store") == np.array_equal(before, after)


def test_labels_that_do_not_fit_stop_before_anything_is_written(
    arrays: Arrays, matrix_model: MatrixModel, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="has label 9, but matrix has 5 classes"):
        recorded(arrays(x=X, label=np.full(20, 9)), matrix_model(WEIGHTS, n_classes=5), tmp_path / "run")
    assert not (tmp_path / "run").exists()
